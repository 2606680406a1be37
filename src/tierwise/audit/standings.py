"""Standings: what all pairs together say of each task type, what that is worth, and what more would take.

Evidence is computed from counts, anew at each look: the order of pairs and restarts change nothing. A pair whose
outcome nobody can say is taken at its worst: as a loss where the claim is "safe", as a gain where it is "needed".
So what is proven holds whatever the undecided pairs would have been.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from tierwise.audit.confidence import Interval, lower_bound, upper_bound
from tierwise.audit.counts import Counts
from tierwise.audit.evidence import log_needed, log_safe
from tierwise.audit.planner import Forecast, Goal, Prospect, forecast, is_worth_it
from tierwise.audit.posterior import probability_above
from tierwise.audit.selection import Selection, bar, select
from tierwise.audit.splitting import Groups
from tierwise.audit.tasks import Task, TaskCosts, compare
from tierwise.audit.verdicts import CHECKED_MARGIN, FINAL, Findings, Rules, Verdict, next_verdict
from tierwise.audit.waste import (
    Amount,
    Measured,
    PairedCosts,
    Ratio,
    Valued,
    extra_spend,
    needless_spend,
    one_pair,
    ratio,
    value_per_dollar,
)
from tierwise.core.ledger import Paired
from tierwise.money import Nanos

NONE_REMEMBERED: Final[Mapping[str, Verdict]] = MappingProxyType({})

PROVISIONAL_OR_FINAL: Final = frozenset({Verdict.PROVISIONAL, *FINAL})


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What a task type's own calls come to on a day."""

    calls: float
    spend_nanos: Nanos


@dataclass(slots=True, kw_only=True)
class Line:
    """One line of evidence: its pairs, counted."""

    line: str
    task_type: str
    parts: Mapping[str, str | int | None]
    on_dear: bool
    """Whether the latest pair's caller was on the dearer tier."""
    asks_down: bool = False
    """Whether any pair's caller was: the claim "safe" was then asked for, and counts among all that were."""
    counts: Counts = field(default_factory=Counts)
    """Of the pairs whose outcome is known."""
    undecided: int = 0
    costs: PairedCosts = field(default_factory=PairedCosts)
    """Of the pairs whose costs are both known."""
    hows: Counter[str] = field(default_factory=Counter[str])
    groups: Groups = field(default_factory=Groups)
    """Of the pairs whose outcome is known."""
    first_us: int = 0
    last_us: int = 0

    @property
    def pairs(self) -> int:
        """How many there are, undecided ones too."""
        return self.counts.pairs + self.undecided

    @property
    def for_safe(self) -> Counts:
        """The counts with undecided pairs at their worst for the claim "safe"."""
        return self.counts + Counts(worse=self.undecided)

    @property
    def for_needed(self) -> Counts:
        """The counts with undecided pairs at their worst for the claim "needed"."""
        return self.counts + Counts(better=self.undecided)

    @property
    def tiers(self) -> tuple[str, str]:
        """The names of the dearer and the cheaper tier."""
        return str(self.parts["dear.tier"]), str(self.parts["cheap.tier"])

    def add(self, pair: Paired) -> None:
        """Count one pair more."""
        self.asks_down |= pair.on_dear
        self.on_dear, self.last_us = pair.on_dear, max(self.last_us, pair.at_us)
        self.hows[pair.how] += 1
        if pair.dear_nanos is not None and pair.cheap_nanos is not None:
            self.costs += one_pair(dear_nanos=pair.dear_nanos, cheap_nanos=pair.cheap_nanos)
        match pair.difference:
            case None:
                self.undecided += 1
            case difference:
                one = Counts(worse=int(difference < 0), same=int(difference == 0), better=int(difference > 0))
                self.counts += one
                self.groups.add(pair.features, one)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known of one task type on two tiers."""

    line: Line
    verdict: Verdict
    margin: float
    interval: Interval
    """Of the quality difference, valid at every look; undecided pairs widen it on both sides."""
    probability_safe: float
    tasks: TaskCosts
    """The finished tasks of both tiers: with the models of the line, and since the last pair with other efforts."""
    by_tasks: bool
    """Whether what is at stake, and what a dollar buys, rest on them; else on the calls of the pairs."""
    stake: Amount | None
    """On the dearer tier, what the cheaper one would save a day; on the cheaper one, what the dearer would cost
    more. None with fewer than two pairs, and too few tasks."""
    value: Valued | None
    """What the dearer tier buys for a further dollar; None where a pair is undecided, or it is not dearer."""
    pair_nanos: Nanos | None
    """What the next pair costs; None where no pair's cost is known."""
    expected: Forecast | None
    """What the next verdict takes; None where none is expected within 90 days, or none is sought."""
    prospect: Prospect
    """The line as the planner sees it."""
    ratio: Ratio | None
    """What the cheaper tier costs for each dollar of the dearer one."""

    @property
    def costs_more(self) -> bool:
        """Whether the cheaper tier seems to be the dearer one in fact: by longer answers, more turns or retries."""
        return self.ratio is not None and self.ratio.value > 1

    @property
    def surely_costs_more(self) -> bool:
        """Whether it is beyond what its interval leaves open."""
        return self.ratio is not None and self.ratio.low > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """All standings, the largest stake first, and what is proven."""

    standings: tuple[Standing, ...]
    selection: Selection


def lines_of(pairs: Iterable[Paired]) -> dict[str, Line]:
    """Count pairs by line."""
    lines: dict[str, Line] = {}
    for pair in pairs:
        if pair.line not in lines:
            lines[pair.line] = Line(
                line=pair.line,
                task_type=pair.task_type,
                parts=dict(pair.line_parts),
                on_dear=pair.on_dear,
                first_us=pair.at_us,
            )
        lines[pair.line].add(pair)
    return lines


def selection_of(
    lines: Mapping[str, Line], frozen: Mapping[str, float], *, margins: Mapping[str, float], alpha: float
) -> Selection:
    """Say which lines are proven, among all of which "safe" was ever asked.

    Args:
        lines: all that there are, by their id.
        frozen: the ln E of lines that were declared, by their id.
        margins: of each task type, where it is not `CHECKED_MARGIN`.
        alpha: the expected share of wrong claims.
    """
    live = {
        name: log_safe(line.for_safe, margin=_margin(line, margins))
        for name, line in lines.items()
        if line.asks_down and name not in frozen
    }
    return select(live, frozen=frozen, alpha=alpha)


def stand(
    pairs: Iterable[Paired],
    frozen: Mapping[str, float],
    *,
    traffic: Mapping[str, Traffic],
    margins: Mapping[str, float],
    rules: Rules,
    remembered: Mapping[str, Verdict] = NONE_REMEMBERED,
    closed: frozenset[str] = frozenset(),
    tasks: Iterable[Task] = (),
) -> Audit:
    """Look at all evidence at once.

    Args:
        pairs: all that were ever made, in order.
        frozen: the ln E of lines that were declared, by their id.
        traffic: of each task type.
        margins: of each task type, where it is not `CHECKED_MARGIN`.
        rules: how much a verdict asks for.
        remembered: verdicts that traffic follows, by line: they are taken back later than they are reached.
        closed: lines of which an alarm said that they no longer hold.
        tasks: that are finished, of any types.
    """
    lines = lines_of(pairs)
    selection = selection_of(lines, frozen, margins=margins, alpha=rules.alpha)
    downs = sum(line.asks_down for line in lines.values())
    look = _Look(
        traffic=traffic,
        margins=margins,
        rules=rules,
        selection=selection,
        downs=downs,
        lines=lines,
        remembered=remembered,
        closed=closed,
        tasks=_by_type(tasks),
    )
    standings = [look.at(line) for line in _current(lines.values())]
    standings.sort(key=lambda one: (-(one.stake.nanos if one.stake else 0), one.line.task_type))
    return Audit(standings=tuple(standings), selection=selection)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What all lines are looked at with."""

    traffic: Mapping[str, Traffic]
    margins: Mapping[str, float]
    rules: Rules
    selection: Selection
    downs: int
    lines: Mapping[str, Line]
    remembered: Mapping[str, Verdict]
    closed: frozenset[str]
    tasks: Mapping[str, Sequence[Task]]

    def at(self, line: Line) -> Standing:
        margin = _margin(line, self.margins)
        costs = self._costs(line)
        prospect = self._prospect(line, margin, costs)
        verdict, probability = self._verdict(line, margin, prospect)
        if verdict is Verdict.TOO_EARLY and self._had_a_verdict(line):
            verdict = Verdict.REOPENED
        half = self.rules.alpha / 2
        return Standing(
            line=line,
            verdict=verdict,
            margin=margin,
            interval=Interval(
                low=lower_bound(line.for_safe, alpha=half, margin=margin),
                high=upper_bound(line.for_needed, alpha=half, margin=margin),
            ),
            probability_safe=probability,
            tasks=costs.tasks,
            by_tasks=costs.by_tasks,
            stake=self._stake(line, costs),
            value=_value(line, margin, costs),
            pair_nanos=prospect.pair_cost_nanos if line.costs.pairs else None,
            expected=None if verdict in FINAL or not line.costs.pairs else forecast(prospect),
            prospect=prospect,
            ratio=costs.down,
        )

    def _costs(self, line: Line) -> "_Costs":
        """What the tiers cost, by finished tasks where there are enough, else by the pairs."""
        dear, cheap = line.tiers
        models = {dear: line.parts.get("dear.model"), cheap: line.parts.get("cheap.model")}
        since_us = max(
            (other.last_us for other in self._earlier(line) if _arms(other) != _arms(line)), default=0
        )
        tasks = [
            task
            for task in self.tasks.get(line.task_type, ())
            if task.at_us > since_us and models.get(task.tier) == task.model
        ]
        found = compare(tasks, dear=dear, cheap=cheap)
        by_tasks = found.ratio(), found.reverse()
        if by_tasks[0] is None:
            return _Costs(tasks=found, by_tasks=False, down=ratio(line.costs), up=ratio(line.costs.reversed))
        return _Costs(tasks=found, by_tasks=True, down=by_tasks[0], up=by_tasks[1])

    def _stake(self, line: Line, costs: "_Costs") -> Amount | None:
        spend = self.traffic.get(line.task_type, Traffic(calls=0, spend_nanos=0)).spend_nanos
        if line.on_dear:
            return needless_spend(costs.down, dear_spend_nanos=spend)
        return extra_spend(costs.up, cheap_spend_nanos=spend)

    def _verdict(self, line: Line, margin: float, prospect: Prospect) -> tuple[Verdict, float]:
        probability = probability_above(line.for_safe, -margin)
        if line.line in self.closed:
            return Verdict.REOPENED, probability
        findings = Findings(
            on_dear=line.on_dear,
            probability_safe=probability,
            log_needed=log_needed(line.for_needed, margin=margin),
            selected=line.line in self.selection.proven,
            worth=is_worth_it(prospect),
            pairs=line.pairs,
            margin=margin,
        )
        before = self.remembered.get(line.line, Verdict.TOO_EARLY)
        return next_verdict(before, findings, rules=self.rules), probability

    def _had_a_verdict(self, line: Line) -> bool:
        """Whether an earlier line on the same tiers had one: something in its key has changed since."""
        earlier = self._earlier(line)
        margins = [_margin(other, self.margins) for other in earlier]
        found = [
            self._verdict(other, margin, self._prospect(other, margin, self._costs(other)))[0]
            for other, margin in zip(earlier, margins, strict=True)
        ]
        return any(verdict in PROVISIONAL_OR_FINAL or verdict is Verdict.REOPENED for verdict in found)

    def _earlier(self, line: Line) -> list[Line]:
        """The lines on the same type and tiers that came before."""
        return [
            other
            for other in self.lines.values()
            if _place(other) == _place(line) and other.line != line.line and other.last_us <= line.last_us
        ]

    def _prospect(self, line: Line, margin: float, costs: "_Costs") -> Prospect:
        traffic = self.traffic.get(line.task_type, Traffic(calls=0, spend_nanos=0))
        number = max(1, line.costs.pairs)
        other = line.costs.cheap_nanos if line.on_dear else line.costs.dear_nanos
        counts = line.for_safe if line.on_dear else line.for_needed
        proven = len(self.selection.proven)
        return Prospect(
            line=line.line,
            goal=self._goal(line, margin),
            counts=counts,
            margin=margin,
            log_safe=log_safe(line.for_safe, margin=margin),
            log_needed=log_needed(line.for_needed, margin=margin),
            bar=bar(lines=max(1, self.downs), declared=proven, alpha=self.rules.alpha),
            alpha=self.rules.alpha,
            tasks_a_day=traffic.calls,
            saving_nanos=_saving(line, costs),
            pair_cost_nanos=other // number,
            pairs_a_day=line.pairs / max(1.0, (line.last_us - line.first_us) / _DAY_US),
            likely=self.rules.likely,
            frees=self._frees(line),
        )

    def _frees(self, line: Line) -> float:
        """The part of the saving that a proof frees: of a type that goes down already, what is held back beyond."""
        acted = self.remembered.get(line.line) is Verdict.PROVISIONAL
        return self.rules.holdback - self.rules.watch if acted else 1.0

    def _goal(self, line: Line, margin: float) -> Goal:
        if not line.on_dear:
            return Goal.NEEDED
        likely = probability_above(line.for_safe, -margin) >= self.rules.likely
        return Goal.PROVEN if likely else Goal.PROVISIONAL


@dataclass(frozen=True, slots=True, kw_only=True)
class _Costs:
    """What one tier costs for each dollar of the other, and on what that rests."""

    tasks: TaskCosts
    by_tasks: bool
    down: Ratio | None
    """The cheaper one, for each dollar of the dearer."""
    up: Ratio | None
    """The dearer one, for each dollar of the cheaper."""


_DAY_US: Final = 86_400_000_000


def _margin(line: Line, margins: Mapping[str, float]) -> float:
    return margins.get(line.task_type, CHECKED_MARGIN)


def _by_type(tasks: Iterable[Task]) -> dict[str, list[Task]]:
    found: dict[str, list[Task]] = {}
    for task in tasks:
        found.setdefault(task.task_type, []).append(task)
    return found


def _saving(line: Line, costs: _Costs) -> Nanos:
    """What a call costs less on the cheaper tier."""
    pairs = line.costs
    if costs.by_tasks and costs.down is not None:
        return round(pairs.dear_nanos * (1 - costs.down.value) / max(1, pairs.pairs))
    return (pairs.dear_nanos - pairs.cheap_nanos) // max(1, pairs.pairs)


def _value(line: Line, margin: float, costs: _Costs) -> Valued | None:
    if line.undecided:
        return None
    by_tasks = costs.down.value if costs.by_tasks and costs.down is not None else None
    return value_per_dollar(
        Measured(line=line.line, counts=line.counts, costs=line.costs, margin=margin, ratio=by_tasks)
    )


def _place(line: Line) -> tuple[str, str, str]:
    return (line.task_type, *line.tiers)


def _arms(line: Line) -> list[str | int | None]:
    """What the two tiers were then."""
    return [part for name, part in line.parts.items() if name.startswith(("dear.", "cheap."))]


def _current(lines: Iterable[Line]) -> Sequence[Line]:
    """The latest line of each task type on each pair of tiers."""
    latest: dict[tuple[str, str, str], Line] = {}
    for line in lines:
        if _place(line) not in latest or latest[_place(line)].last_us <= line.last_us:
            latest[_place(line)] = line
    return tuple(latest.values())
