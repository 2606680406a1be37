"""The demo's figures: folded from the ledger, and set beside the provider's own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tierwise.config.prices import shipped_prices
from tierwise.core.settlement import at_equal_tokens
from tierwise.money import Nanos
from tierwise.stores.ledger.query import Reader, Record
from tierwise.stores.ledger.reports import Report, report
from tierwise.usage import Metered, Usage, UsageLine

PAIRS: Final[Mapping[str, Mapping[str, str]]] = {
    "5.5": {"frontier": "claude-opus-5-5", "fast": "claude-haiku-5-5"},
    "4.6": {"frontier": "claude-opus-4-6", "fast": "claude-haiku-4-5-20251001"},
}
"""Two pairs of models, 40 times apart and 5 times apart in price, that the same calls are priced with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFigures:
    """The run's calls at one pair of models, at equal tokens."""

    name: str
    all_frontier_nanos: Nanos
    routed_nanos: Nanos
    all_fast_nanos: Nanos


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeFigures:
    """One task type of the run."""

    name: str
    tier: str
    calls: int
    spend_nanos: Nanos
    as_asked_nanos: Nanos
    at_fast_nanos: Nanos
    """The same tokens at the fast tier's model: a naive figure, and no word of whether its answers would do."""
    needs_frontier: bool | None
    """What the fleet's file planted: whether this type needs the frontier tier. None where it does not say."""
    truncated: int
    truncation_waste_nanos: Nanos


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the demo shows."""

    tasks: int
    agents: int
    seconds: float
    report: Report
    pairs: tuple[PairFigures, ...]
    types: tuple[TypeFigures, ...]
    """Dearest first."""
    provider_total_nanos: Nanos
    """What the provider counted that it would bill: it shares no code and no price list with the ledger."""
    provider_calls: int
    tokens_not_run: int
    """How much longer the cut replies would have run without their caps, by the provider."""
    nanos_not_run: Nanos
    added_ms: Mapping[str, float | None]

    @property
    def routed_nanos(self) -> Nanos:
        """What the run cost, by the ledger."""
        return self.report.total.cost_nanos

    @property
    def agree(self) -> bool:
        """Whether ledger and provider agree to the nanodollar, with nothing unknown or lost."""
        total = self.report.total
        return (
            self.routed_nanos == self.provider_total_nanos
            and total.finished == self.provider_calls == total.calls
            and not total.unknown_cost
        )

    @property
    def overpaying(self) -> tuple[TypeFigures, ...]:
        """The types that are on the frontier tier and were planted not to need it, dearest first."""
        return tuple(line for line in self.types if line.tier == "frontier" and line.needs_frontier is False)

    @property
    def saving_share(self) -> float | None:
        """Saved, as a share of what the callers asked for."""
        asked = self.report.total.as_asked_nanos
        return 1 - self.routed_nanos / asked if asked else None


def fold(
    ledger: Reader,
    *,
    tasks: int,
    agents: int,
    seconds: float,
    planted: Mapping[str, bool],
    billing: Mapping[str, Any],
    added_ms: Mapping[str, float | None],
) -> Figures:
    """Fold the ledger of a demo run.

    Args:
        ledger: to read.
        tasks: how many were done.
        agents: how many worked at once.
        seconds: how long it took.
        planted: by task type, whether the fleet's file says that it needs the frontier tier.
        billing: what the sandbox counted.
        added_ms: what the gateway measured of itself, by quantile.
    """
    at_pairs, at_fast = _priced_again(ledger)
    found = report(ledger, by="type")
    tiers = {row["task_type"]: row["tier"] for row in ledger.rows(_TIERS)}
    return Figures(
        tasks=tasks,
        agents=agents,
        seconds=seconds,
        report=found,
        pairs=at_pairs,
        types=tuple(
            TypeFigures(
                name=line.key,
                tier=tiers.get(line.key) or "(none)",
                calls=line.totals.calls,
                spend_nanos=line.totals.cost_nanos,
                as_asked_nanos=line.totals.as_asked_nanos or 0,
                at_fast_nanos=at_fast.get(line.key, 0),
                needs_frontier=planted.get(line.key),
                truncated=line.totals.truncated,
                truncation_waste_nanos=line.totals.truncation_waste_nanos,
            )
            for line in found.lines
        ),
        provider_total_nanos=billing["total_nanos"],
        provider_calls=billing["calls"],
        tokens_not_run=billing["truncated"]["output_tokens_cut"],
        nanos_not_run=billing["truncated"]["nanos_not_run"],
        added_ms=added_ms,
    )


_TIERS: Final = "SELECT task_type, max(tier) AS tier FROM calls GROUP BY task_type"

_FINISHED: Final = """
SELECT task_type, tier, served_model, at_us, input_tokens, cache_write_5m_tokens, cache_write_1h_tokens,
    cache_read_tokens, output_tokens, web_search_requests
FROM calls WHERE ending = 'posted'
"""


def _priced_again(ledger: Reader) -> tuple[tuple[PairFigures, ...], dict[str, Nanos]]:
    """Price every finished call at both pairs' models; and by task type at today's fast one."""
    prices = shipped_prices()
    models = [model for pair in PAIRS.values() for model in pair.values()]
    sums = {name: {"frontier": 0, "fast": 0, "routed": 0} for name in PAIRS}
    at_fast: dict[str, Nanos] = {}
    for row in ledger.rows(_FINISHED):
        metered = _metered(row)
        cost = {
            model: at_equal_tokens(metered, model=model, prices=prices, at_us=row["at_us"]) or 0
            for model in models
        }
        for name, pair in PAIRS.items():
            sums[name]["frontier"] += cost[pair["frontier"]]
            sums[name]["fast"] += cost[pair["fast"]]
            sums[name]["routed"] += cost[pair["fast" if row["tier"] == "fast" else "frontier"]]
        task_type = row["task_type"] or "(undeclared)"
        at_fast[task_type] = at_fast.get(task_type, 0) + cost[PAIRS["5.5"]["fast"]]
    pairs = tuple(
        PairFigures(
            name=name,
            all_frontier_nanos=total["frontier"],
            routed_nanos=total["routed"],
            all_fast_nanos=total["fast"],
        )
        for name, total in sums.items()
    )
    return pairs, at_fast


def _metered(row: Record) -> Metered:
    usage = Usage(
        input_tokens=row["input_tokens"],
        cache_write_5m_tokens=row["cache_write_5m_tokens"],
        cache_write_1h_tokens=row["cache_write_1h_tokens"],
        cache_read_tokens=row["cache_read_tokens"],
        output_tokens=row["output_tokens"],
        web_search_requests=row["web_search_requests"],
    )
    return Metered(lines=(UsageLine(model=row["served_model"], usage=usage),))
