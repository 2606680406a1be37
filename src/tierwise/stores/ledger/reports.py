"""Reports: where the money went, folded over the ledger's calls, against what the same calls cost elsewhere.

Sums are over calls whose amounts are known; how many are not is counted beside them, and never taken for zero.
"""

import sqlite3
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from tierwise.money import Nanos

By: TypeAlias = Literal["type", "agent", "run", "model", "tier", "day"]
DIMENSIONS: Final[tuple[By, ...]] = get_args(By)

_KEYS: Final[dict[By, str]] = {
    "type": "coalesce(task_type, '(undeclared)')",
    "agent": "coalesce(agent, '(none)')",
    "run": "coalesce(run_id, '(none)')",
    "model": "coalesce(served_model, '(no reply)')",
    "tier": "CASE WHEN tier IS NULL THEN '(none)' WHEN acts THEN tier ELSE '(as asked)' END",
    "day": "date(at_us / 1000000, 'unixepoch')",
}


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
    until_us: int | None
    total: Totals
    lines: tuple[Line, ...]
    """Dearest first; days in order."""
    unknown_types: tuple[UnknownType, ...]


def report(
    ledger: sqlite3.Connection, *, by: By = "type", since_us: int | None = None, until_us: int | None = None
) -> Report:
    """Fold the ledger's calls.

    Args:
        ledger: as `read_ledger` opens it.
        by: what a line is.
        since_us: first microsecond since 1970 that counts, by when a call was read; None from the beginning.
        until_us: first that does not; None to the end.
    """
    span = (since_us if since_us is not None else 0, until_us if until_us is not None else 2**63 - 1)
    total = ledger.execute(_SUMS.format(key="''"), span).fetchone()
    rows = ledger.execute(_SUMS.format(key=_KEYS[by]) + "GROUP BY 1", span).fetchall()
    lines = [Line(key=row["key"], totals=_totals(row)) for row in rows]
    lines.sort(
        key=(lambda line: line.key) if by == "day" else (lambda line: (-line.totals.cost_nanos, line.key))
    )
    unknown = ledger.execute(_UNKNOWN_TYPES, span).fetchall()
    return Report(
        by=by,
        since_us=since_us,
        until_us=until_us,
        total=_totals(total),
        lines=tuple(lines),
        unknown_types=tuple(
            UnknownType(name=row["unknown_type"], nearest=row["nearest_type"], calls=row["calls"])
            for row in unknown
        ),
    )


_SUMS: Final = """
SELECT
    {key} AS key,
    count(*) AS calls,
    count(*) FILTER (WHERE ending = 'posted') AS finished,
    count(*) FILTER (WHERE ending = 'failed') AS failed,
    count(*) FILTER (WHERE ending IS NULL) AS open,
    count(*) FILTER (WHERE ending IS NOT NULL AND cost_nanos IS NULL) AS unknown_cost,
    coalesce(sum(cost_nanos), 0) AS cost_nanos,
    coalesce(sum(at_least_nanos) FILTER (WHERE cost_nanos IS NULL), 0) AS at_least_nanos,
    sum(at_frontier_nanos) AS at_frontier_nanos,
    sum(as_asked_nanos) AS as_asked_nanos,
    sum(as_decided_nanos) AS as_decided_nanos,
    coalesce(sum(input_tokens), 0) AS input_tokens,
    coalesce(sum(cache_read_tokens), 0) AS cache_read_tokens,
    coalesce(sum(cache_write_5m_tokens + cache_write_1h_tokens), 0) AS cache_write_tokens,
    coalesce(sum(output_tokens), 0) AS output_tokens,
    count(*) FILTER (WHERE stop_reason = 'max_tokens') AS truncated,
    coalesce(sum(cost_nanos) FILTER (WHERE stop_reason = 'max_tokens'), 0) AS truncation_waste_nanos
FROM calls
WHERE at_us >= ? AND at_us < ?
"""

_UNKNOWN_TYPES: Final = """
SELECT unknown_type, nearest_type, count(*) AS calls, max(at_us)
FROM calls
WHERE at_us >= ? AND at_us < ? AND unknown_type IS NOT NULL
GROUP BY unknown_type ORDER BY calls DESC, unknown_type
"""


def _totals(row: sqlite3.Row) -> Totals:
    return Totals(**{name: row[name] for name in Totals.__dataclass_fields__})
