"""Features: what was known of a call before it was made, in a word each, so that a type that is too coarse can show."""

from bisect import bisect_left
from typing import Final

from tierwise.engine.desk import Reading


def features_of(reading: Reading) -> tuple[tuple[str, str], ...]:
    """Say who called, how long the body is and whether it offers tools. None of it is text of the call."""
    return (
        ("agent", reading.task.agent or "(none)"),
        ("body", _SIZES[bisect_left(_BOUNDS, len(reading.raw))]),
        ("tools", _tools(reading)),
    )


_BOUNDS: Final = (4_000, 32_000, 256_000)
"""Bytes: about a page, a file, and many of them."""
_SIZES: Final = ("to 4 kB", "4 to 32 kB", "32 to 256 kB", "over 256 kB")


def _tools(reading: Reading) -> str:
    if "tools" not in reading.body.fields:
        return "none"
    return "in the first turn" if reading.call.turns == 1 else "in a later turn"
