"""Simulated pairs of one type: how often "safe" is claimed falsely at the margin, and how soon it is where it is true.

The cells are those of a margin and a share of pairs that differ; a run is looked at after every pair. Between pairs
that differ there are only ties, along which evidence and the t-test's statistic move one way, so the ends of each such
stretch are looked at.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil, log, log1p, sqrt
from statistics import NormalDist, median
from typing import Final

from tierwise.audit.counts import Counts
from tierwise.audit.drift import Suspicion, alarms, falls_below, observe
from tierwise.audit.evidence import log_safe, stakes, threshold

PROVEN: Final = threshold(0.05)
LOOKED_AT: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A margin and the share of pairs that differ."""

    margin: float
    differing: float

    def __str__(self) -> str:
        return f"margin {self.margin:.2f}, {100 * self.differing:.3g} % differ"

    @property
    def fixed_pairs(self) -> int:
        """The pairs of one planned look, for 80 % power at no difference: it must know what share differs."""
        normal = NormalDist()
        return ceil((normal.inv_cdf(0.95) + normal.inv_cdf(0.80)) ** 2 * self.differing / self.margin**2)


CELLS: Final = tuple(
    Cell(margin=margin, differing=differing)
    for margin, differing in (
        (0.01, 0.05),
        (0.03, 0.05),
        (0.03, 0.10),
        (0.05, 0.10),
        (0.05, 0.20),
        (0.03, 0.031),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """Whether a run at the margin was ever called safe."""

    betting: bool
    peeking: bool


def claims(cell: Cell, *, seed: int, pairs: int = LOOKED_AT) -> Claimed:
    """Watch one run at the margin with the audit's bets and with a t-test at 5 %."""
    bets = [stake / (1 - cell.margin) for stake in stakes(cell.margin)]
    tie = [log1p(bet * cell.margin) for bet in bets]
    steps = {value: [log1p(bet * (value + cell.margin)) for bet in bets] for value in (1, -1)}
    wealths, counts = [0.0] * len(bets), Counts()
    betting = peeking = False
    for value, ties in _stretches(cell, mean=-cell.margin, pairs=pairs, seed=seed):
        counts += Counts(same=ties)
        wealths = [wealth + ties * step for wealth, step in zip(wealths, tie, strict=True)]
        betting = betting or _bets_prove(wealths, counts, cell)
        peeking = peeking or peeks(counts, cell.margin)
        if value == 0 or (betting and peeking):
            break
        counts += Counts(better=value > 0, worse=value < 0)
        wealths = [wealth + step for wealth, step in zip(wealths, steps[value], strict=True)]
        betting = betting or _bets_prove(wealths, counts, cell)
        peeking = peeking or peeks(counts, cell.margin)
    return Claimed(betting=betting, peeking=peeking)


def peeks(counts: Counts, margin: float) -> bool:
    """Whether a one-sided t-test at 5 % says "safe" now; it waits for 30 pairs."""
    number = counts.pairs
    if number < 30:
        return False
    mean = (counts.better - counts.worse) / number
    variance = (counts.better + counts.worse) / number - mean**2
    return variance > 0 and (mean + margin) / sqrt(variance / number) > 1.645


def pairs_until_proven(cell: Cell, *, seed: int) -> int:
    """Pairs until "safe" is proven where the tiers are equal."""
    before = after = Counts()
    for value, ties in _stretches(cell, mean=0, pairs=10**9, seed=seed):
        for more in (Counts(same=ties), Counts(better=value > 0, worse=value < 0)):
            before, after = after, after + more
            if log_safe(after, margin=cell.margin) >= PROVEN:
                return _first(before, after, cell)
    raise AssertionError


def drift_delay(drop: float, *, seed: int) -> int:
    """Pairs until a drop is noticed that comes after 200 quiet ones, at one false alarm in 20,000 pairs or fewer."""
    draw, detector, suspicion = random.Random(seed), falls_below(0.03), Suspicion()
    while not alarms(detector, suspicion):
        mean = -drop if suspicion.observations >= 200 else 0.0
        chance, differing = draw.random(), drop + 0.02
        value = 1 if chance < (differing + mean) / 2 else -1 if chance < differing else 0
        suspicion = observe(detector, suspicion, value)
    return suspicion.observations - 200


def quantiles(counted: list[int]) -> dict[str, float]:
    """The median, and what 90 % of runs stay below."""
    ranked = sorted(counted)
    return {"median": median(ranked), "p90": ranked[ceil(0.9 * len(ranked)) - 1]}


def _stretches(cell: Cell, *, mean: float, pairs: int, seed: int) -> Iterator[tuple[int, int]]:
    """The next pair that differs, and the ties before it; 0 at the end."""
    draw, number = random.Random(seed), 0
    scale, better = log(1 - cell.differing), (1 + mean / cell.differing) / 2
    while True:
        ties = ceil(log(1 - draw.random()) / scale) - 1
        if number + ties >= pairs:
            yield 0, pairs - number
            return
        number += ties + 1
        yield (1 if draw.random() < better else -1), ties


def _bets_prove(wealths: list[float], counts: Counts, cell: Cell) -> bool:
    """Ask the audit itself, where any gambler has enough: the mixture is no more than the best of them."""
    return max(wealths) >= PROVEN and log_safe(counts, margin=cell.margin) >= PROVEN


def _first(before: Counts, after: Counts, cell: Cell) -> int:
    while after.same > before.same + 1:
        middle = replace(after, same=(after.same + before.same) // 2)
        proven = log_safe(middle, margin=cell.margin) >= PROVEN
        before, after = (before, middle) if proven else (middle, after)
    return after.pairs
