"""Tasks: what finished tasks cost on each of two tiers, with every attempt, turn and escalation, and how they came out.

Calls are gathered into tasks by the names that callers gave: those of a task, else those of a run, else the attempts at
one request. A task belongs to the tier of its first call, for a conversation keeps that; what an escalation costs
elsewhere is its cost too. Tasks of one run resemble each other, so a run is one observation, however many tasks it has:

    mean = Σ w y / Σ w,      error² = G / (G - 1) · Σ_runs (Σ_run w (y - mean))² / (Σ w)²

Two tiers' tasks are not the same tasks. Where the autopilot draws the tier of each run by a hash, they differ by chance
alone; each then weighs one over the probability of its draw, so that a share that moved confounds nothing. Elsewhere
they may differ by whatever sent them to their tiers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import exp, sqrt
from typing import Final, TypeAlias

from tierwise.audit.waste import Ratio, student
from tierwise.core.ledger import Outcome
from tierwise.money import Nanos

FEWEST: Final = 20
"""Finished tasks of known cost below which a tier's cost is not known."""
FEWEST_RUNS: Final = 10
"""Runs below which it is not: fewer say little of how much they differ."""
MOST_UNKNOWN: Final = 0.1
"""The part of a tier's tasks whose cost may be unknown: it is the broken ones that are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One call that a caller made, as far as tasks go."""

    call_id: str
    at_us: int
    ended_us: int | None
    """None where it has no ending: its task is not over, or nobody will ever say what it cost."""
    task_type: str
    tier: str
    model: str
    """That was decided."""
    task_id: str | None
    run_id: str | None
    key_id: str | None
    first_call_id: str | None
    probability: float
    """With which its tier was drawn; 1 where it was not."""
    cost_nanos: Nanos | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One finished task."""

    task_type: str
    tier: str
    """Of its first call; `model` and `probability` are too."""
    model: str
    probability: float
    at_us: int
    """When its first call was read."""
    run: str
    """Names what it resembles other tasks of."""
    cost_nanos: Nanos | None
    """Of all its calls; None where that of any is unknown."""
    quality: float | None
    """As it was told; None where it was not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """The finished tasks of one tier."""

    tasks: int
    """Of known cost."""
    unknown_cost: int
    runs: int
    cost: "Estimate | None"
    """Nanodollars a task."""
    told: int
    """Tasks whose outcome was told."""
    quality: "Estimate | None"

    @property
    def is_enough(self) -> bool:
        """Whether its cost is known well enough to compare."""
        every = self.tasks + self.unknown_cost
        return self.tasks >= FEWEST and self.runs >= FEWEST_RUNS and self.unknown_cost <= MOST_UNKNOWN * every


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean over tasks, and its standard error over runs."""

    mean: float
    error: float
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How much more of the cheaper tier's tasks came out well, and its interval at one look."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCosts:
    """The finished tasks of both tiers, side by side."""

    dear: Side
    cheap: Side
    drawn: bool
    """Whether chance alone sent each to its tier."""

    @property
    def tasks(self) -> int:
        """How many there are whose cost is known."""
        return self.dear.tasks + self.cheap.tasks

    def ratio(self, *, alpha: float = 0.1) -> Ratio | None:
        """What a task on the cheaper tier costs for each dollar of one on the dearer; None without enough tasks."""
        return _ratio(self.cheap, self.dear, alpha) if self._are_enough else None

    def reverse(self, *, alpha: float = 0.1) -> Ratio | None:
        """The same the other way round."""
        return _ratio(self.dear, self.cheap, alpha) if self._are_enough else None

    def difference(self, *, alpha: float = 0.1) -> Difference | None:
        """How the outcomes differ; None unless enough of either tier were told."""
        dear, cheap = self.dear.quality, self.cheap.quality
        if min(self.dear.told, self.cheap.told) < FEWEST or dear is None or cheap is None:
            return None
        reach = _reach(dear.error, dear.runs, cheap.error, cheap.runs, alpha)
        value = cheap.mean - dear.mean
        return Difference(value=value, low=max(-1.0, value - reach), high=min(1.0, value + reach))

    @property
    def _are_enough(self) -> bool:
        return self.dear.is_enough and self.cheap.is_enough


def finished(
    calls: Iterable[Made],
    outcomes: Iterable[Outcome],
    *,
    until_us: int,
    idle_us: int,
    whole_since_us: int = 0,
) -> list[Task]:
    """Gather calls into tasks, those that are finished: their outcome was told, or nothing came of them for a while.

    Args:
        calls: in any order.
        outcomes: in the order in which they were told; of one task or run the latest counts.
        until_us: now, in microseconds since 1970 UTC.
        idle_us: how long after its last call a task is over.
        whole_since_us: from when on all calls are here; a task that may have begun before is left out.
    """
    told = _told(outcomes)
    ordered = sorted(calls, key=lambda call: (*_key(call), *_place(call)))
    found = (_task(list(made), told, until_us, idle_us) for _, made in groupby(ordered, key=_key))
    return [task for task in found if task is not None and task.at_us >= whole_since_us]


def compare(tasks: Sequence[Task], *, dear: str, cheap: str) -> TaskCosts:
    """Hold two tiers' tasks of one type against each other: those that were drawn, if they are enough.

    Args:
        tasks: of one type, of the models that the tiers have.
        dear: the dearer tier's name.
        cheap: the cheaper one's.
    """
    by_tier = [[task for task in tasks if task.tier == tier] for tier in (dear, cheap)]
    drawn = TaskCosts(
        dear=_side([task for task in by_tier[0] if task.probability < 1]),
        cheap=_side([task for task in by_tier[1] if task.probability < 1]),
        drawn=True,
    )
    if drawn.ratio() is not None:
        return drawn
    return TaskCosts(dear=_side(by_tier[0], weighs=False), cheap=_side(by_tier[1], weighs=False), drawn=False)


_Key: TypeAlias = tuple[str, str, str, str, str]
_About: TypeAlias = tuple[str | None, str | None, str | None]
"""Run, task and the caller to whom it is confined."""


def _key(call: Made) -> _Key:
    """What calls of one task have in common. Two callers' runs are two runs, whatever they are called."""
    if call.task_id is None and call.run_id is None:
        return (call.task_type, "call", call.first_call_id or call.call_id, "", "")
    return (call.task_type, "task", call.key_id or "", call.run_id or "", call.task_id or "")


def _place(call: Made) -> tuple[int, bool, str]:
    """Where it stands in its task: before the further attempts at the same request."""
    return (call.at_us, call.first_call_id is not None, call.call_id)


def _told(outcomes: Iterable[Outcome]) -> Mapping[_About, tuple[int, Outcome]]:
    return {
        (outcome.run_id, outcome.task_id, outcome.key_id): (place, outcome)
        for place, outcome in enumerate(outcomes)
    }


def _task(
    calls: Sequence[Made], told: Mapping[_About, tuple[int, Outcome]], until_us: int, idle_us: int
) -> Task | None:
    first, last = calls[0], calls[-1]
    outcome = _outcome(first, told)
    over = outcome is not None and outcome.at_us >= last.at_us
    ended_us = max(call.ended_us if call.ended_us is not None else call.at_us for call in calls)
    if not over and ended_us > until_us - idle_us:
        return None
    costs = [call.cost_nanos for call in calls if call.cost_nanos is not None]
    return Task(
        task_type=first.task_type,
        tier=first.tier,
        model=first.model,
        probability=first.probability,
        at_us=first.at_us,
        run=f"{first.key_id or ''}\0{first.run_id or first.task_id or first.first_call_id or first.call_id}",
        cost_nanos=sum(costs) if len(costs) == len(calls) else None,
        quality=None if outcome is None else outcome.quality,
    )


def _outcome(call: Made, told: Mapping[_About, tuple[int, Outcome]]) -> Outcome | None:
    """What was told of a task: the latest of its own, else of its run's, of those that may be about its caller."""
    own: list[_About] = []
    if call.task_id is not None:
        own = [(run, call.task_id, key) for run in {call.run_id, None} for key in {call.key_id, None}]
    runs: list[_About] = []
    if call.run_id is not None:
        runs = [(call.run_id, None, key) for key in {call.key_id, None}]
    for abouts in (own, runs):
        found = [told[about] for about in abouts if about in told]
        if found:
            return max(found, key=lambda each: each[0])[1]
    return None


def _side(tasks: Sequence[Task], *, weighs: bool = True) -> Side:
    known = [
        (task.run, _weight(task, weighs), float(task.cost_nanos))
        for task in tasks
        if task.cost_nanos is not None
    ]
    told = [(task.run, _weight(task, weighs), task.quality) for task in tasks if task.quality is not None]
    cost = _estimate(known)
    return Side(
        tasks=len(known),
        unknown_cost=len(tasks) - len(known),
        runs=0 if cost is None else cost.runs,
        cost=cost,
        told=len(told),
        quality=_estimate(told),
    )


def _weight(task: Task, weighs: bool) -> float:  # noqa: FBT001 — a helper's
    return 1 / task.probability if weighs else 1.0


def _estimate(values: Sequence[tuple[str, float, float]]) -> Estimate | None:
    """The weighted mean, with its error over runs; None without values of two runs."""
    whole = sum(weight for _, weight, _ in values)
    mean = sum(weight * value for _, weight, value in values) / whole if whole else 0.0
    residuals: dict[str, float] = {}
    for run, weight, value in values:
        residuals[run] = residuals.get(run, 0.0) + weight * (value - mean)
    runs = len(residuals)
    if runs < 2:
        return None
    squares = sum(residual**2 for residual in residuals.values())
    return Estimate(mean=mean, error=sqrt(runs / (runs - 1) * squares) / whole, runs=runs)


def _ratio(top: Side, bottom: Side, alpha: float) -> Ratio | None:
    """The ratio of two means, with its interval on the scale of logarithms, on which costs are less skewed."""
    over, under = top.cost, bottom.cost
    if over is None or under is None or over.mean <= 0 or under.mean <= 0:
        return None
    value = over.mean / under.mean
    reach = exp(_reach(over.error / over.mean, over.runs, under.error / under.mean, under.runs, alpha))
    return Ratio(value=value, low=value / reach, high=value * reach)


def _reach(one: float, its_runs: int, other: float, other_runs: int, alpha: float) -> float:
    """How far the interval of a difference reaches to either side, of two means with these errors (Welch 1947)."""
    squares = one**2 + other**2
    if not squares:
        return 0.0
    freedom = squares**2 / (one**4 / (its_runs - 1) + other**4 / (other_runs - 1))
    return student(1 - alpha / 2, max(1, int(freedom))) * sqrt(squares)
