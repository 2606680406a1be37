"""Watching: whether the claims that something rests on still hold, by the pairs that were made since.

A line of evidence is watched from its first verdict "proven" or move of the autopilot on. Its pairs since then are fed,
in their order and with those that nobody could grade at their worst, to a detector of drift; an alarm closes it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tierwise.audit.acting import act_id
from tierwise.audit.drift import Suspicion, alarms, falls_below, observe
from tierwise.audit.standings import lines_of
from tierwise.audit.verdicts import CHECKED_MARGIN, Verdict
from tierwise.core.ledger import Act, Acted, Paired

DETECTOR = "detector"
"""Who, of an alarm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A claim that seems not to hold any more."""

    line: str
    pairs: int
    """How many were made from the claim to the alarm."""
    worse: int
    """In how many of them the cheaper tier did worse, or nobody could say."""


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
            from_tier=lines[alarm.line].tiers[1],
            to_tier=lines[alarm.line].tiers[0],
            share=0.0,
            who=DETECTOR,
            why=f"of {alarm.pairs} pairs since its verdict the cheaper tier did worse in {alarm.worse}",
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
            return Alarm(line=line, pairs=suspicion.observations, worse=worse)
    return None
