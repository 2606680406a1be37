"""The plan of a day: which part of each line's runs and conversations gives a pair, fixed before the day begins.

It is worked out of what was known when the day began, so that every gateway on a ledger comes to the same, and no rate
depends on the tasks that it is for. Lines that are sought an answer on share the day's allowance by their index; those
that have one go on with a few pairs, to notice drift; one on which the next dollar is not expected to free more than a
dollar gets none. A line with few pairs yet has no plan: it gives pairs at the policy's own rate.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from tierwise.audit.planner import is_worth_it, plan_day
from tierwise.audit.standings import Standing
from tierwise.audit.verdicts import FINAL
from tierwise.core.ledger import Paired
from tierwise.money import Nanos

FEWEST: Final = 30
"""Pairs below which a line has no plan."""
MOST: Final = 0.5
"""The largest part of a line's runs and conversations that gives pairs."""
WATCHING: Final = 10
"""Pairs a day of a line that has its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DayPlan:
    """The rates of one day."""

    day: int = -1
    """Days since 1970."""
    rates: Mapping[str, float] = field(default_factory=dict[str, float])
    """By line; one that is not here gives pairs at the policy's own rate."""

    def rate(self, line: str, otherwise: float) -> float:
        """The part of a line's runs and conversations that gives a pair."""
        return self.rates.get(line, otherwise)


def plan_rates(
    standings: Iterable[Standing],
    clusters: Mapping[str, float],
    *,
    purses_nanos: tuple[Nanos, Nanos],
    day: int,
) -> DayPlan:
    """Share a day's allowance.

    Args:
        standings: of all lines, by what was known when the day began.
        clusters: how many runs or conversations a day each line has.
        purses_nanos: what pairs of calls on a dearer tier may cost on the day, and those of calls on a cheaper one.
        day: in days since 1970.
    """
    enough = [one for one in standings if one.line.pairs >= FEWEST]
    known = [one for one in enough if clusters.get(one.line.line)]
    resting = [
        one.line.line
        for one in enough
        if one not in known and one.verdict not in FINAL and not _is_sought(one)
    ]
    pairs = {one.line.line: 0 for one in known}
    for on_dear, purse in zip((True, False), purses_nanos, strict=True):
        ours = [one for one in known if one.line.on_dear is on_dear]
        watched = [one for one in ours if one.verdict in FINAL]
        pairs |= dict.fromkeys((one.line.line for one in watched), WATCHING)
        left = purse - sum(WATCHING * (one.pair_nanos or 0) for one in watched)
        sought = [
            replace(one.prospect, pairs_a_day=MOST * clusters[one.line.line])
            for one in ours
            if _is_sought(one)
        ]
        allotted = plan_day(sought, budget_nanos=max(0, left))
        pairs |= {each.line: each.pairs for each in allotted}
    rates = {line: min(MOST, made / clusters[line]) for line, made in pairs.items()}
    return DayPlan(day=day, rates=dict.fromkeys(resting, 0.0) | rates)


def _is_sought(standing: Standing) -> bool:
    """Whether a line has no answer, and the next pairs are worth what they cost."""
    return standing.verdict not in FINAL and is_worth_it(standing.prospect)


def clusters_a_day(pairs: Iterable[Paired], *, since_us: int, days: float) -> dict[str, float]:
    """Estimate how many runs and conversations a day each line has: each pair stands for one in its probability.

    Args:
        pairs: all that there are.
        since_us: from when they count, in microseconds since 1970.
        days: how many days that is.
    """
    found: dict[str, float] = {}
    for pair in pairs:
        if pair.at_us >= since_us and pair.probability > 0:
            found[pair.line] = found.get(pair.line, 0.0) + 1 / pair.probability / days
    return found
