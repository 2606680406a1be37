"""Simulated pairs: the same walk for all tests of what is promised under continuous looking."""

import random
from collections.abc import Iterator
from math import ceil, log, sqrt

from tierwise.audit.counts import Counts


def runs(*, mean: float, differing: float, pairs: int, seed: int) -> Iterator[Counts]:
    """Counts just before and just after each pair that differs, and at the end.

    Between them only ties come in, along which evidence moves one way, so nothing is missed by not looking there.
    """
    draw = random.Random(seed)
    better_share = (1 + mean / differing) / 2
    counts = Counts()
    while True:
        ties = ceil(log(1 - draw.random()) / log(1 - differing)) - 1
        if counts.pairs + ties >= pairs:
            yield counts + Counts(same=pairs - counts.pairs)
            return
        counts += Counts(same=ties)
        yield counts
        better = draw.random() < better_share
        counts += Counts(better=better, worse=not better)
        yield counts


def pair(draw: random.Random, *, mean: float, differing: float) -> int:
    """One pair's difference."""
    chance = draw.random()
    better = (differing + mean) / 2
    return 1 if chance < better else -1 if chance < differing else 0


def slack(rate: float, repetitions: int) -> float:
    """Three standard errors of a rate that is estimated from so many repetitions."""
    return 3 * sqrt(rate * (1 - rate) / repetitions)
