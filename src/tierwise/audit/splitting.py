"""Splitting: whether groups of pairs have different truths, and what follows if they have, or have not.

Against "all groups have the same mean c" each group's pairs are bet on from both sides, and the average of all these
capitals is an e-value, whatever the groups share. The common mean is not known, so the smallest average over all c
counts:

    E = min_c  mean over groups of (E⁺(c) + E⁻(c)) / 2

E⁺ falls and E⁻ rises in c, both convexly, so the minimum is found by narrowing. The pieces are those of
Waudby-Smith & Ramdas, arXiv 2010.09686; averages of e-values are e-values (Vovk & Wang 2021).

Applied to task types it says whether there is anything to route by. Applied to groups within a type it says whether
the type is too coarse; a search through many ways of grouping asks for that many times the evidence.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import log
from typing import Final

from tierwise.audit.confidence import Interval, confidence
from tierwise.audit.counts import Counts, Tally, mean_of, observations
from tierwise.audit.evidence import log_above, log_below, mixture, stakes, threshold

NARROWINGS = 60
"""Each leaves two thirds of the range."""


MOST_GROUPS: Final = 8
"""Of one feature, that of all later values included."""
OTHERS: Final = "(others)"


class Gap(StrEnum):
    """Whether the tiers differ more on some task types than on others."""

    ROUTABLE = "routable"
    """They do, at the stated error."""
    NONE = "no routable gap"
    """As far as this margin matters they differ equally on all: routing by type has nothing to gain."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """One way to split a type: by a feature that was known before the task was done."""

    feature: str
    groups: Mapping[str, Counts]


@dataclass(slots=True)
class Groups:
    """Pairs counted by each feature's values.

    The first few values that occur are groups of their own, all later ones are one together: which group a pair
    belongs to is settled when it comes, and nothing is cut to fit.
    """

    features: dict[str, dict[str, Counts]] = field(default_factory=dict[str, dict[str, Counts]])

    def add(self, features: Sequence[tuple[str, str]], counts: Counts) -> None:
        """Count one pair more."""
        for feature, value in features:
            groups = self.features.setdefault(feature, {})
            name = value if value in groups or len(groups) < MOST_GROUPS - 1 else OTHERS
            groups[name] = groups.get(name, Counts()) + counts

    def groupings(self) -> list[Grouping]:
        """Every way to split the pairs that there is."""
        return [Grouping(feature=feature, groups=groups) for feature, groups in self.features.items()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One part of a split type."""

    name: str
    counts: Counts
    interval: Interval
    """Of its mean difference, for all groups at once and at all times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A proposal to make several types of one."""

    feature: str
    groups: tuple[Group, ...]
    """By their means, the one that needs the dearer tier most first."""
    log_e: float
    """The ln E against "all groups are alike"."""
    needed: float
    """What it had to reach: ln(searched / α)."""
    searched: int
    """How many groupings were looked through."""
    decisive: bool
    """Whether the intervals already lie on different sides of the margin; else only the means do."""


def log_different(groups: Sequence[Tally], *, margin: float) -> float:
    """The ln E against "all groups have the same mean", valid at all times; 0 without two that have pairs."""
    if sum(observations(group) > 0 for group in groups) < 2:
        return 0.0
    low, high = min(group.low for group in groups), max(group.high for group in groups)
    for _ in range(NARROWINGS):
        first, second = low + (high - low) / 3, high - (high - low) / 3
        if _against(groups, first, margin) <= _against(groups, second, margin):
            high = second
        else:
            low = first
    return _against(groups, (low + high) / 2, margin)


def routable_gap(types: Mapping[str, Tally], *, margin: float, alpha: float = 0.05) -> Gap:
    """Say whether types differ in what the dearer tier is worth.

    "No routable gap" asks for more than that nothing was found: each type's interval, all of them at once, must be
    narrower than twice the margin, and they must have a point in common.
    """
    tallies = list(types.values())
    if log_different(tallies, margin=margin) >= threshold(alpha):
        return Gap.ROUTABLE
    if len(tallies) < 2:
        return Gap.UNKNOWN
    intervals = [confidence(tally, alpha=alpha / len(tallies), margin=margin) for tally in tallies]
    narrow = all(interval.width <= 2 * margin for interval in intervals)
    common = max(interval.low for interval in intervals) <= min(interval.high for interval in intervals)
    return Gap.NONE if narrow and common else Gap.UNKNOWN


def propose_split(groupings: Iterable[Grouping], *, margin: float, alpha: float = 0.05) -> Split | None:
    """The best-proven way to split a type into groups that belong on different tiers, or None.

    `groupings` must be all that were looked at, also those that were given up early, and each threshold of a number
    is one: the evidence asked for is that many times 1 / α. A split whose groups all lie on the same side of the
    margin would change nothing, and is not proposed.
    """
    candidates = list(groupings)
    if not candidates:
        return None
    needed = log(len(candidates) / alpha)
    splits = [_split(one, margin, alpha, len(candidates), needed) for one in candidates]
    proven = [split for split in splits if split.log_e >= needed and _straddles(split, margin)]
    return max(proven, key=lambda split: (split.log_e, split.feature), default=None)


def _split(grouping: Grouping, margin: float, alpha: float, searched: int, needed: float) -> Split:
    full = {name: counts for name, counts in grouping.groups.items() if counts.pairs}
    each = alpha / (searched * max(1, len(full)))
    groups = tuple(
        Group(name=name, counts=counts, interval=confidence(counts, alpha=each, margin=margin))
        for name, counts in sorted(full.items(), key=lambda item: (_mean(item[1]), item[0]))
    )
    return Split(
        feature=grouping.feature,
        groups=groups,
        log_e=log_different(list(grouping.groups.values()), margin=margin),
        needed=needed,
        searched=searched,
        decisive=any(group.interval.high < -margin for group in groups)
        and any(group.interval.low > -margin for group in groups),
    )


def _straddles(split: Split, margin: float) -> bool:
    return _mean(split.groups[0].counts) <= -margin < _mean(split.groups[-1].counts)


def _mean(counts: Counts) -> float:
    return mean_of(counts) or 0.0


def _against(groups: Sequence[Tally], mean: float, margin: float) -> float:
    """The ln of the average capital of all bets against this common mean."""
    fractions = stakes(margin)
    sides = [log_above(group, mean=mean, fractions=fractions) for group in groups]
    sides += [log_below(group, mean=mean, fractions=fractions) for group in groups]
    return mixture(sides)
