"""The audit's evidence as the ledger holds it: pairs with their outcomes, claims, and what was spent each day."""

# ruff: noqa: S608 — the texts are of our own making, and values are parameters

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from tierwise.core.ledger import Audited, Declared, Graded, Paired
from tierwise.money import Nanos
from tierwise.stores.ledger import folds, summary
from tierwise.stores.ledger.folds import AUDIT
from tierwise.stores.ledger.query import Reader
from tierwise.stores.ledger.rows import AUDITED, audited


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the audit has told the ledger."""

    pairs: tuple[Paired, ...]
    """In their order, each with its outcome by now; a cluster gives a line one a day, whoever made it."""
    frozen: dict[str, float]
    """The ln E of the lines that were declared proven, by their id."""
    declared_us: dict[str, int]
    """When they were declared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DaySpend:
    """What one type's calls came to on one day of UTC."""

    day: int
    """Days since 1970."""
    task_type: str
    """`(audit)` for the audit's own calls."""
    calls: int
    cost_nanos: Nanos


def evidence(ledger: Reader) -> Evidence:
    """Read all pairs and claims."""
    query = f"SELECT {', '.join(AUDITED)} FROM entries WHERE {_KINDS} ORDER BY {ledger.dialect.position}"
    entries = [audited(row) for row in ledger.rows(query)]
    graded = {entry.pair_id: entry for entry in entries if isinstance(entry, Graded)}
    return Evidence(
        pairs=tuple(_outcome(pair, graded.get(pair.pair_id)) for pair in _one_a_day(entries)),
        frozen={entry.line: entry.log_e for entry in entries if isinstance(entry, Declared)},
        declared_us={entry.line: entry.at_us for entry in entries if isinstance(entry, Declared)},
    )


def spend(ledger: Reader, *, since_day: int) -> tuple[DaySpend, ...]:
    """Read what each type's calls cost on each day since one, by when they were read."""
    hour = since_day * _DAY_HOURS
    parts = (
        "SELECT hour, key, calls, cost_nanos FROM totals WHERE dimension = 'type' AND hour >= ? "
        f"UNION ALL SELECT hour, key, calls, cost_nanos FROM ({folds.of_dimension('type')}) AS tail WHERE hour >= ?"
    )
    query = (
        f"{folds.events(ledger.dialect, folds.between(ledger.dialect))} "
        f"SELECT hour / {_DAY_HOURS} AS day, key, sum(calls) AS calls, sum(cost_nanos) AS cost_nanos "
        f"FROM ({parts}) AS parts GROUP BY hour / {_DAY_HOURS}, key ORDER BY day, key"
    )
    with ledger.snapshot():
        parameters = (summary.position(ledger), summary.end(ledger), hour, hour)
        return tuple(
            DaySpend(
                day=row["day"],
                task_type=row["key"],
                calls=int(row["calls"]),
                cost_nanos=int(row["cost_nanos"]),
            )
            for row in ledger.rows(query, parameters)
        )


def is_audit(spent: DaySpend) -> bool:
    """Whether it is the audit's own."""
    return spent.task_type == AUDIT


DAY_US: Final = 86_400_000_000

_DAY_HOURS: Final = 24
_KINDS: Final = "kind IN ('paired', 'graded', 'declared')"


def _one_a_day(entries: Iterable[Audited]) -> list[Paired]:
    """The first pair of each cluster, line and day: two gateways may each have made one."""
    first: dict[tuple[str, str, int], Paired] = {}
    for entry in entries:
        if isinstance(entry, Paired):
            first.setdefault((entry.line, entry.cluster, entry.at_us // DAY_US), entry)
    return list(first.values())


def _outcome(pair: Paired, graded: Graded | None) -> Paired:
    if pair.difference is not None or graded is None:
        return pair
    return replace(pair, difference=graded.difference, how=graded.how)
