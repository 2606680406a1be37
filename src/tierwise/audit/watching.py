"""Watching: whether the claims that something rests on still hold, by the pairs that were made since.

A line of evidence is watched from its first verdict "proven" or move of the autopilot on. Its pairs since then are fed,
in their order and with those that nobody could grade at their worst, to a detector of drift; an alarm closes it. One on
which the dearer tier was proven to be needed is watched the other way: whether the cheaper one will do by now.

Replies on the cheaper tier that were held against a check are watched too, which costs no pairs. What share of them
passes is learned from the first after the verdict; the alarm is for a share below that one, less the margin, or less
three standard errors where that is more.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Final

from tierwise.audit.acting import act_id
from tierwise.audit.counts import Counts
from tierwise.audit.drift import (
    ALARM_EVERY,
    Suspicion,
    alarms,
    falls_below,
    observe,
    observe_batch,
    passes_less,
    rises_above,
)
from tierwise.audit.evidence import log_needed, threshold
from tierwise.audit.standings import lines_of
from tierwise.audit.verdicts import CHECKED_MARGIN, Verdict
from tierwise.core.ledger import Act, Acted, Checked, Paired

DETECTOR = "detector"
"""Who, of an alarm."""


BATCH: Final = 20
"""Checked replies in one entry."""
LEARNS_FROM: Final = 600
"""Checked replies after a verdict that say what share passes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A claim that seems not to hold any more."""

    line: str
    observations: int
    """Pairs or replies from the claim to the alarm."""
    why: str
    """What they were."""
    rises: bool = False
    """Whether it was that the dearer tier is needed."""


def watched_since(declared: Mapping[str, int], acts: Iterable[Acted]) -> dict[str, int]:
    """From when each line is watched: microseconds since 1970.

    Args:
        declared: when each line was declared.
        acts: all that there are; lines that alarmed are watched no more.
    """
    since = dict(declared)
    alarmed: set[str] = set()
    for act in acts:
        if act.act is Act.MOVED:
            since[act.line] = min(act.at_us, since.get(act.line, act.at_us))
        elif act.act is Act.ALARMED:
            alarmed.add(act.line)
    return {line: at_us for line, at_us in since.items() if line not in alarmed}


def find_alarms(
    pairs: Iterable[Paired], since: Mapping[str, int], *, margins: Mapping[str, float]
) -> list[Alarm]:
    """The lines that alarm.

    Args:
        pairs: all that there are, in order.
        since: from when each line is watched.
        margins: of each task type, where it is not `CHECKED_MARGIN`.
    """
    seen: dict[str, list[Paired]] = {}
    for pair in pairs:
        if pair.at_us > since.get(pair.line, pair.at_us):
            seen.setdefault(pair.line, []).append(pair)
    found = (_alarm(line, later, margins) for line, later in seen.items())
    return [alarm for alarm in found if alarm is not None]


def find_rises(
    pairs: Iterable[Paired], closed: Collection[str], *, margins: Mapping[str, float], alpha: float
) -> list[Alarm]:
    """The lines on which the dearer tier is needed by all their pairs, and seems not to be any more by the latest.

    Args:
        pairs: all that there are, in order.
        closed: lines that alarmed before.
        margins: of each task type, where it is not `CHECKED_MARGIN`.
        alpha: the error at which it was proven to be needed.
    """
    by_line: dict[str, list[Paired]] = {}
    for pair in pairs:
        if pair.line not in closed:
            by_line.setdefault(pair.line, []).append(pair)
    needed = {line: ours for line, ours in by_line.items() if _are_needed(ours, margins, alpha)}
    found = (_rise(line, ours, margins, alpha) for line, ours in needed.items())
    return [alarm for alarm in found if alarm is not None]


def find_pass_alarms(
    checks: Iterable[Checked], since: Mapping[str, int], *, margins: Mapping[str, float]
) -> list[Alarm]:
    """The lines whose cheaper tier passes its check less often than it did after the verdict.

    Args:
        checks: counts of replies, in order.
        since: from when each line is watched.
        margins: of each task type, where it is not `CHECKED_MARGIN`.
    """
    seen: dict[str, list[Checked]] = {}
    for count in checks:
        if count.at_us > since.get(count.line, count.at_us):
            seen.setdefault(count.line, []).append(count)
    found = (_pass_alarm(line, later, margins) for line, later in seen.items())
    return [alarm for alarm in found if alarm is not None]


def alarm_acts(
    found: Iterable[Alarm], pairs: Iterable[Paired], before: Iterable[Acted], *, at_us: int
) -> list[Acted]:
    """The entries of alarms: their lines are closed, and no traffic follows them any more."""
    lines = lines_of(pairs)
    before = tuple(before)
    return [
        Acted(
            act_id=act_id(alarm.line, before),
            at_us=at_us,
            act=Act.ALARMED,
            task_type=lines[alarm.line].task_type,
            line=alarm.line,
            verdict=Verdict.REOPENED.value,
            from_tier=lines[alarm.line].tiers[0 if alarm.rises else 1],
            to_tier=lines[alarm.line].tiers[1 if alarm.rises else 0],
            share=None if alarm.rises else 0.0,
            who=DETECTOR,
            why=alarm.why,
        )
        for alarm in found
    ]


def _alarm(line: str, pairs: Iterable[Paired], margins: Mapping[str, float]) -> Alarm | None:
    suspicion, worse = Suspicion(), 0
    for pair in pairs:
        detector = falls_below(margins.get(pair.task_type, CHECKED_MARGIN))
        difference = -1 if pair.difference is None else pair.difference
        worse += difference < 0
        suspicion = observe(detector, suspicion, difference)
        if alarms(detector, suspicion):
            made = suspicion.observations
            why = f"of {made} pairs since its verdict the cheaper tier did worse in {worse}"
            return Alarm(line=line, observations=made, why=why)
    return None


def _rise(line: str, pairs: Iterable[Paired], margins: Mapping[str, float], alpha: float) -> Alarm | None:
    remaining = iter(pairs)
    _take_proof(remaining, margins, alpha)
    suspicion, worse = Suspicion(), 0
    for pair in remaining:
        difference = -1 if pair.difference is None else pair.difference
        worse += difference < 0
        detector = rises_above(margins.get(pair.task_type, CHECKED_MARGIN))
        suspicion = observe(detector, suspicion, difference)
        if alarms(detector, suspicion):
            made = suspicion.observations
            why = f"of {made} pairs since it needed the dearer tier the cheaper one did worse in {worse}"
            return Alarm(line=line, observations=made, why=why, rises=True)
    return None


def _are_needed(pairs: Iterable[Paired], margins: Mapping[str, float], alpha: float) -> bool:
    (line,) = lines_of(pairs).values()
    margin = margins.get(line.task_type, CHECKED_MARGIN)
    return log_needed(line.for_needed, margin=margin) >= threshold(alpha)


def _take_proof(pairs: Iterable[Paired], margins: Mapping[str, float], alpha: float) -> None:
    """Take pairs until they prove that the dearer tier is needed; only one that is a loss can complete a proof."""
    counts = Counts()
    for pair in pairs:
        difference = 1 if pair.difference is None else pair.difference
        counts += Counts(worse=int(difference < 0), same=int(difference == 0), better=int(difference > 0))
        margin = margins.get(pair.task_type, CHECKED_MARGIN)
        if difference < 0 and log_needed(counts, margin=margin) >= threshold(alpha):
            return


def _pass_alarm(line: str, counts: Iterable[Checked], margins: Mapping[str, float]) -> Alarm | None:
    """Learn the share that passes, then watch it."""
    remaining = iter(counts)
    passed = failed = 0
    while passed + failed < LEARNS_FROM:
        count = next(remaining, None)
        if count is None:
            return None
        passed, failed = passed + count.passed, failed + count.failed
    rate = passed / (passed + failed)
    return _watch_rate(line, remaining, rate=rate, margins=margins)


def _watch_rate(
    line: str, counts: Iterable[Checked], *, rate: float, margins: Mapping[str, float]
) -> Alarm | None:
    suspicion, failed = Suspicion(), 0
    for count in counts:
        margin = margins.get(count.task_type, CHECKED_MARGIN)
        level = rate - max(margin, 3 * sqrt(rate * (1 - rate) / LEARNS_FROM))
        if level <= 0:
            return None
        detector = passes_less(level, margin=margin, alarm_every=ALARM_EVERY / BATCH)
        failed += count.failed
        suspicion = observe_batch(detector, suspicion, {1.0: count.passed, 0.0: count.failed})
        if alarms(detector, suspicion):
            seen = suspicion.observations
            why = f"of {seen} replies {seen - failed} passed their check, where {rate:.1%} had"
            return Alarm(line=line, observations=seen, why=why)
    return None
