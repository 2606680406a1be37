"""The plan: which type the next audit dollar goes to, and when more evidence is not worth its price.

A type's index is the saving a day that a verdict frees, discounted by the days it takes, for each dollar that the
verdict costs, averaged over what is thinkable of its rates:

    index = mean over draws of  1{μ > -δ} · S · (1 - days / H)₊ / (n · c + ε)

S is the saving a day, c a pair's cost, n the pairs that are missing, H the horizon and ε the cost of a chunk. n is
(bar - ln E) / g for a proof, and z² d / (μ + δ)² less the pairs there are before the provisional step, with d the
share of pairs that differ. A simple index is enough: an order that knew the truth would do hardly better (on bandits
with cost subsidy, arXiv 2605.07171; on cost-aware identification, arXiv 2402.16710; on the order of jobs, Gittins).

For a type on the cheaper tier the value of a verdict is not dollars but failures avoided, so its index has another unit
and its budget is another purse.

Indices and forecasts say when a type is given up; `dayplan` makes rates of what `plan_day` allots.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from math import ceil, inf
from statistics import NormalDist, fmean, median_high

from tierwise.audit.counts import Counts
from tierwise.audit.evidence import growth, threshold
from tierwise.audit.posterior import LATTICE, Rates, draws
from tierwise.money import NANOS_PER_USD, Nanos

CHUNK = 10
"""Pairs that are planned at a time."""

HORIZON_DAYS = 90.0


class Goal(StrEnum):
    """The verdict that is sought next."""

    PROVISIONAL = "provisional"
    PROVEN = "proven"
    NEEDED = "needed"
    """Of a type on the cheaper tier: whether it must go up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """One line of evidence, as the planner sees it."""

    line: str
    goal: Goal
    counts: Counts
    margin: float
    log_safe: float
    log_needed: float
    bar: float
    """The ln E that a proof needs: `selection.bar`."""
    alpha: float
    """The error at which "needed" is tested."""
    tasks_a_day: float
    saving_nanos: Nanos
    """What a finished task costs more on the dearer tier, as measured."""
    pair_cost_nanos: Nanos
    """What one more pair costs: the other tier's task, and its judge."""
    pairs_a_day: float
    """The most there can be: the share of clusters that may be shadowed."""
    likely: float = 0.95
    """The posterior probability that the provisional step asks for."""
    frees: float = 1.0
    """The part of the saving that the verdict frees: little for the proof of a type that is provisional already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allotment:
    """Pairs of one line for one day."""

    line: str
    pairs: int
    cost_nanos: Nanos


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What the next verdict takes, by the middle of what is thinkable; a half of it takes longer."""

    pairs: int
    cost_nanos: Nanos
    days: float


def index(
    prospect: Prospect,
    *,
    horizon_days: float = HORIZON_DAYS,
    uniforms: Sequence[tuple[float, float]] = LATTICE,
) -> float:
    """Value a day of one more audit dollar on this line: dollars saved, or failures avoided for goal "needed"."""
    epsilon = CHUNK * prospect.pair_cost_nanos
    worths: list[float] = []
    for rates, pairs in _outlooks(prospect, tuple(uniforms)):
        lasting = _lasting(prospect, pairs, horizon_days)
        cost = (pairs * prospect.pair_cost_nanos + epsilon) / NANOS_PER_USD
        worths.append(_value(prospect, rates) * lasting / cost if lasting else 0.0)
    return fmean(worths)


def pairs_missing(prospect: Prospect, rates: Rates) -> float:
    """About how many more pairs a verdict takes, if these are the rates; infinite exactly at the margin."""
    if rates.mean <= -prospect.margin:
        return _missing(threshold(prospect.alpha) - prospect.log_needed, prospect, rates, above=False)
    proof = _missing(prospect.bar - prospect.log_safe, prospect, rates, above=True)
    if prospect.goal is not Goal.PROVISIONAL:
        return proof
    quantile = NormalDist().inv_cdf(prospect.likely)
    needed = quantile**2 * rates.differing / (rates.mean + prospect.margin) ** 2
    return min(proof, max(0.0, needed - prospect.counts.pairs))


def forecast(
    prospect: Prospect,
    *,
    horizon_days: float = HORIZON_DAYS,
    uniforms: Sequence[tuple[float, float]] = LATTICE,
) -> Forecast | None:
    """What the next verdict, whichever it is, takes and costs; None where it is not expected within the horizon."""
    middle = median_high(pairs for _, pairs in _outlooks(prospect, tuple(uniforms)))
    days = _days(prospect, middle)
    if days > horizon_days:
        return None
    pairs = ceil(middle)
    return Forecast(pairs=pairs, cost_nanos=pairs * prospect.pair_cost_nanos, days=days)


def is_worth_it(
    prospect: Prospect,
    *,
    horizon_days: float = HORIZON_DAYS,
    uniforms: Sequence[tuple[float, float]] = LATTICE,
) -> bool:
    """Whether to go on: an audit dollar is expected to free more than a dollar within the horizon.

    It is asked of the next dollar and not of all that a verdict may cost, for evidence can be given up when it turns
    out to be dear. For goal "needed", where no dollars are saved, it is whether a verdict is in sight.
    """
    if prospect.goal is Goal.NEEDED:
        return forecast(prospect, horizon_days=horizon_days, uniforms=uniforms) is not None
    return index(prospect, horizon_days=horizon_days, uniforms=uniforms) * horizon_days > 1


def plan_day(
    prospects: Iterable[Prospect], *, budget_nanos: Nanos, horizon_days: float = HORIZON_DAYS
) -> tuple[Allotment, ...]:
    """Spend a day's budget in chunks on the lines of largest index.

    A line gets no more than its traffic allows and than its verdict probably needs, so that what today's pairs say
    can move tomorrow's. Planning several times a day, with what is left, does better still.
    """
    ranked = sorted(
        ((index(prospect, horizon_days=horizon_days), prospect) for prospect in prospects),
        key=lambda item: (-item[0], item[1].line),
    )
    allotments: list[Allotment] = []
    for value, prospect in ranked:
        pairs = _affordable(prospect, budget_nanos) if value > 0 else 0
        if pairs:
            allotments.append(
                Allotment(line=prospect.line, pairs=pairs, cost_nanos=pairs * prospect.pair_cost_nanos)
            )
            budget_nanos -= allotments[-1].cost_nanos
    return tuple(allotments)


def plan_purses(
    down: Iterable[Prospect],
    up: Iterable[Prospect],
    *,
    purses_nanos: tuple[Nanos, Nanos],
    horizon_days: float = HORIZON_DAYS,
) -> tuple[Allotment, ...]:
    """Plan a day of both purses; what types on the cheaper tier leave of theirs goes to those on the dearer one.

    Args:
        down: the lines of types on the dearer tier.
        up: the lines of types on the cheaper one.
        purses_nanos: what is kept for each, as `Allowance.purses_nanos`.
        horizon_days: how far savings count.
    """
    over, under = purses_nanos
    raised = plan_day(up, budget_nanos=under, horizon_days=horizon_days)
    left = over + under - sum(allotment.cost_nanos for allotment in raised)
    return (*plan_day(down, budget_nanos=left, horizon_days=horizon_days), *raised)


def _affordable(prospect: Prospect, budget_nanos: Nanos) -> int:
    """Whole chunks, or what traffic allows or the verdict needs where that is less."""
    most = int(min(prospect.pairs_a_day, _enough(prospect)))
    if prospect.pair_cost_nanos <= 0:
        return most
    pairs = min(most, budget_nanos // prospect.pair_cost_nanos)
    return pairs if pairs == most else pairs // CHUNK * CHUNK


def _enough(prospect: Prospect) -> float:
    """The pairs to the next verdict by the middle of what is thinkable, in whole chunks and at least one."""
    middle = median_high(pairs for _, pairs in _outlooks(prospect, LATTICE))
    return max(1, ceil(middle / CHUNK)) * CHUNK if middle < inf else inf


@lru_cache(maxsize=512)
def _outlooks(
    prospect: Prospect, uniforms: tuple[tuple[float, float], ...]
) -> tuple[tuple[Rates, float], ...]:
    """Each draw of the rates, and the pairs that a verdict would take with them."""
    return tuple((rates, pairs_missing(prospect, rates)) for rates in draws(prospect.counts, uniforms))


def _missing(gap: float, prospect: Prospect, rates: Rates, *, above: bool) -> float:
    if gap <= 0:
        return 0.0
    gain = growth(rates.chances(), mean=-prospect.margin, low=-1.0, high=1.0, above=above)
    return gap / gain if gain > 0 else inf


def _value(prospect: Prospect, rates: Rates) -> float:
    """What a verdict frees a day if these are the rates: dollars, or failures avoided."""
    safe = rates.mean > -prospect.margin
    if prospect.goal is Goal.NEEDED:
        return 0.0 if safe else -rates.mean * prospect.tasks_a_day
    saving = prospect.frees * prospect.tasks_a_day * prospect.saving_nanos / NANOS_PER_USD
    return saving if safe else 0.0


def _days(prospect: Prospect, pairs: float) -> float:
    if pairs <= 0:
        return 0.0
    return pairs / prospect.pairs_a_day if prospect.pairs_a_day > 0 else inf


def _lasting(prospect: Prospect, pairs: float, horizon_days: float) -> float:
    """The share of the horizon that is left once the verdict is there."""
    return max(0.0, 1 - _days(prospect, pairs) / horizon_days)
