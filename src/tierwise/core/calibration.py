"""Calibration: how many tokens a text of some length has had at most, as the ledger has seen it.

A bound from it is tighter than one token a byte, and not certain: a text unlike all before may pass it, and then
shows as overrun. Tokenizers are their models', and text outside ASCII has more bytes a character, so both are told
apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

LEAST_CALLS: Final = 200
"""Calls of a model and kind before their highest ratio says anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """What the calls of one model and one kind of text have shown."""

    calls: int
    most_per_mille: int
    """Highest number of prompt tokens for 1,000 bytes of body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The ratios that are known, by model and kind of text."""

    ratios: Mapping[tuple[str, str], Ratio] = field(default_factory=dict[tuple[str, str], Ratio])

    def most_tokens(self, model: str, kind: str, body_bytes: int) -> int:
        """Return how many tokens a body is taken to have at most.

        Half more than the highest ratio that was seen, and never more than one a byte; one a byte where too few
        calls were seen.
        """
        ratio = self.ratios.get((model, kind))
        if ratio is None or ratio.calls < LEAST_CALLS:
            return body_bytes
        return min(body_bytes, -(-body_bytes * ratio.most_per_mille * 3 // 2_000))


UNCALIBRATED: Final = Calibration()
"""Nothing is known: one token a byte."""
