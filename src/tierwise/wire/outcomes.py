"""Outcomes: what an orchestrator tells of its tasks and runs, from JSON to entries.

One is an object: `run_id`, `task_id` or both say what it is about, `success` or `quality` how it came out, and `id`
names it, so that it may be told again. Several are a list.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, cast

import msgspec

from tierwise.core.ledger import Outcome
from tierwise.core.tasks import LONGEST_ID
from tierwise.errors import MalformedOutcome

MOST: Final = 1000
"""Outcomes that are told at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One outcome as it was told, checked."""

    run_id: str | None
    task_id: str | None
    quality: float
    id: str | None


def read_outcomes(raw: bytes) -> tuple[Told, ...]:
    """Read one outcome or a list of them.

    Raises:
        MalformedOutcome: one of them cannot be read; then none is.
    """
    try:
        read: Any = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedOutcome(why=f"The body is not JSON: {error}") from error
    if not isinstance(read, list):
        return (_read(read, ""),)
    many = cast("list[Any]", read)
    if len(many) > MOST:
        raise MalformedOutcome(why=f"There are {len(many)} outcomes: send at most {MOST} at once.")
    return tuple(_read(one, f"Outcome {number}: ") for number, one in enumerate(many, start=1))


def told(
    *,
    success: object = None,
    quality: object = None,
    run_id: object = None,
    task_id: object = None,
    id: object = None,  # noqa: A002 — the word of the wire
) -> Told:
    """Check one outcome. Ids are cut where those of calls are.

    Raises:
        MalformedOutcome: it says neither what it is about nor how that came out, or says it twice.
    """
    names = {"run_id": run_id, "task_id": task_id, "id": id}
    for name, value in names.items():
        if value is not None and (not isinstance(value, str) or not value):
            raise MalformedOutcome(why=f"`{name}` is to be a text that is not empty.")
    if run_id is None and task_id is None:
        raise MalformedOutcome(why="Say what it is about: `run_id`, `task_id` or both.")
    run, task, own = (cast("str | None", value) for value in names.values())
    return Told(
        run_id=run and run[:LONGEST_ID],
        task_id=task and task[:LONGEST_ID],
        quality=_quality(success, quality),
        id=own,
    )


def outcome_entry(
    told: Told, *, teller: str, only_own: bool, at_us: int, new_id: Callable[[], str]
) -> Outcome:
    """Make the entry of an outcome.

    Args:
        told: the outcome.
        teller: names the credential that tells it, without telling that; ids of different ones do not meet.
        only_own: whether it may be about the teller's own calls alone.
        at_us: now, in microseconds since 1970 UTC.
        new_id: makes an id where it has none.
    """
    own = new_id() if told.id is None else _digest(teller, told.id)
    return Outcome(
        outcome_id=f"outcome-{own}",
        at_us=at_us,
        run_id=told.run_id,
        task_id=told.task_id,
        quality=told.quality,
        key_id=teller if only_own else None,
    )


_KEYS: Final = ("success", "quality", "run_id", "task_id", "id")


def _read(value: Any, place: str) -> Told:
    if not isinstance(value, dict):
        raise MalformedOutcome(why=f"{place}An outcome is an object, or there is a list of them.")
    fields = cast("dict[str, Any]", value)
    for name in fields:
        if name not in _KEYS:
            raise MalformedOutcome(
                why=f"{place}There is no `{name[:LONGEST_ID]}` in an outcome: it has {', '.join(_KEYS)}."
            )
    try:
        return told(**fields)
    except MalformedOutcome as error:
        raise MalformedOutcome(why=f"{place}{error.why}") from error


def _quality(success: object, quality: object) -> float:
    if (success is None) == (quality is None):
        raise MalformedOutcome(why="Say how it came out: `success` or `quality`, one of the two.")
    if success is not None:
        if not isinstance(success, bool):
            raise MalformedOutcome(why="`success` is to be true or false.")
        return float(success)
    if isinstance(quality, bool) or not isinstance(quality, int | float) or not 0 <= quality <= 1:
        raise MalformedOutcome(why="`quality` is to be a number from 0 to 1.")
    return float(quality)


def _digest(*parts: str) -> str:
    return blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
