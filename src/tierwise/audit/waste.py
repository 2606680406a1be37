"""Needless spend: what a type costs on the dearer tier beyond what the cheaper one would have cost.

Both are measured. What the cheaper tier costs for each dollar of the dearer one is a ratio r, and

    needless = spend · (1 - r)

On pairs, of which each is one call on either tier, r = Σ c_cheap / Σ c_dear, with a standard error from the residuals
c_cheap - r c_dear. The ratio is twice as exact as the mean of differences, because a call that is long on one tier is
long on the other. Pricing the dearer tier's tokens at the cheaper one's list price is off by a third where the cheaper
model is wordier.

Where both tiers have finished enough tasks of their own, with retries, further turns and escalations, r is the ratio
of what these cost: `tasks` has it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import pi, sqrt, tan
from statistics import NormalDist

from tierwise.audit.confidence import confidence
from tierwise.audit.counts import Counts, mean_of
from tierwise.money import NANOS_PER_USD, Nanos


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedCosts:
    """Sums over pairs of what the task cost on each tier, to the point where it was finished."""

    pairs: int = 0
    dear_nanos: Nanos = 0
    cheap_nanos: Nanos = 0
    dear_squares: int = 0
    cheap_squares: int = 0
    products: int = 0

    def __add__(self, other: "PairedCosts") -> "PairedCosts":
        """Merge the pairs of two processes on the same line of evidence."""
        return PairedCosts(
            pairs=self.pairs + other.pairs,
            dear_nanos=self.dear_nanos + other.dear_nanos,
            cheap_nanos=self.cheap_nanos + other.cheap_nanos,
            dear_squares=self.dear_squares + other.dear_squares,
            cheap_squares=self.cheap_squares + other.cheap_squares,
            products=self.products + other.products,
        )

    @property
    def reversed(self) -> "PairedCosts":
        """The same pairs with the tiers exchanged."""
        return PairedCosts(
            pairs=self.pairs,
            dear_nanos=self.cheap_nanos,
            cheap_nanos=self.dear_nanos,
            dear_squares=self.cheap_squares,
            cheap_squares=self.dear_squares,
            products=self.products,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """What the cheaper tier costs for each dollar of the dearer one, and its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Nanodollars, and their interval. Negative where the other tier is the dearer one in fact."""

    nanos: Nanos
    low_nanos: Nanos
    high_nanos: Nanos


@dataclass(frozen=True, slots=True, kw_only=True)
class Valued:
    """What the dearer tier buys for a type: tasks that succeed, for each extra dollar."""

    line: str
    per_dollar: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One line's pairs, as the ranking needs them."""

    line: str
    counts: Counts
    costs: PairedCosts
    margin: float
    ratio: float | None = None
    """What the cheaper tier costs for each dollar of the dearer one, where that is known of whole tasks; None takes
    the pairs' own."""


def one_pair(*, dear_nanos: Nanos, cheap_nanos: Nanos) -> PairedCosts:
    """The costs of one pair."""
    return PairedCosts(
        pairs=1,
        dear_nanos=dear_nanos,
        cheap_nanos=cheap_nanos,
        dear_squares=dear_nanos**2,
        cheap_squares=cheap_nanos**2,
        products=dear_nanos * cheap_nanos,
    )


def ratio(costs: PairedCosts, *, alpha: float = 0.1) -> Ratio | None:
    """The ratio r and its interval at one look, not at all times at once; None with fewer than two pairs.

    The standard error is that of a linearised ratio (Cochran 1977, chapter 6), the quantile is Student's.
    """
    if costs.pairs < 2 or costs.dear_nanos <= 0:
        return None
    value = costs.cheap_nanos / costs.dear_nanos
    error = sqrt(_residuals(costs) * costs.pairs / (costs.pairs - 1)) / costs.dear_nanos**2
    reach = student(1 - alpha / 2, costs.pairs - 1) * error
    return Ratio(value=value, low=max(0.0, value - reach), high=value + reach)


def needless_spend(found: Ratio | None, *, dear_spend_nanos: Nanos) -> Amount | None:
    """What of the spend on the dearer tier, a day's for example, the cheaper one would have saved.

    It is needless once the type is provisional or proven; until then it is what is at stake. The spend is
    the one that was logged: nothing is forecast. None where the ratio is.
    """
    if found is None:
        return None
    return Amount(
        nanos=round(dear_spend_nanos * (1 - found.value)),
        low_nanos=round(dear_spend_nanos * (1 - found.high)),
        high_nanos=round(dear_spend_nanos * (1 - found.low)),
    )


def extra_spend(reverse: Ratio | None, *, cheap_spend_nanos: Nanos) -> Amount | None:
    """The reverse, for a type on the cheaper tier: what more the dearer one would have cost.

    `reverse` is what that one costs for each dollar of the cheaper one.
    """
    found = needless_spend(reverse, dear_spend_nanos=cheap_spend_nanos)
    if found is None:
        return None
    return Amount(nanos=-found.nanos, low_nanos=-found.high_nanos, high_nanos=-found.low_nanos)


def saved_per_task(costs: PairedCosts, *, alpha: float = 0.1) -> Amount | None:
    """What a task costs less on the cheaper tier: the mean over pairs, and its interval at one look.

    The quantile is Student's, and the sums are of whole nanodollars. None with fewer than two pairs.
    """
    number, saved = costs.pairs, costs.dear_nanos - costs.cheap_nanos
    if number < 2:
        return None
    squares = costs.dear_squares - 2 * costs.products + costs.cheap_squares
    error = sqrt((number * squares - saved**2) / (number - 1)) / number
    reach = student(1 - alpha / 2, number - 1) * error
    mean = saved / number
    return Amount(nanos=round(mean), low_nanos=round(mean - reach), high_nanos=round(mean + reach))


def value_per_dollar(measured: Measured, *, alpha: float = 0.1) -> Valued | None:
    """Tasks that succeed on the dearer tier and not on the cheaper one, for each dollar that it costs more.

    The interval is that of the quality difference, valid at all times; the costs enter as measured. None without pairs,
    or where the dearer tier is not dearer.
    """
    counts, costs = measured.counts, measured.costs
    cheap_nanos = costs.cheap_nanos if measured.ratio is None else costs.dear_nanos * measured.ratio
    mean, extra = mean_of(counts), costs.dear_nanos - cheap_nanos
    if mean is None or costs.pairs == 0 or extra <= 0:
        return None
    tasks = NANOS_PER_USD * costs.pairs / extra
    interval = confidence(counts, alpha=alpha, margin=measured.margin)
    return Valued(
        line=measured.line, per_dollar=-mean * tasks, low=-interval.high * tasks, high=-interval.low * tasks
    )


def rank_by_value(values: Iterable[Valued]) -> tuple[Valued, ...]:
    """The best buy first: the end of the list is where to save."""
    return tuple(sorted(values, key=lambda found: (-found.per_dollar, found.line)))


def _residuals(costs: PairedCosts) -> int:
    """Sum of (c_cheap - r c_dear)², times (Σ c_dear)²: in whole numbers, for it is a small difference of large ones."""
    dear, cheap = costs.dear_nanos, costs.cheap_nanos
    return dear**2 * costs.cheap_squares - 2 * dear * cheap * costs.products + cheap**2 * costs.dear_squares


def student(probability: float, freedom: int) -> float:
    """Student's quantile: exact for one and two degrees of freedom, else by the Cornish-Fisher expansion."""
    if freedom <= 2:
        return _student_of_few(probability, freedom)
    z = NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))


def _student_of_few(probability: float, freedom: int) -> float:
    centred = 2 * probability - 1
    if freedom == 2:
        return centred * sqrt(2 / (1 - centred**2))
    return tan(pi * centred / 2)
