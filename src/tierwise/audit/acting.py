"""Acting: verdicts become shares of a type's traffic, and every run or conversation its tier by a hash.

A verdict that holds sends all of a type's runs and conversations but a random part to the cheaper tier. That part, the
holdback, is drawn by a hash of the run or conversation, so that a task keeps its tier over its turns and every gateway
draws the same; and a larger share takes in all that a smaller one did. The holdback goes on making cheap pairs.

What holds now is the latest act of each line of evidence; a line that alarmed is closed for good, and what comes after
is another opening of it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from tierwise.audit.counts import LineKey
from tierwise.audit.sampling import Purpose, uniform
from tierwise.audit.standings import Standing
from tierwise.audit.verdicts import Rules, Verdict, cheap_share
from tierwise.core.decision import Drawn, Reason, Why
from tierwise.core.ledger import Act, Acted
from tierwise.core.policy import Policy

AUTOPILOT = "autopilot"
"""Who, of the autopilot's acts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lean:
    """Where the autopilot sends a task type."""

    task_type: str
    dear: str
    """The contract's own tier, where the holdback stays."""
    cheap: str
    share: float
    """The part of the runs and conversations that goes to the cheaper tier."""
    verdict: str

    @property
    def holdback(self) -> float:
        """The part that stays."""
        return round(1 - self.share, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Acting:
    """What came of all acts so far, under one policy."""

    policy: Policy | None = None
    """The one that the leans were worked out for: under another they do not hold."""
    leans: Mapping[str, Lean] = field(default_factory=dict[str, Lean])
    """By task type."""
    alarmed: frozenset[str] = frozenset()
    """Lines of evidence that are closed."""
    salt: str = ""
    """The ledger's id: gateways with one ledger draw the same."""

    def lean(self, task_type: str | None, policy: Policy) -> Lean | None:
        """The lean of a task type, where it has one under this policy."""
        if task_type is None or self.policy is not policy:
            return None
        return self.leans.get(task_type)


def draw(lean: Lean, *, cluster: str, salt: str) -> Drawn:
    """Draw a tier for a run or conversation."""
    moves = uniform(Purpose.HOLDBACK, lean.task_type, cluster, salt=salt) < lean.share
    verdict = f"The verdict on {lean.task_type} is {lean.verdict}"
    sentence = (
        f"{verdict}: the autopilot sends {lean.share:.0%} of its runs and conversations to {lean.cheap}."
        if moves
        else f"{verdict}, and this one is of the {lean.holdback:.0%} that stay on {lean.dear} to be compared."
    )
    return Drawn(
        tier=lean.cheap if moves else lean.dear,
        probability=lean.share if moves else lean.holdback,
        why=Reason(why=Why.AUTOPILOT, sentence=sentence),
    )


def latest_acts(acts: Iterable[Acted]) -> dict[str, Acted]:
    """The latest act of each line that says where its traffic goes."""
    return {act.line: act for act in acts if act.share is not None}


def alarmed_lines(acts: Iterable[Acted]) -> frozenset[str]:
    """The lines that are closed."""
    return frozenset(act.line for act in acts if act.act is Act.ALARMED)


def open_line(key: LineKey, alarmed: frozenset[str]) -> LineKey:
    """The line that a pair of now belongs to: an alarm opens it anew."""
    while key.id in alarmed:
        key = replace(key, opening=key.opening + 1)
    return key


def remembered(acts: Iterable[Acted]) -> dict[str, Verdict]:
    """The verdicts that act now, by line: the next look goes on from them."""
    return {line: Verdict(act.verdict) for line, act in latest_acts(acts).items() if act.act is Act.MOVED}


def due(standing: Standing, acts: Iterable[Acted], *, rules: Rules, at_us: int) -> Acted | None:
    """What a verdict asks the autopilot for; None where traffic follows it already."""
    line = standing.line
    before = latest_acts(acts).get(line.line)
    held = (before.share if before is not None else None) or 0.0
    share = cheap_share(standing.verdict, rules=rules) or 0.0
    if standing.surely_costs_more or (standing.costs_more and not held):
        share = 0.0  # what seems to save nothing is not begun, and given up once that is sure
    if share == held:
        return None
    dear, cheap = line.tiers
    return Acted(
        act_id=act_id(line.line, acts),
        at_us=at_us,
        act=Act.MOVED if share else Act.REVERTED,
        task_type=line.task_type,
        line=line.line,
        verdict=standing.verdict.value,
        from_tier=dear if share else cheap,
        to_tier=cheap if share else dear,
        share=share,
        who=AUTOPILOT,
        why=evidence_in_words(standing),
    )


def act_id(line: str, acts: Iterable[Acted]) -> str:
    """Name the next act of a line: gateways that come to it at the same time name it the same."""
    number = sum(act.line == line and act.act is not Act.APPLIED for act in acts)
    return f"act-{line}-{number + 1}"


def evidence_in_words(standing: Standing) -> str:
    """What a verdict rests on, in a few words."""
    counts = standing.line.counts
    undecided = f", {standing.line.undecided} not graded" if standing.line.undecided else ""
    dearer = "; it costs more in fact" if standing.costs_more else ""
    return (
        f"of {standing.line.pairs} pairs the cheaper tier did worse in {counts.worse}, "
        f"as well in {counts.same}, better in {counts.better}{undecided}{dearer}"
    )
