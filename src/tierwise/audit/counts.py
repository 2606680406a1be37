"""Counts: all that a pair leaves behind, for the evidence depends on nothing else, not even on the order.

A pair's outcome is D, the cheaper tier's quality minus the dearer's, between -1 and 1. Counts of two processes
add up. They belong to one line of evidence; whatever could change the truth behind them is part of its key.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from typing import Protocol, TypeAlias

Cell: TypeAlias = tuple[float, int]
"""A value, and how many observations had it."""


class Tally(Protocol):
    """Observations counted by value."""

    @property
    def low(self) -> float:
        """The smallest value an observation can have."""
        ...

    @property
    def high(self) -> float:
        """The largest value an observation can have."""
        ...

    def cells(self) -> Sequence[Cell]:
        """Every value that occurs, with its count."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Pairs whose outcome is one of three: the cheaper tier did worse, as well, or better."""

    worse: int = 0
    same: int = 0
    better: int = 0

    def __post_init__(self) -> None:
        assert min(self.worse, self.same, self.better) >= 0

    def __add__(self, other: "Counts") -> "Counts":
        """Merge the pairs of two processes on the same line of evidence."""
        return Counts(
            worse=self.worse + other.worse, same=self.same + other.same, better=self.better + other.better
        )

    @property
    def pairs(self) -> int:
        """How many pairs there are."""
        return self.worse + self.same + self.better

    @property
    def low(self) -> float:
        """The smallest difference."""
        return -1.0

    @property
    def high(self) -> float:
        """The largest difference."""
        return 1.0

    def cells(self) -> Sequence[Cell]:
        """The three differences and their counts."""
        return ((-1.0, self.worse), (0.0, self.same), (1.0, self.better))


@dataclass(frozen=True, slots=True, kw_only=True)
class GradedCounts:
    """Pairs whose outcome is graded in equal steps from -1 to 1: five counts for -1, -½, 0, ½, 1."""

    counts: tuple[int, ...]
    """One count for each grade, from -1 up. An odd number of them, at least three."""

    def __post_init__(self) -> None:
        assert len(self.counts) >= 3
        assert len(self.counts) % 2 == 1
        assert min(self.counts) >= 0

    def __add__(self, other: "GradedCounts") -> "GradedCounts":
        """Merge the pairs of two processes on the same line of evidence."""
        return GradedCounts(
            counts=tuple(mine + its for mine, its in zip(self.counts, other.counts, strict=True))
        )

    @property
    def pairs(self) -> int:
        """How many pairs there are."""
        return sum(self.counts)

    @property
    def low(self) -> float:
        """The smallest difference."""
        return -1.0

    @property
    def high(self) -> float:
        """The largest difference."""
        return 1.0

    def cells(self) -> Sequence[Cell]:
        """Every grade and its count."""
        half = len(self.counts) // 2
        return tuple((place / half - 1, count) for place, count in enumerate(self.counts))


def observations(tally: Tally) -> int:
    """How many observations are counted."""
    return sum(count for _, count in tally.cells())


def mean_of(tally: Tally) -> float | None:
    """The mean of the observations; None where there are none."""
    count = observations(tally)
    return sum(value * times for value, times in tally.cells()) / count if count else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One side of a pair: a tier as it is at the time. Effort and a cap's instruction make another arm."""

    tier: str
    model: str
    effort: str | None = None
    budget: str | None = None
    """The length instruction that goes with the type on this tier, if any: always None in this version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineKey:
    """A line of evidence: pairs that have one truth. Any difference in it opens new evidence from nothing.

    This version knows no versions of judges and prompts, and opens no line after drift: those fields keep their
    defaults.
    """

    task_type: str
    dear: Arm
    """The tier that costs more."""
    cheap: Arm
    check_version: str | None = None
    judge_version: str | None = None
    prompt_version: str | None = None
    opening: int = 0
    """How often this line was opened anew though nothing in it changed: after drift."""

    @property
    def id(self) -> str:
        """32 hexadecimal digits, the same in every process."""
        return blake2b(repr(list(self.parts)).encode(), digest_size=16).hexdigest()

    @property
    def parts(self) -> tuple[tuple[str, str | int | None], ...]:
        """All that it consists of, by name and in order, with arms by their sides: `dear.tier`."""
        arms = [
            (f"{side}.{field.name}", getattr(arm, field.name))
            for side, arm in (("dear", self.dear), ("cheap", self.cheap))
            for field in fields(Arm)
        ]
        return (
            ("task_type", self.task_type),
            *arms,
            ("check_version", self.check_version),
            ("judge_version", self.judge_version),
            ("prompt_version", self.prompt_version),
            ("opening", self.opening),
        )
