"""Offline: recorded pairs read line by line, one of each cluster kept, and added up by task type.

A line is a JSON object, `{"task_type", "cluster", "cheap": {"quality", "cost_usd"}, "frontier": {…}}`; other fields are
ignored. Pairs of one cluster resemble each other and are not independent evidence, so the first of each counts, for
its task type, and the others are left out. The first is known when it comes, whatever follows: a file may therefore
grow, and be looked at as often as one likes.

What is kept does not grow with the pairs: sums by task type, and the clusters seen as hashes in a temporary database
that goes to disk where it is large.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

import msgspec

from tierwise.audit.recorded import MICROS, Compared, Recorded
from tierwise.errors import MalformedPair
from tierwise.money import NANOS_PER_USD, Nanos

MOST_TYPES: Final = 10_000
"""More task types than this are no task types."""

MOST_USD: Final = 1e6
"""More than this is no cost of one task."""

TOLD: Final = 20
"""Lines that cannot be used and are kept to be told; the others are only counted."""


@dataclass(slots=True, kw_only=True)
class Gathered:
    """What a file holds."""

    types: dict[str, Recorded] = field(default_factory=dict[str, Recorded])
    lines: int = 0
    """Those that are not empty."""
    alone: int = 0
    """Pairs that name no cluster, and are taken as one each."""
    bad: int = 0
    """Lines that cannot be used."""
    nowhere: int = 0
    """Those of them whose task type cannot be read, so that they are in no type; the others count as undecided."""
    problems: list[MalformedPair] = field(default_factory=list[MalformedPair])
    """The first of them."""


def gather(lines: Iterable[bytes], *, file: str, keep_going: bool = False) -> Gathered:
    """Read all lines.

    Args:
        lines: of the file.
        file: its name, for errors.
        keep_going: take a line that cannot be used as a pair that nobody can judge, in its task type, and go on.

    Raises:
        MalformedPair: a line cannot be used, unless `keep_going`.
    """
    found = Gathered()
    with closing(_Clusters()) as clusters:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            found.lines += 1
            try:
                pair = _read(line)
            except _UnusableError as error:
                problem = MalformedPair(file=file, line=number, why=error.why, fix=error.fix)
                if not keep_going:
                    raise problem from error
                _note(found, clusters, line, problem)
            else:
                _count(found, clusters, pair, file=file, number=number)
    return found


class _Side(msgspec.Struct):
    quality: float | bool | None = None
    cost_usd: float | None = None


class _Pair(msgspec.Struct):
    task_type: str
    cheap: _Side | None
    frontier: _Side | None
    cluster: str | int | float | None = None


class _Named(msgspec.Struct):
    """All that is still needed of a line that cannot be used."""

    task_type: str
    cluster: msgspec.Raw = msgspec.Raw(b"null")


class _UnusableError(Exception):
    def __init__(self, why: str, fix: str) -> None:
        super().__init__(why)
        self.why, self.fix = why, fix


_decode: Final = msgspec.json.Decoder(_Pair).decode
_decode_name: Final = msgspec.json.Decoder(_Named).decode

_SHAPE: Final = (
    'a line is {"task_type": …, "cluster": …, "cheap": {"quality": 0 to 1, "cost_usd": …}, '
    '"frontier": {"quality": 0 to 1, "cost_usd": …}}'
)


def _read(line: bytes) -> _Pair:
    try:
        pair = _decode(line)
    except msgspec.ValidationError as error:
        raise _UnusableError(str(error), _SHAPE) from error
    except msgspec.DecodeError as error:
        raise _UnusableError(f"is no JSON object: {error}", f"one object a line: {_SHAPE}") from error
    if not pair.task_type:
        raise _UnusableError("task_type is empty", "name the kind of task")
    for name, side in (("cheap", pair.cheap), ("frontier", pair.frontier)):
        _check(name, side or _Side())
    return pair


def _check(name: str, side: _Side) -> None:
    if side.quality is not None and not 0 <= side.quality <= 1:
        raise _UnusableError(
            f"{name}.quality is {side.quality}",
            "scale it to 0 to 1, by the same rule for both tiers; null where nobody can say",
        )
    if side.cost_usd is not None and not 0 <= side.cost_usd <= MOST_USD:
        raise _UnusableError(
            f"{name}.cost_usd is {side.cost_usd}",
            f"a cost is in dollars, from 0 to {MOST_USD:,.0f}; null where it is unknown",
        )


class _Clusters:
    """The clusters seen, each with its task type, in a database that SQLite keeps in memory while it is small."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(
            "PRAGMA journal_mode = off; CREATE TABLE seen (hash INTEGER PRIMARY KEY)"
        )
        self._insert = self._database.cursor()

    def is_new(self, task_type: str, cluster: str) -> bool:
        text = f"{len(task_type)}:{task_type}{cluster}".encode(errors="surrogatepass")
        hashed = int.from_bytes(blake2b(text, digest_size=8).digest(), signed=True)
        return self._insert.execute("INSERT OR IGNORE INTO seen VALUES (?)", (hashed,)).rowcount == 1

    def close(self) -> None:
        self._database.close()


def _count(found: Gathered, clusters: _Clusters, pair: _Pair, *, file: str, number: int) -> None:
    recorded = _type(found, pair.task_type, file=file, number=number)
    if pair.cluster is None:
        found.alone += 1
    elif not clusters.is_new(pair.task_type, msgspec.json.encode(pair.cluster).decode()):
        recorded.left_out += 1
        return
    recorded.add(_compared(pair.cheap or _Side(), pair.frontier or _Side()))


def _note(found: Gathered, clusters: _Clusters, line: bytes, problem: MalformedPair) -> None:
    """Take an unusable line as a pair that nobody can judge, where its task type can be read."""
    found.bad += 1
    if len(found.problems) < TOLD:
        found.problems.append(problem)
    try:
        named = _decode_name(line)
    except msgspec.DecodeError:
        found.nowhere += 1
        return
    if not named.task_type:
        found.nowhere += 1
        return
    cluster = bytes(named.cluster).decode(errors="replace")
    known = None if cluster == "null" else cluster
    recorded = _type(found, named.task_type, file=problem.file, number=problem.line)
    if known is not None and not clusters.is_new(named.task_type, known):
        recorded.left_out += 1
        return
    found.alone += known is None
    recorded.add(_compared(_Side(), _Side()))


def _type(found: Gathered, name: str, *, file: str, number: int) -> Recorded:
    recorded = found.types.get(name)
    if recorded is None:
        if len(found.types) == MOST_TYPES:
            raise MalformedPair(
                file=file,
                line=number,
                why=f"begins task type number {MOST_TYPES + 1:,}",
                fix="task_type is the kind of task, which many tasks share; their own names belong in cluster",
            )
        recorded = found.types[name] = Recorded()
    return recorded


def _compared(cheap: _Side, frontier: _Side) -> Compared:
    (cheap_low, cheap_high), (dear_low, dear_high) = _bounds(cheap.quality), _bounds(frontier.quality)
    return Compared(
        low_micros=cheap_low - dear_high,
        high_micros=cheap_high - dear_low,
        dear_nanos=_nanos(frontier.cost_usd),
        cheap_nanos=_nanos(cheap.cost_usd),
    )


def _bounds(quality: float | None) -> tuple[int, int]:
    if quality is None:
        return 0, MICROS
    micros = round(quality * MICROS)
    return micros, micros


def _nanos(cost_usd: float | None) -> Nanos | None:
    return None if cost_usd is None else round(cost_usd * NANOS_PER_USD)
