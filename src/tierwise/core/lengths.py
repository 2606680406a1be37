"""Lengths: how long the replies of a task type are on a model, and what a longer cap may be expected to cost.

Replies are counted in classes of length, half an octave wide. A whole reply tells its length; a cut one tells only
that it would have been longer, so that the share of replies that reach a length is estimated as survival is
(Kaplan and Meier, 1958, https://doi.org/10.1080/01621459.1958.10501452): in each class, the whole replies that end
there, of all that came so far. Within a class, lengths are taken to be spread evenly. What is longer than
all that was seen runs on to its cap.

A reply is read as "longer than its cap" on the upper tier as on its own. A cap within a class is taken for that
class's end, for the replies that it cut itself are in the class too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Final

BOUNDS: Final = (
    0, 64, 91, 128, 181, 256, 362, 512, 724, 1_024, 1_448, 2_048, 2_896, 4_096, 5_793, 8_192, 11_585, 16_384, 23_170,
    32_768, 46_341, 65_536, 92_682, 131_072,
)  # fmt: skip
"""Where the classes of length end, in tokens; a class holds its upper bound. The last holds all that is longer."""

LEAST_REPLIES: Final = 20
"""Replies longer than a cap that must have been seen before they say anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Replies of one class of length."""

    whole: int = 0
    cut: int = 0
    """By their cap."""


Histogram = Mapping[int, Counts]
"""By the upper bound of the class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """The histograms that are known, by task type and model."""

    histograms: Mapping[tuple[str, str], Histogram] = field(default_factory=dict[tuple[str, str], Histogram])

    def beyond(self, task_type: str, model: str, *, cap: int, raised: int) -> "Beyond | None":
        """Return what is to be expected of a reply that is longer than `cap` where its cap is `raised`.

        None where too few such replies were seen.
        """
        return beyond(self.histograms.get((task_type, model), {}), cap=cap, raised=raised)


UNKNOWN_LENGTHS: Final = Lengths()
"""Nothing is known of any type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beyond:
    """Replies that are longer than a cap, under a raised one."""

    tokens: Fraction
    """How many they have on average, those that are cut again included."""
    whole: Fraction
    """The share of them that ends below the raised cap."""


def beyond(histogram: Histogram, *, cap: int, raised: int) -> Beyond | None:
    """Estimate the replies longer than `cap` under the cap `raised`.

    None where fewer than `LEAST_REPLIES` of them were seen.
    """
    longer = [(low, high) for low, high in pairwise(BOUNDS) if low >= cap]
    left = sum(_at(histogram, high).whole + _at(histogram, high).cut for _, high in longer)
    if left < LEAST_REPLIES:
        return None
    reach, tokens = Fraction(1), Fraction(min(longer[0][0], raised))
    for low, high in longer:
        if low >= raised:
            break
        if not left:
            tokens += (raised - low) * reach
            break
        counts = _at(histogram, high)
        width = min(high, raised) - low
        ends = Fraction(counts.whole, left) * Fraction(width, high - low)
        tokens += width * reach * (1 - ends / 2)
        reach *= 1 - ends
        left -= counts.whole + counts.cut
    return Beyond(tokens=tokens, whole=1 - reach)


_NONE: Final = Counts()


def _at(histogram: Histogram, high: int) -> Counts:
    return histogram.get(high, _NONE)
