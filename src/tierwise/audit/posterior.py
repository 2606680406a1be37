"""The posterior of a type's three rates: for decisions that may be taken back, and for plans.

The rates of worse, same and better pairs are Dirichlet(½, 9, ½) before any pair: a tenth of pairs differ, either way.
Afterwards the share of pairs that differ, s, is Beta, and so, independently of it, is the share of those in which
the cheaper tier did better, q; the mean is s (2q - 1). Both are handled on a grid of the angle θ = asin √x, in which a
Beta distribution with parameters of at least ½ is smooth and has a spread of 1 / (2 √(a + b)) at most.

It is not a proof: its error is not controlled when one looks often. What rests on it must be easy to take back.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from math import asin, cos, exp, inf, log, pi, sin, sqrt
from typing import Final

from tierwise.audit.counts import Counts

PRIOR: Final = (0.5, 9.0, 0.5)
"""Dirichlet parameters of worse, same, better: chosen on simulated fleets, not on real ones."""

POINTS = 256
"""Cells of the grid for a probability."""

ROUGH: Final = 64
"""The same for draws, of which a plan needs many: half a spread a cell."""

LATTICE: Final = tuple(
    ((number + 0.5) / 24, (0.5 + 0.6180339887498949 * number) % 1.0) for number in range(24)
)
"""24 points that fill the unit square evenly: the draws of a plan that is the same wherever it is made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """How often the cheaper tier does worse and better: one draw from the posterior, or a guess."""

    worse: float
    better: float

    @property
    def mean(self) -> float:
        """The mean difference."""
        return self.better - self.worse

    @property
    def differing(self) -> float:
        """The share of pairs that differ."""
        return self.better + self.worse

    def chances(self) -> Sequence[tuple[float, float]]:
        """Each difference and its chance."""
        return ((-1.0, self.worse), (0.0, 1 - self.differing), (1.0, self.better))


@lru_cache(maxsize=1024)
def probability_above(counts: Counts, mean: float) -> float:
    """Posterior probability that the mean difference exceeds `mean`.

    `P(s (2q - 1) > mean)`, summed over the grid of s.
    """
    share, side = _beliefs(counts, POINTS)
    total = 0.0
    for index, weight in enumerate(share.weights):
        differing = share.values[index]
        total += weight * (1 - side.below((1 + mean / differing) / 2))
    return min(1.0, max(0.0, total))


def draws(counts: Counts, uniforms: Sequence[tuple[float, float]] = LATTICE) -> tuple[Rates, ...]:
    """Turn uniform draws from the unit square into draws from the posterior."""
    share, side = _beliefs(counts, ROUGH)
    return tuple(_rates(share.quantile(first), side.quantile(second)) for first, second in uniforms)


def _rates(differing: float, better_share: float) -> Rates:
    return Rates(worse=differing * (1 - better_share), better=differing * better_share)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Beta:
    """A Beta distribution on a grid."""

    values: Sequence[float]
    weights: Sequence[float]
    edges: Sequence[float]
    """Angles between grid cells; one more than there are cells."""
    cumulated: Sequence[float]
    """Probability below each edge."""

    def below(self, value: float) -> float:
        """Probability of less than `value`."""
        if value <= 0:
            return 0.0
        if value >= 1:
            return 1.0
        place = (asin(sqrt(value)) - self.edges[0]) / (self.edges[1] - self.edges[0])
        if place <= 0 or place >= len(self.weights):
            return 0.0 if place <= 0 else 1.0
        cell = int(place)
        return self.cumulated[cell] + (place - cell) * self.weights[cell]

    def quantile(self, probability: float) -> float:
        """The value with this probability below it."""
        cell = max(0, min(len(self.weights), bisect_left(self.cumulated, probability)) - 1)
        part = (probability - self.cumulated[cell]) / self.weights[cell] if self.weights[cell] else 0.5
        return sin(self.edges[cell] + part * (self.edges[1] - self.edges[0])) ** 2


def _beliefs(counts: Counts, points: int) -> tuple[_Beta, _Beta]:
    worse, same, better = PRIOR[0] + counts.worse, PRIOR[1] + counts.same, PRIOR[2] + counts.better
    return _beta(worse + better, same, points), _beta(better, worse, points)


@lru_cache(maxsize=256)
def _beta(first: float, second: float, points: int) -> _Beta:
    """Beta(`first`, `second`) on so many angles within ten spreads of its centre."""
    centre, spread = asin(sqrt(first / (first + second))), 0.5 / sqrt(first + second)
    start, end = max(0.0, centre - 10 * spread), min(pi / 2, centre + 10 * spread)
    step = (end - start) / points
    angles = [start + (number + 0.5) * step for number in range(points)]
    logs = [_power(sin(angle), 2 * first - 1) + _power(cos(angle), 2 * second - 1) for angle in angles]
    top = max(logs)
    masses = [exp(value - top) for value in logs]
    whole = sum(masses)
    weights = [mass / whole for mass in masses]
    return _Beta(
        values=[sin(angle) ** 2 for angle in angles],
        weights=weights,
        edges=[start + number * step for number in range(points + 1)],
        cumulated=[0.0, *accumulate(weights)],
    )


def _power(base: float, exponent: float) -> float:
    """The ln of `base` to the power of `exponent`."""
    if exponent == 0:
        return 0.0
    return exponent * log(base) if base > 0 else -inf
