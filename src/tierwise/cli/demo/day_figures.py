"""What the replayed days came to: each day's spend and verdicts, and each type's truth beside its last verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tierwise.audit.standings import Audit, Standing
from tierwise.audit.verdicts import Verdict
from tierwise.audit.waste import needless_spend
from tierwise.core.policy import Policy
from tierwise.engine.purse import days_of
from tierwise.engine.standing import audit_of
from tierwise.errors import PolicyProblem
from tierwise.money import Nanos
from tierwise.sandbox.fleet import Fleet, TaskType
from tierwise.stores.ledger.pairs import DAY_US, is_audit, spend
from tierwise.stores.ledger.query import Reader
from tierwise.stores.ledger.reports import report

DOWN: Final = frozenset({Verdict.PROVISIONAL, Verdict.PROVEN})
"""Verdicts by which a type goes to the cheaper tier."""


class Answer(StrEnum):
    """What a verdict is, held against the truth."""

    FOUND = "found"
    """The type is on the wrong tier, and the verdict says so."""
    MISSED = "not yet"
    """The type is on the wrong tier, and no verdict says so."""
    LEFT = "left"
    """The type is on the right tier, and stays."""
    WRONG = "wrong"
    """The type is on the right tier, and the verdict asks for the other one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A verdict that is another one than the evening before."""

    task_type: str
    before: str
    now: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DayFigures:
    """One day."""

    number: int
    """From 1 on."""
    tasks: int
    calls: int
    """Of the fleet, without the audit's own."""
    spend_nanos: Nanos
    """The fleet's, without the audit's own."""
    audit_nanos: Nanos
    verdicts: Mapping[str, str]
    """Of each task type that was compared, in the evening."""
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundType:
    """One task type, after the last day."""

    name: str
    tier: str
    """The one that its team chose."""
    needs: str
    """The one that it needs, by the fleet's file."""
    verdict: str
    pairs: int
    answer: Answer
    found_on_day: int | None
    """The day since whose evening the verdict that moves the type has stood; None where none stands."""
    needless_nanos: Nanos | None
    """What it costs too much a day on the dearer tier: of the first day's tokens at that tier's model, the part that
    the cheaper one saves by the type's pairs. None where they do not say, and of a type on the cheaper tier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DaysFigures:
    """What the demo shows of many days."""

    seed: int
    agents: int
    seconds: float
    days: tuple[DayFigures, ...]
    types: tuple[FoundType, ...]
    """Those with the most needless spend first."""
    provider_nanos: Nanos
    """What the provider counted that it would bill, for all calls."""
    policy_diff: str
    """What the verdicts ask for in the policy file."""
    moves: tuple[tuple[str, str, str, str], ...]
    """The same: type, tier, other tier, and why."""
    stuck: tuple[PolicyProblem, ...]
    """What is in the way of moves that the verdicts ask for too."""

    @property
    def spend_nanos(self) -> Nanos:
        """The fleet's, on all days."""
        return sum(day.spend_nanos for day in self.days)

    @property
    def audit_nanos(self) -> Nanos:
        """The audit's own, on all days."""
        return sum(day.audit_nanos for day in self.days)

    @property
    def audit_share(self) -> float:
        """The audit's part of the fleet's spend."""
        return self.audit_nanos / self.spend_nanos if self.spend_nanos else 0.0

    @property
    def overpaid_nanos(self) -> Nanos:
        """The needless spend a day of all types that do not need their tier, by their pairs."""
        return sum(one.needless_nanos or 0 for one in self._overclassified)

    @property
    def found_nanos(self) -> Nanos:
        """The part of it that was found."""
        return sum(one.needless_nanos or 0 for one in self._overclassified if one.answer is Answer.FOUND)

    @property
    def found_share(self) -> float | None:
        """The same as a share; None where nothing is overpaid."""
        return self.found_nanos / self.overpaid_nanos if self.overpaid_nanos else None

    @property
    def wrong(self) -> tuple[str, ...]:
        """The types that a verdict wants on a tier that is not theirs."""
        return tuple(one.name for one in self.types if one.answer is Answer.WRONG)

    @property
    def taken_back(self) -> tuple[str, ...]:
        """The types that need their tier, were on the cheaper one for a time, and are back."""
        left = (one.name for one in self.types if one.needs == "frontier" and one.answer is Answer.LEFT)
        return tuple(name for name in left if any(day.verdicts.get(name) in DOWN for day in self.days))

    @property
    def agree(self) -> bool:
        """Whether ledger and provider agree to the nanodollar."""
        return self.spend_nanos + self.audit_nanos == self.provider_nanos

    @property
    def _overclassified(self) -> list[FoundType]:
        return [one for one in self.types if (one.tier, one.needs) == ("frontier", "fast")]


def day_figures(
    ledger: Reader,
    policy: Policy,
    *,
    at_us: int,
    day: int,
    number: int,
    tasks: int,
    before: Mapping[str, str],
) -> DayFigures:
    """Read what a day came to, in its evening.

    Args:
        ledger: to read.
        policy: of the days.
        at_us: the time of the evening.
        day: in days since 1970.
        number: of the day, from 1 on.
        tasks: how many were done.
        before: the verdicts of the evening before.
    """
    spent = [one for one in spend(ledger, since_day=day) if one.day == day]
    total = days_of(spent)[0]
    verdicts = {
        name: one.verdict.value for name, one in _by_type(audit_of(ledger, policy, at_us=at_us)).items()
    }
    return DayFigures(
        number=number,
        tasks=tasks,
        calls=sum(one.calls for one in spent if not is_audit(one)),
        spend_nanos=total.spend_nanos,
        audit_nanos=total.audit_nanos,
        verdicts=verdicts,
        changes=tuple(
            Change(task_type=name, before=before.get(name, Verdict.TOO_EARLY.value), now=verdict)
            for name, verdict in verdicts.items()
            if verdict != before.get(name, Verdict.TOO_EARLY.value)
        ),
    )


def found_types(
    ledger: Reader, policy: Policy, fleet: Fleet, days: Sequence[DayFigures], *, at_us: int, first_day: int
) -> tuple[FoundType, ...]:
    """Hold the last evening's verdicts against what the fleet's file planted.

    Args:
        ledger: to read.
        policy: of the days.
        fleet: knows the truth.
        days: all of them.
        at_us: the time of the last evening.
        first_day: in days since 1970.
    """
    standings = _by_type(audit_of(ledger, policy, at_us=at_us))
    first = report(ledger, since_us=first_day * DAY_US, until_us=(first_day + 1) * DAY_US)
    costs = {line.key: line.totals.at_frontier_nanos or 0 for line in first.lines}
    found = [
        _found(name, kind, standings.get(name), days, dear_nanos=costs.get(name, 0))
        for name, kind in fleet.types.items()
    ]
    return tuple(sorted(found, key=lambda one: (-(one.needless_nanos or 0), one.name)))


def _found(
    name: str,
    kind: TaskType,
    standing: Standing | None,
    days: Sequence[DayFigures],
    *,
    dear_nanos: Nanos,
) -> FoundType:
    verdict = Verdict.TOO_EARLY if standing is None else standing.verdict
    moving = DOWN if kind.tagged_tier == "frontier" else {Verdict.NEEDED}
    needless = None
    if standing is not None and kind.tagged_tier == "frontier":
        amount = needless_spend(standing.line.costs, dear_spend_nanos=dear_nanos)
        needless = None if amount is None else amount.nanos
    return FoundType(
        name=name,
        tier=kind.tagged_tier,
        needs=kind.needs,
        verdict=verdict.value,
        pairs=0 if standing is None else standing.line.pairs,
        answer=_answer(moves=verdict in moving, should=kind.tagged_tier != kind.needs),
        found_on_day=_since(name, {one.value for one in moving}, days),
        needless_nanos=needless,
    )


def _answer(*, moves: bool, should: bool) -> Answer:
    if moves:
        return Answer.FOUND if should else Answer.WRONG
    return Answer.MISSED if should else Answer.LEFT


def _since(name: str, moving: set[str], days: Sequence[DayFigures]) -> int | None:
    """The first day of the last ones in a row on which the verdict was one of these."""
    since = None
    for day in days:
        since = (since or day.number) if day.verdicts.get(name) in moving else None
    return since


def _by_type(audit: Audit) -> dict[str, Standing]:
    """Each type's line with the most at stake."""
    return {one.line.task_type: one for one in reversed(audit.standings)}
