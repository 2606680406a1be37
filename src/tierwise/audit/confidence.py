"""A confidence sequence: the means that the evidence has not refuted, at whatever time it is looked at.

With probability 1 - α the interval contains the true mean after every pair at once, so it may be watched. It is
{m : E⁺(m) < 2/α and E⁻(m) < 2/α} of the two betting processes; E⁺ falls in m and E⁻ rises, so each end is found by
bisection (Waudby-Smith & Ramdas, arXiv 2010.09686).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log

from tierwise.audit.counts import Tally, mean_of
from tierwise.audit.evidence import log_above, log_below, stakes

STEPS = 40
"""Halvings: an interval of length 2 ends below 10⁻¹¹."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """From `low` to `high`, both included."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    @property
    def width(self) -> float:
        """How far apart its ends are."""
        return self.high - self.low


def confidence(tally: Tally, *, alpha: float, margin: float) -> Interval:
    """The interval that contains the true mean at all times at once with probability 1 - `alpha`.

    `margin` sets the stakes, and with them where the interval is tightest: it does not become much narrower than
    a tenth of the margin, however many pairs there are.
    """
    return Interval(
        low=lower_bound(tally, alpha=alpha / 2, margin=margin),
        high=upper_bound(tally, alpha=alpha / 2, margin=margin),
    )


def lower_bound(tally: Tally, *, alpha: float, margin: float) -> float:
    """The largest value that the true mean exceeds, at all times at once with probability 1 - `alpha`."""
    fractions, limit, mean = stakes(margin), -log(alpha), mean_of(tally)
    if mean is None:
        return tally.low
    return _boundary(
        tally.low, mean, lambda middle: log_above(tally, mean=middle, fractions=fractions) >= limit
    )


def upper_bound(tally: Tally, *, alpha: float, margin: float) -> float:
    """The smallest value that the true mean stays below, at all times at once with probability 1 - `alpha`."""
    fractions, limit, mean = stakes(margin), -log(alpha), mean_of(tally)
    if mean is None:
        return tally.high
    return _boundary(
        tally.high, mean, lambda middle: log_below(tally, mean=middle, fractions=fractions) >= limit
    )


def _boundary(outer: float, inner: float, refuted: Callable[[float], bool]) -> float:
    """Between a value that may be refuted and one that is not: the last refuted one, or `outer`."""
    for _ in range(STEPS):
        middle = (outer + inner) / 2
        outer, inner = (middle, inner) if refuted(middle) else (outer, middle)
    return outer
