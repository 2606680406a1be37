"""Recorded pairs: what pairs of any origin say of each task type, with no policy, no traffic and no ledger.

Quality lies between 0 and 1, so a pair's difference D lies between -1 and 1, and may be a fraction. The bets need no
more than that: a capital that is staked on bounded differences is fair at the margin whatever values they take
(Waudby-Smith & Ramdas, arXiv 2010.09686). Differences are counted on a grid of 1/1200, on which halves, thirds, tenths
and hundredths lie exactly. One that lies between two points of it counts at the lower one where "safe" is claimed and
at the upper one where "needed" is, and so does one that is known within bounds alone: each capital is at most what the
true differences would give.

Each cluster must come once: `tierwise.engine.offline` sees to it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, floor, inf
from typing import Final

from tierwise.audit.confidence import Interval, lower_bound, upper_bound
from tierwise.audit.counts import Cell, Counts, Tally, observations
from tierwise.audit.evidence import growth, log_needed, log_safe, threshold
from tierwise.audit.posterior import probability_above
from tierwise.audit.selection import bar, select
from tierwise.audit.verdicts import Findings, Rules, Verdict, next_verdict
from tierwise.audit.waste import Amount, PairedCosts, one_pair, saved_per_task
from tierwise.money import Nanos

MICROS: Final = 10**6
"""Quality is read to a millionth."""

GRID: Final = 1200
"""Steps of the grid in one whole point of quality."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One task done by both tiers."""

    low_micros: int
    """The smallest that its difference in quality can be, in millionths."""
    high_micros: int
    """The largest. The same where both qualities are known."""
    dear_nanos: Nanos | None
    cheap_nanos: Nanos | None


@dataclass(frozen=True, slots=True)
class Grid:
    """Differences counted on the grid, by steps from -1200 to 1200."""

    steps: Mapping[int, int]

    @property
    def low(self) -> float:
        """The smallest difference."""
        return -1.0

    @property
    def high(self) -> float:
        """The largest difference."""
        return 1.0

    def cells(self) -> Sequence[Cell]:
        """The differences that occur, and their counts."""
        return tuple((step / GRID, count) for step, count in self.steps.items())


@dataclass(slots=True, kw_only=True)
class Recorded:
    """All pairs of one task type, added up: its size does not grow with their number."""

    at_worst: Counter[int] = field(default_factory=Counter[int])
    at_best: Counter[int] = field(default_factory=Counter[int])
    undecided: int = 0
    """Pairs of which a quality is unknown: they count against either claim."""
    difference_micros: int = 0
    """Sum of the known differences."""
    costs: PairedCosts = field(default_factory=PairedCosts)
    """Of the pairs whose costs are both known."""
    left_out: int = 0
    """Further pairs of clusters that have theirs."""

    @property
    def pairs(self) -> int:
        """How many there are, undecided ones too."""
        return self.at_worst.total()

    @property
    def for_safe(self) -> Tally:
        """The differences, each at its lower end."""
        return Grid(self.at_worst)

    @property
    def for_needed(self) -> Tally:
        """The differences, each at its upper end."""
        return Grid(self.at_best)

    @property
    def mean(self) -> float | None:
        """The mean of the known differences; None where there are none."""
        known = self.pairs - self.undecided
        return self.difference_micros / MICROS / known if known else None

    def add(self, pair: Compared) -> None:
        """Count one pair more."""
        self.at_worst[floor_step(pair.low_micros)] += 1
        self.at_best[-floor_step(-pair.high_micros)] += 1
        if pair.low_micros == pair.high_micros:
            self.difference_micros += pair.low_micros
        else:
            self.undecided += 1
        if pair.dear_nanos is not None and pair.cheap_nanos is not None:
            self.costs += one_pair(dear_nanos=pair.dear_nanos, cheap_nanos=pair.cheap_nanos)


@dataclass(frozen=True, slots=True, kw_only=True)
class Concluded:
    """What the pairs of one task type say."""

    task_type: str
    recorded: Recorded
    verdict: Verdict
    interval: Interval
    """Of the mean difference, valid at every look; undecided pairs widen it on both sides."""
    probability_safe: float
    saved: Amount | None
    """What a task costs less on the cheaper tier, with its 90 % interval; None with fewer than two known costs."""
    more_pairs: int | None
    """About how many more a verdict takes if the mean stays what it is; None where there is one, or none in sight."""


def conclude(types: Mapping[str, Recorded], *, margin: float, alpha: float) -> tuple[Concluded, ...]:
    """Look at all task types at once, those with the largest saving over their pairs first.

    Claims "safe" are declared together, by e-BH over all types; "needed" is tested for each by itself.

    Args:
        types: their pairs, each cluster once.
        margin: the loss of quality that counts as none.
        alpha: the expected share of wrong claims, and the chance of each "needed" to be wrong.
    """
    live = {name: log_safe(found.for_safe, margin=margin) for name, found in types.items()}
    proven = select(live, frozen={}, alpha=alpha).proven
    ask = bar(lines=max(1, len(types)), declared=len(proven), alpha=alpha)
    concluded = [
        _conclude(name, found, margin=margin, alpha=alpha, selected=name in proven, gap=ask - live[name])
        for name, found in types.items()
    ]
    return tuple(sorted(concluded, key=_rank))


def coins(tally: Tally) -> Counts:
    """The differences as losses and gains of a whole point with the same mean.

    Of all pairs with one mean those that pass or fail spread the most, so a posterior of these counts is no bolder
    than the differences allow. Fractions of a pair are rounded against the cheaper tier.
    """
    number = observations(tally)
    worse = min(number, ceil(sum(max(0.0, -value) * count for value, count in tally.cells()) - 1e-9))
    better = min(number - worse, floor(sum(max(0.0, value) * count for value, count in tally.cells()) + 1e-9))
    return Counts(worse=worse, same=number - worse - better, better=better)


def floor_step(micros: int) -> int:
    """The point of the grid at or below a difference; a millionth above it is forgiven, for it may be rounding."""
    return (micros + 1) * GRID // MICROS


def _rank(found: Concluded) -> tuple[Nanos, str]:
    costs = found.recorded.costs
    return costs.cheap_nanos - costs.dear_nanos, found.task_type


def _conclude(
    name: str, found: Recorded, *, margin: float, alpha: float, selected: bool, gap: float
) -> Concluded:
    probability = probability_above(coins(found.for_safe), -margin)
    evidence = log_needed(found.for_needed, margin=margin)
    interval = Interval(
        low=lower_bound(found.for_safe, alpha=alpha / 2, margin=margin),
        high=upper_bound(found.for_needed, alpha=alpha / 2, margin=margin),
    )
    findings = Findings(
        on_dear=True,
        probability_safe=probability,
        log_needed=evidence,
        selected=selected,
        worth=not _too_close(interval, margin),
        pairs=found.pairs,
        margin=margin,
    )
    verdict = next_verdict(Verdict.TOO_EARLY, findings, rules=Rules(alpha=alpha))
    settled = verdict in {Verdict.PROVEN, Verdict.NEEDED, Verdict.TOO_CLOSE}
    return Concluded(
        task_type=name,
        recorded=found,
        verdict=verdict,
        interval=interval,
        probability_safe=probability,
        saved=saved_per_task(found.costs),
        more_pairs=None if settled else _more(found, gap, threshold(alpha) - evidence, margin),
    )


def _too_close(interval: Interval, margin: float) -> bool:
    """Whether the loss is known to lie within half a margin of the margin: either answer would hardly matter."""
    return interval.low >= -1.5 * margin and interval.high <= -0.5 * margin


def _more(found: Recorded, gap_safe: float, gap_needed: float, margin: float) -> int | None:
    mean = found.mean
    if mean is None:
        return None
    above = mean > -margin
    tally, gap = (found.for_safe, gap_safe) if above else (found.for_needed, gap_needed)
    number = observations(tally)
    chances = [(value, count / number) for value, count in tally.cells()]
    gain = growth(chances, mean=-margin, low=-1.0, high=1.0, above=above)
    pairs = max(0.0, gap) / gain if gain > 0 else inf
    return ceil(pairs) if pairs < MOST_MORE else None


MOST_MORE: Final = 10_000_000
"""Beyond so many, no verdict is in sight."""
