from dataclasses import replace

import pytest

from tierwise.audit.counts import Counts
from tierwise.audit.evidence import log_safe, threshold
from tierwise.audit.verdicts import (
    TRANSITIONS,
    Event,
    Findings,
    Rules,
    Verdict,
    after,
    cheap_share,
    event_of,
    fewest_pairs,
    next_verdict,
)

RULES = Rules()
NOTHING = Findings(
    on_dear=True,
    probability_safe=0.85,
    log_needed=0.0,
    selected=False,
    worth=True,
    pairs=200,
    margin=0.03,
)


@pytest.mark.parametrize(
    ("verdict", "findings", "expected"),
    [
        (Verdict.TOO_EARLY, NOTHING, Verdict.TOO_EARLY),
        (Verdict.TOO_EARLY, replace(NOTHING, probability_safe=0.95), Verdict.PROVISIONAL),
        (Verdict.TOO_EARLY, replace(NOTHING, probability_safe=0.95, on_dear=False), Verdict.TOO_EARLY),
        (Verdict.TOO_EARLY, replace(NOTHING, probability_safe=None), Verdict.TOO_EARLY),
        (Verdict.TOO_EARLY, replace(NOTHING, selected=True, probability_safe=1.0), Verdict.PROVEN),
        (Verdict.TOO_EARLY, replace(NOTHING, log_needed=3.0), Verdict.NEEDED),
        (Verdict.TOO_EARLY, replace(NOTHING, log_needed=3.0, on_dear=False), Verdict.NEEDED),
        (Verdict.TOO_EARLY, replace(NOTHING, worth=False), Verdict.TOO_CLOSE),
        (Verdict.TOO_EARLY, replace(NOTHING, worth=False, pairs=50), Verdict.TOO_EARLY),
        (Verdict.TOO_EARLY, replace(NOTHING, changed=True), Verdict.TOO_EARLY),
        (Verdict.PROVISIONAL, NOTHING, Verdict.PROVISIONAL),
        (Verdict.PROVISIONAL, replace(NOTHING, worth=False), Verdict.PROVISIONAL),
        (Verdict.PROVISIONAL, replace(NOTHING, probability_safe=0.79), Verdict.TOO_EARLY),
        (Verdict.PROVISIONAL, replace(NOTHING, selected=True), Verdict.PROVEN),
        (Verdict.PROVISIONAL, replace(NOTHING, probability_safe=0.1, log_needed=3.1), Verdict.NEEDED),
        (Verdict.PROVEN, replace(NOTHING, selected=True, probability_safe=0.1), Verdict.PROVEN),
        (Verdict.PROVEN, replace(NOTHING, selected=True, drifted=True), Verdict.REOPENED),
        (Verdict.PROVEN, replace(NOTHING, selected=True, changed=True), Verdict.REOPENED),
        (Verdict.PROVEN, NOTHING, Verdict.PROVISIONAL),
        (Verdict.NEEDED, replace(NOTHING, probability_safe=1.0, selected=True), Verdict.NEEDED),
        (Verdict.NEEDED, replace(NOTHING, drifted=True), Verdict.REOPENED),
        (Verdict.TOO_CLOSE, NOTHING, Verdict.TOO_EARLY),
        (Verdict.TOO_CLOSE, replace(NOTHING, worth=False), Verdict.TOO_CLOSE),
        (Verdict.TOO_CLOSE, replace(NOTHING, worth=False, probability_safe=0.96), Verdict.PROVISIONAL),
        (Verdict.REOPENED, NOTHING, Verdict.REOPENED),
        (Verdict.REOPENED, replace(NOTHING, probability_safe=0.96), Verdict.PROVISIONAL),
        (Verdict.REOPENED, replace(NOTHING, drifted=True), Verdict.REOPENED),
    ],
)
def test_one_look_leads_from_a_verdict_to_the_next(
    verdict: Verdict, findings: Findings, expected: Verdict
) -> None:
    assert next_verdict(verdict, findings, rules=RULES) is expected


def test_every_verdict_can_be_reached_and_left() -> None:
    assert {verdict for verdict, _ in TRANSITIONS} == set(Verdict)
    assert set(TRANSITIONS.values()) | {Verdict.TOO_EARLY} == set(Verdict)
    assert {event for _, event in TRANSITIONS} == set(Event)
    assert all(after(verdict, event) is not verdict for verdict, event in TRANSITIONS)


def test_an_event_without_a_transition_leaves_the_verdict() -> None:
    assert after(Verdict.NEEDED, Event.SELECTED) is Verdict.NEEDED


def test_a_change_of_the_line_comes_before_all_that_the_old_line_says() -> None:
    findings = replace(NOTHING, changed=True, drifted=True, log_needed=9.0, probability_safe=0.0)

    assert event_of(Verdict.PROVISIONAL, findings, rules=RULES) is Event.CHANGED


@pytest.mark.parametrize(
    ("verdict", "share"),
    [
        (Verdict.TOO_EARLY, None),
        (Verdict.PROVISIONAL, 0.9),
        (Verdict.PROVEN, 0.98),
        (Verdict.NEEDED, 0.0),
        (Verdict.TOO_CLOSE, None),
        (Verdict.REOPENED, None),
    ],
)
def test_a_verdict_says_how_much_traffic_the_cheaper_tier_gets(verdict: Verdict, share: float | None) -> None:
    assert cheap_share(verdict, rules=RULES) == share


def test_the_fewest_pairs_are_the_floor_of_zero_failures() -> None:
    few = fewest_pairs(margin=0.03, alpha=0.05)

    assert few == 99
    assert fewest_pairs(margin=0.05, alpha=0.05) == 59
    assert log_safe(Counts(same=few - 1), margin=0.03) < threshold(0.05)
