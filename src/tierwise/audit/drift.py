"""Drift: whether a claim that was true still is, with few false alarms over a long time.

A Shiryaev-Roberts e-detector bets anew from every moment at which a change could have begun, and adds up the
capitals of all these bets:

    R_j ← (R_j + 1) (1 + λ_j (m - x)),    alarm when Σ_j w_j R_j ≥ A

While the mean stays at m or above, at least A observations pass on average between false alarms, whatever else they
do (Shin, Ramdas & Rinaldo, NEJSDS 2024). For a rise the bets are on the other side.

`watching` feeds what is seen after a verdict to them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from tierwise.audit.evidence import BOLDEST, GAMBLERS, spaced, stakes

ALARM_EVERY = 20_000
"""A: how many observations pass on average between false alarms, at least."""

_LARGEST = 1e300
"""Where a sum stops growing: far above any A, and below what a float holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """What is watched: whether a mean leaves its side of `mean`."""

    mean: float
    """The mean on the border of what holds."""
    bets: tuple[float, ...]
    """λ_j, signed: positive ones win when observations lie above `mean`."""
    alarm_every: float = ALARM_EVERY


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """What a detector has seen so far: one sum for each bet."""

    sums: tuple[float, ...] = (0.0,) * GAMBLERS
    observations: int = 0

    @property
    def level(self) -> float:
        """Σ_j w_j R_j, which is compared with A."""
        return sum(self.sums) / len(self.sums)


def falls_below(margin: float, *, alarm_every: float = ALARM_EVERY) -> Detector:
    """Watch the pairs of a type that is on the cheaper tier: does it lose more than the margin by now?"""
    bets = tuple(-stake / (1 + margin) for stake in stakes(margin))
    return Detector(mean=-margin, bets=bets, alarm_every=alarm_every)


def rises_above(margin: float, *, alarm_every: float = ALARM_EVERY) -> Detector:
    """Watch the pairs of a type that needs the dearer tier: does it lose less than the margin by now?"""
    bets = tuple(stake / (1 - margin) for stake in stakes(margin))
    return Detector(mean=-margin, bets=bets, alarm_every=alarm_every)


def passes_less(level: float, *, margin: float, alarm_every: float = ALARM_EVERY) -> Detector:
    """Watch a checkable type's pass rate on all its traffic, without pairs: has it fallen below `level`?

    Observations are 1 for a task that passed and 0 for one that did not. `level` is the rate when the type was
    proven, less what may be lost; the stakes are those of pairs, λ from `margin` / 0.4 up.
    """
    assert 0 < level < 1
    bets = tuple(-bet for bet in spaced(margin / 0.4, BOLDEST / (1 - level)))
    return Detector(mean=level, bets=bets, alarm_every=alarm_every)


def observe(detector: Detector, suspicion: Suspicion, value: float) -> Suspicion:
    """Take one more observation: a pair's difference, or whether a task passed."""
    distance = value - detector.mean
    sums = tuple(
        min(_LARGEST, (total + 1) * (1 + bet * distance))
        for total, bet in zip(suspicion.sums, detector.bets, strict=True)
    )
    return Suspicion(sums=sums, observations=suspicion.observations + 1)


def observe_batch(detector: Detector, suspicion: Suspicion, values: Mapping[float, int]) -> Suspicion:
    """Take several observations whose order is not known: each value, and how often it came.

    Bets begin with batches then, so that at least `alarm_every` batches pass on average between false alarms.
    """
    moves = [(value - detector.mean, count) for value, count in values.items()]
    sums = tuple(
        min(_LARGEST, (total + 1) * prod((1 + bet * distance) ** count for distance, count in moves))
        for total, bet in zip(suspicion.sums, detector.bets, strict=True)
    )
    return Suspicion(sums=sums, observations=suspicion.observations + sum(values.values()))


def alarms(detector: Detector, suspicion: Suspicion) -> bool:
    """Whether what was seen is an alarm."""
    return suspicion.level >= detector.alarm_every
