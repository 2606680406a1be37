"""The plan of a day: which part of each line's runs and conversations gives a pair, fixed before the day begins.

It is worked out of what was known when the day began, so that every gateway on a ledger comes to the same, and no rate
depends on the tasks that it is for. Lines that are sought an answer on share the day's allowance by their index; those
that have one, or whose verdict traffic follows, go on with a few pairs, to notice drift; one on which the next dollar
is not expected to free more than a dollar gets none. A line with few pairs yet has no plan: it gives pairs at the
policy's own rate.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from tierwise.audit.planner import Allotment, Prospect, is_worth_it, plan_day, plan_purses
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
    handed_nanos: Nanos = 0
    """What pairs of calls on a dearer tier may cost beyond their own purse: the other one leaves it."""

    def rate(self, line: str, otherwise: float) -> float:
        """The part of a line's runs and conversations that gives a pair."""
        return self.rates.get(line, otherwise)


def plan_rates(
    standings: Iterable[Standing],
    clusters: Mapping[str, float],
    *,
    purses_nanos: tuple[Nanos, Nanos],
    day: int,
    hands_over: bool = False,
) -> DayPlan:
    """Share a day's allowance.

    Args:
        standings: of all lines, by what was known when the day began.
        clusters: how many runs or conversations a day each line has.
        purses_nanos: what pairs of calls on a dearer tier may cost on the day, and those of calls on a cheaper one.
        day: in days since 1970.
        hands_over: whether what the second purse leaves goes to the first: no line that is to begin needs it.
    """
    enough = [one for one in standings if one.line.pairs >= FEWEST]
    known = [one for one in enough if clusters.get(one.line.line)]
    sought = {one.line.line for one in enough if _is_sought(one)}
    watched = [one for one in known if _is_watched(one)]
    resting = [one.line.line for one in enough if not _is_watched(one) and one.line.line not in sought]
    purses = [
        max(
            0, purse - sum(WATCHING * (one.pair_nanos or 0) for one in watched if one.line.on_dear is on_dear)
        )
        for on_dear, purse in zip((True, False), purses_nanos, strict=True)
    ]
    down, up = (
        [
            replace(one.prospect, pairs_a_day=MOST * clusters[one.line.line])
            for one in known
            if one.line.line in sought and one.line.on_dear is on_dear
        ]
        for on_dear in (True, False)
    )
    lowered, raised = _allotted(down, up, (purses[0], purses[1]), hands_over)
    pairs = dict.fromkeys((one.line.line for one in known), 0)
    pairs |= {each.line: each.pairs for each in (*lowered, *raised)}
    pairs |= {one.line.line: max(WATCHING, pairs[one.line.line]) for one in watched}
    rates = {line: min(MOST, made / clusters[line]) for line, made in pairs.items()}
    return DayPlan(
        day=day,
        rates=dict.fromkeys(resting, 0.0) | rates,
        handed_nanos=max(0, sum(each.cost_nanos for each in lowered) - purses[0]),
    )


def _allotted(
    down: list[Prospect],
    up: list[Prospect],
    purses: tuple[Nanos, Nanos],
    hands_over: bool,  # noqa: FBT001 — a helper's
) -> tuple[list[Allotment], list[Allotment]]:
    """The pairs of the day of either direction."""
    if not hands_over:
        return [*plan_day(down, budget_nanos=purses[0])], [*plan_day(up, budget_nanos=purses[1])]
    raising = {prospect.line for prospect in up}
    found = plan_purses(down, up, purses_nanos=purses)
    return [one for one in found if one.line not in raising], [one for one in found if one.line in raising]


def _is_sought(standing: Standing) -> bool:
    """Whether a line has no answer, and the next pairs are worth what they cost."""
    return standing.verdict not in FINAL and is_worth_it(standing.prospect)


def _is_watched(standing: Standing) -> bool:
    """Whether something rests on what a line has said."""
    return standing.verdict in FINAL or standing.prospect.frees < 1


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
