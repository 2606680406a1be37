"""Reports: where the money went, folded over the ledger's calls, against what the same calls cost elsewhere.

Sums are over calls whose amounts are known; how many are not is counted beside them, and never taken for zero.
"""

# ruff: noqa: S608 — the texts are of our own making, and values are parameters

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, TypeAlias, get_args

from tierwise.money import Nanos
from tierwise.stores.ledger import folds, summary
from tierwise.stores.ledger.folds import HOUR_US, NO_REPLY, SUMS
from tierwise.stores.ledger.query import Reader, Record

By: TypeAlias = Literal["type", "agent", "run", "model", "tier", "key", "day"]
DIMENSIONS: Final[tuple[By, ...]] = get_args(By)


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over some calls."""

    calls: int
    finished: int
    """Calls with a whole reply and its usage."""
    failed: int
    """Calls without: errors, breaks, cancellations, refusals."""
    open: int
    """Calls without an ending: in flight, or lost with their gateway."""
    unknown_cost: int
    """Calls that ended and whose cost is not known."""
    cost_nanos: Nanos
    """Known costs."""
    at_least_nanos: Nanos
    """What the calls of unknown cost come to at the least."""
    at_frontier_nanos: Nanos | None
    """The finished calls' tokens at the frontier tier's model; None where that has no price."""
    as_asked_nanos: Nanos | None
    """The finished calls' tokens at the models that callers asked for."""
    as_decided_nanos: Nanos | None
    """The finished calls' tokens at the decided models: what observing would have saved."""
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    truncated: int
    """Replies that were cut by their cap."""
    truncation_waste_nanos: Nanos
    """What those cost."""

    @property
    def truncated_share(self) -> float | None:
        """Share of the finished calls whose replies were cut; None where none finished."""
        return self.truncated / self.finished if self.finished else None

    @property
    def cache_hit_share(self) -> float | None:
        """Share of all prompt tokens that were read from the cache; None where there were none."""
        prompt = self.input_tokens + self.cache_read_tokens + self.cache_write_tokens
        return self.cache_read_tokens / prompt if prompt else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row of a report."""

    key: str
    totals: Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownType:
    """A task type that callers declare and the policy does not know."""

    name: str
    nearest: str | None
    """The known one that was probably meant, by the policy that decided last."""
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Where the money went."""

    by: By
    since_us: int | None
    """First microsecond since 1970 UTC that counts: as asked for, or the beginning of its hour."""
    until_us: int | None
    """First that does not, in the same way."""
    total: Totals
    lines: tuple[Line, ...]
    """Dearest first; days in order."""
    unknown_types: tuple[UnknownType, ...]


def report(
    ledger: Reader,
    *,
    by: By = "type",
    since_us: int | None = None,
    until_us: int | None = None,
    exact: bool = False,
) -> Report:
    """Fold the ledger's calls.

    A span has whole hours of UTC: both its ends are rounded down. Of a day that was pruned, all calls count in its
    first hour.

    Args:
        ledger: to read.
        by: what a line is.
        since_us: first microsecond since 1970 UTC that counts, by when a call was read; None from the beginning.
        until_us: first that does not; None to the end.
        exact: take the span as it is, and read all its entries: that takes long for many, and finds none that
            were pruned.
    """
    if exact:
        span = _Span(since_us=since_us, until_us=until_us)
    else:
        span = _Span(since_us=_whole_hour(since_us), until_us=_whole_hour(until_us))
    with ledger.snapshot():
        found = _folded(ledger, by, span, exact=exact)
        unknown = _unknown_types(ledger, span, exact=exact)
    lines = _moved_to_their_models(found) if by == "model" else found
    lines = [line for line in lines if line.totals.calls]
    if by != "day":
        lines.sort(key=lambda line: (-line.totals.cost_nanos, line.key))
    return Report(
        by=by,
        since_us=span.since_us,
        until_us=span.until_us,
        total=_total(line.totals for line in lines),
        lines=tuple(lines),
        unknown_types=unknown,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    since_us: int | None
    until_us: int | None

    @property
    def moments(self) -> tuple[int, int]:
        return self.since_us or 0, _FOREVER_US if self.until_us is None else self.until_us

    @property
    def hours(self) -> tuple[int, int]:
        """The first hour, and the first that is not in it."""
        since_us, until_us = self.moments
        return since_us // HOUR_US, until_us // HOUR_US


_FOREVER_US: Final = 2**62


def _whole_hour(at_us: int | None) -> int | None:
    return None if at_us is None else at_us // HOUR_US * HOUR_US


def _folded(ledger: Reader, by: By, span: _Span, *, exact: bool) -> list[Line]:
    """The lines, ordered by key; days in order."""
    dimension, key = ("tier", "hour / 24") if by == "day" else (by, None)
    if exact:
        parts = folds.of_dimension(dimension, key=key)
        events, parameters = folds.events(ledger.dialect, folds.OF_SPAN), span.moments
    else:
        parts = (
            f"SELECT hour, {key or 'key'} AS key, {', '.join(SUMS)} FROM totals "
            f"WHERE dimension = '{dimension}' AND hour >= ? AND hour < ? "
            f"UNION ALL {folds.of_dimension(dimension, key=key)} WHERE hour >= ? AND hour < ?"
        )
        events = folds.events(ledger.dialect, folds.between(ledger.dialect))
        parameters = (summary.position(ledger), summary.end(ledger), *span.hours, *span.hours)
    query = f"{events} SELECT key, {folds.summed(SUMS)} FROM ({parts}) AS parts GROUP BY key ORDER BY key"
    return [
        Line(key=_day(row["key"]) if by == "day" else row["key"], totals=_totals(row))
        for row in ledger.rows(query, parameters)
    ]


def _day(day: int) -> str:
    """The date of a day since 1970 UTC."""
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day):%Y-%m-%d}"


def _totals(row: Record) -> Totals:
    return _with_open(Totals(open=0, **{name: row[name] for name in SUMS}))


def _with_open(totals: Totals) -> Totals:
    return replace(totals, open=totals.calls - totals.finished - totals.failed)


def _moved_to_their_models(lines: Iterable[Line]) -> list[Line]:
    """Count each call where its reply came from: the fold counts it where nothing has come yet."""
    served = [line for line in lines if line.key != NO_REPLY]
    moved = [
        replace(
            line, totals=_with_open(replace(line.totals, calls=line.totals.finished + line.totals.failed))
        )
        for line in served
    ]
    elsewhere = sum(line.totals.calls for line in moved)
    return moved + [
        replace(line, totals=_with_open(replace(line.totals, calls=line.totals.calls - elsewhere)))
        for line in lines
        if line.key == NO_REPLY
    ]


def _total(lines: Iterable[Totals]) -> Totals:
    every = tuple(lines)
    sums: dict[str, Any] = {
        name: _sum([getattr(line, name) for line in every], unknown=name in _BASELINES)
        for name in Totals.__dataclass_fields__
    }
    return Totals(**sums)


_BASELINES: Final = ("at_frontier_nanos", "as_asked_nanos", "as_decided_nanos")


def _sum(amounts: Sequence[int | None], *, unknown: bool) -> int | None:
    known = [amount for amount in amounts if amount is not None]
    return None if unknown and not known else sum(known)


def _unknown_types(ledger: Reader, span: _Span, *, exact: bool) -> tuple[UnknownType, ...]:
    if exact:
        parts, parameters = folds.unknown_types(folds.OF_SPAN), span.moments
    else:
        parts = (
            "SELECT name, nearest, calls, last_us FROM unknown_types WHERE hour >= ? AND hour < ? "
            "UNION ALL SELECT name, nearest, calls, last_us FROM "
            f"({folds.unknown_types(folds.between(ledger.dialect))}) AS tail WHERE hour >= ? AND hour < ?"
        )
        parameters = (*span.hours, summary.position(ledger), summary.end(ledger), *span.hours)
    calls: dict[str, int] = {}
    meant: dict[str, str | None] = {}
    for row in ledger.rows(_UNKNOWN_TYPES.format(parts=parts), parameters):
        calls[row["name"]] = calls.get(row["name"], 0) + row["calls"]
        meant[row["name"]] = row["nearest"] or None
    return tuple(
        UnknownType(name=name, nearest=meant[name], calls=count)
        for name, count in sorted(calls.items(), key=lambda item: (-item[1], item[0]))
    )


_UNKNOWN_TYPES: Final = """
SELECT name, nearest, sum(calls) AS calls, max(last_us) AS last_us FROM ({parts}) AS parts
GROUP BY name, nearest ORDER BY max(last_us)
"""
