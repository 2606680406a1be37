"""Verdicts: a closed set of them, and a table of what leads from one to another.

A verdict that may be taken back asks for less than one that is held to be true. *Provisional* rests on a
posterior, *proven* on evidence that holds however often one looks. In simulated fleets, where traffic follows the
verdicts and a random part of it goes on comparing, the two steps together cost half of what waiting for proof costs,
and end with as few wrong claims. "Needed" is tested for each type by itself, since a wrong one costs only savings.

`standings` takes one step at each look: from the verdict that traffic follows, where the autopilot acts on one, else
from "too early". Only what was declared proven is remembered otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import ceil, log
from typing import Final

from tierwise.audit.evidence import threshold

CHECKED_MARGIN: Final = 0.03
"""The loss of quality that counts as none, for types with an exact check: 3 points of pass rate."""


class Verdict(StrEnum):
    """What the audit says of a task type on a pair of tiers."""

    TOO_EARLY = "too early"
    PROVISIONAL = "provisional"
    """The cheaper tier probably loses less than the margin; the next look may say otherwise."""
    PROVEN = "proven"
    """The cheaper tier loses less than the margin."""
    NEEDED = "needed"
    """The cheaper tier loses more than the margin."""
    TOO_CLOSE = "too close"
    """Telling would cost more than it is worth."""
    REOPENED = "re-opened"
    """It had a verdict, and the truth may have changed since."""


class Event(StrEnum):
    """What moves a verdict."""

    CHANGED = "changed"
    """Something in the line's key is another one: the line of evidence is new."""
    DRIFTED = "drifted"
    """A detector alarmed."""
    REFUTED = "refuted"
    """The evidence that the dearer tier is needed suffices."""
    SELECTED = "selected"
    """e-BH declared the line."""
    FALLEN = "fallen"
    """e-BH no longer declares it, since lines were opened."""
    LIKELY = "likely"
    """The posterior probability of being safe is large."""
    DOUBTED = "doubted"
    """It no longer is."""
    HOPELESS = "hopeless"
    """After enough pairs, more are not worth their cost."""
    WORTHWHILE = "worthwhile"
    """More pairs are worth their cost again."""


_V, _E = Verdict, Event

TRANSITIONS: Final[Mapping[tuple[Verdict, Event], Verdict]] = {
    (_V.TOO_EARLY, _E.LIKELY): _V.PROVISIONAL,
    (_V.TOO_EARLY, _E.SELECTED): _V.PROVEN,
    (_V.TOO_EARLY, _E.REFUTED): _V.NEEDED,
    (_V.TOO_EARLY, _E.HOPELESS): _V.TOO_CLOSE,
    (_V.PROVISIONAL, _E.SELECTED): _V.PROVEN,
    (_V.PROVISIONAL, _E.REFUTED): _V.NEEDED,
    (_V.PROVISIONAL, _E.DOUBTED): _V.TOO_EARLY,
    (_V.PROVISIONAL, _E.DRIFTED): _V.REOPENED,
    (_V.PROVISIONAL, _E.CHANGED): _V.REOPENED,
    (_V.PROVEN, _E.FALLEN): _V.PROVISIONAL,
    (_V.PROVEN, _E.DRIFTED): _V.REOPENED,
    (_V.PROVEN, _E.CHANGED): _V.REOPENED,
    (_V.NEEDED, _E.DRIFTED): _V.REOPENED,
    (_V.NEEDED, _E.CHANGED): _V.REOPENED,
    (_V.TOO_CLOSE, _E.LIKELY): _V.PROVISIONAL,
    (_V.TOO_CLOSE, _E.SELECTED): _V.PROVEN,
    (_V.TOO_CLOSE, _E.REFUTED): _V.NEEDED,
    (_V.TOO_CLOSE, _E.WORTHWHILE): _V.TOO_EARLY,
    (_V.TOO_CLOSE, _E.DRIFTED): _V.REOPENED,
    (_V.TOO_CLOSE, _E.CHANGED): _V.REOPENED,
    (_V.REOPENED, _E.LIKELY): _V.PROVISIONAL,
    (_V.REOPENED, _E.SELECTED): _V.PROVEN,
    (_V.REOPENED, _E.REFUTED): _V.NEEDED,
    (_V.REOPENED, _E.HOPELESS): _V.TOO_CLOSE,
}
"""Every transition there is; an event that has none leaves the verdict as it is."""

FINAL: Final = frozenset({Verdict.PROVEN, Verdict.NEEDED})
"""Verdicts that end the search for evidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How much a verdict asks for."""

    alpha: float = 0.05
    """The expected share of wrong claims among those proven; of "needed", the chance of each to be wrong."""
    likely: float = 0.95
    """The posterior probability from which a type is provisional."""
    doubted: float = 0.80
    """The one below which it no longer is. It is lower, so that a type does not go to and fro."""
    holdback: float = 0.10
    """The random part of a provisional type that stays on the dearer tier, where traffic follows verdicts."""
    watch: float = 0.02
    """The same of a proven one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What is known of one line now."""

    on_dear: bool
    """Whether the type was on the dearer tier before the audit moved it: the question is whether it may go down. Else
    it is whether it must go up, and "provisional" does not arise."""
    probability_safe: float | None
    """Posterior probability that the cheaper tier loses less than the margin; None where outcomes are graded."""
    log_needed: float
    selected: bool
    """Whether e-BH declares the line now, frozen or not."""
    worth: bool
    """Whether the next pairs are worth what they cost."""
    pairs: int
    margin: float
    drifted: bool = False
    changed: bool = False


def next_verdict(verdict: Verdict, findings: Findings, *, rules: Rules) -> Verdict:
    """The verdict after one look."""
    event = event_of(verdict, findings, rules=rules)
    return verdict if event is None else after(verdict, event)


def after(verdict: Verdict, event: Event) -> Verdict:
    """Look the transition up."""
    return TRANSITIONS.get((verdict, event), verdict)


def event_of(verdict: Verdict, findings: Findings, *, rules: Rules) -> Event | None:
    """The first event, in the order of `Event`, that the findings amount to and that moves this verdict."""
    happened = _events(findings, rules)
    return next((event for event in Event if event in happened and (verdict, event) in TRANSITIONS), None)


def cheap_share(verdict: Verdict, *, rules: Rules) -> float | None:
    """The share of a type's traffic for the cheaper tier, where traffic follows verdicts; None leaves it as it is."""
    match verdict:
        case Verdict.PROVISIONAL:
            return 1 - rules.holdback
        case Verdict.PROVEN:
            return 1 - rules.watch
        case Verdict.NEEDED:
            return 0.0
        case Verdict.TOO_EARLY | Verdict.TOO_CLOSE | Verdict.REOPENED:
            return None


def fewest_pairs(*, margin: float, alpha: float) -> int:
    """The pairs without which nothing is proven, even if none differs: ln α / ln(1 - margin), about 3 / margin."""
    return ceil(log(alpha) / log(1 - margin))


def _events(findings: Findings, rules: Rules) -> frozenset[Event]:
    probability = findings.probability_safe if findings.on_dear else None
    enough = findings.pairs >= fewest_pairs(margin=findings.margin, alpha=rules.alpha)
    happened = {
        Event.CHANGED: findings.changed,
        Event.DRIFTED: findings.drifted,
        Event.REFUTED: findings.log_needed >= threshold(rules.alpha),
        Event.SELECTED: findings.selected,
        Event.FALLEN: not findings.selected,
        Event.LIKELY: probability is not None and probability >= rules.likely,
        Event.DOUBTED: probability is not None and probability < rules.doubted,
        Event.HOPELESS: enough and not findings.worth,
        Event.WORTHWHILE: findings.worth,
    }
    return frozenset(event for event, holds in happened.items() if holds)
