"""Ranking: task types by what a further dollar on the dearer tier buys, and whether they differ in that at all.

Where all types are known to differ no more than the margin, an order among them would be one of chance: there is no
routable gap, and no order is given.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tierwise.audit.counts import Counts
from tierwise.audit.splitting import Gap, routable_gap
from tierwise.audit.standings import Standing
from tierwise.audit.verdicts import CHECKED_MARGIN
from tierwise.audit.waste import rank_by_value


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """All lines, held against each other."""

    gap: Gap | None
    """None while any of them has pairs that nobody could grade."""
    places: Mapping[str, int] = field(default_factory=dict[str, int])
    """Of each line whose value is known, from 1, where a further dollar buys most."""


def rank(standings: Sequence[Standing], *, alpha: float) -> Ranking:
    """Hold lines against each other; `alpha` is the chance that a gap is seen where there is none."""
    gap = _gap(standings, alpha)
    if gap is Gap.NONE:
        return Ranking(gap=gap)
    best_first = rank_by_value(one.value for one in standings if one.value is not None)
    return Ranking(gap=gap, places={found.line: place for place, found in enumerate(best_first, start=1)})


def _gap(standings: Sequence[Standing], alpha: float) -> Gap | None:
    """Whether types differ on any two tiers; only lines on the same two say anything of types."""
    if any(one.line.undecided for one in standings):
        return None
    by_tiers: dict[tuple[str, str], dict[str, Counts]] = {}
    for one in standings:
        by_tiers.setdefault(one.line.tiers, {})[one.line.line] = one.line.counts
    several = [types for types in by_tiers.values() if len(types) > 1]
    found = {routable_gap(types, margin=CHECKED_MARGIN, alpha=alpha / len(several)) for types in several}
    if Gap.ROUTABLE in found:
        return Gap.ROUTABLE
    return Gap.NONE if found == {Gap.NONE} else Gap.UNKNOWN
