"""What the gateway counts while it runs: calls by outcome, and the time that it adds to them."""

import math
from typing import Final

_GROWTH: Final = math.log(1.02)
_BUCKETS: Final = 1000
"""Two per cent wide each: 1 microsecond to 400 seconds."""


class Quantiles:
    """A histogram of durations that gives any quantile within one per cent, in constant memory."""

    def __init__(self) -> None:
        """Begin empty."""
        self.count = 0
        self._counts = [0] * _BUCKETS

    def add(self, microseconds: int) -> None:
        """Count one duration."""
        bucket = int(math.log(microseconds) / _GROWTH) if microseconds > 1 else 0
        self._counts[min(bucket, _BUCKETS - 1)] += 1
        self.count += 1

    def at(self, share: float) -> float | None:
        """Return the duration that `share` of all do not exceed, in microseconds; None when there are none."""
        if self.count == 0:
            return None
        wanted = math.ceil(share * self.count)
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                return math.exp((bucket + 0.5) * _GROWTH)
        raise AssertionError(share)


class Meters:
    """Counts of one gateway since its start."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.calls = 0
        self.in_flight = 0
        self.passed_through = 0
        self.added = Quantiles()
        """Per call: from the request's last byte to the reply's last, less what was the provider's."""

    def snapshot(self) -> dict[str, object]:
        """Return the counts with stable names."""
        return {
            "calls": self.calls,
            "in_flight": self.in_flight,
            "passed_through": self.passed_through,
            "added_ms": {
                "p50": _ms(self.added.at(0.50)),
                "p90": _ms(self.added.at(0.90)),
                "p99": _ms(self.added.at(0.99)),
            },
        }


def _ms(microseconds: float | None) -> float | None:
    return None if microseconds is None else round(microseconds / 1000, 3)
