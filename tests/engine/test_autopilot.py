"""The autopilot: verdicts become acts, and acts the tiers of calls."""

import json
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from support.entries import acted, decided, posted
from support.policies import TWO_TIERS, book
from tierwise.audit.acting import alarmed_lines, open_line
from tierwise.audit.counts import LineKey
from tierwise.audit.verdicts import Verdict
from tierwise.audit.watching import alarm_acts, find_alarms, watched_since
from tierwise.config import Book
from tierwise.core.ledger import Act, Acted, Declared, Paired
from tierwise.core.planning import Plan
from tierwise.engine.autopilot import acting_of, acts_due
from tierwise.engine.desk import Desk
from tierwise.engine.shadowing import line_key
from tierwise.engine.standing import audit_of
from tierwise.money import usd
from tierwise.stores.conversations import Conversations
from tierwise.stores.ledger.acts import acts
from tierwise.stores.ledger.opening import Ledger, open_ledger
from tierwise.stores.ledger.pairs import DAY_US, evidence

NOW_US = 20_000 * DAY_US
STEERED = book(
    TWO_TIERS.replace('tier = "frontier"', 'tier = "frontier"\nshadow = true') + "[audit]\nautopilot = true\n"
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(open_ledger(tmp_path / "ledger")) as ledger:
        ledger.write([decided(task_type="synthesis", tier="frontier", at_us=NOW_US)])
        ledger.write([posted(cost_nanos=usd("100"), at_us=NOW_US)])
        yield ledger


def line(policy: Book = STEERED) -> LineKey:
    contract = policy.policy.contracts["synthesis"]
    return line_key(policy.policy, contract, dear="frontier", cheap="fast")


NUMBERS = count()


def pairs(number: int, difference: int = 0, *, key: LineKey | None = None) -> list[Paired]:
    key = key or line()
    return [
        Paired(
            pair_id=f"pair-{each}",
            at_us=NOW_US + each,
            call_id="c1",
            shadow_call_id="c2",
            task_type="synthesis",
            line=key.id,
            line_parts=key.parts,
            on_dear=True,
            difference=difference,
            how="check",
            probability=0.1,
            cluster=f"k{each}",
            dear_nanos=usd("0.10"),
            cheap_nanos=usd("0.01"),
        )
        for each in (next(NUMBERS) for _ in range(number))
    ]


def look(ledger: Ledger, policy: Book = STEERED) -> list[Acted]:
    """What the autopilot does now; it is recorded."""
    audit = audit_of(ledger, policy.policy, at_us=NOW_US)
    done = acts_due(audit, policy.policy, acts(ledger), at_us=NOW_US)
    ledger.write(done)
    return done


def tiers(ledger: Ledger, policy: Book = STEERED, calls: int = 400) -> list[tuple[str, float]]:
    """The tier of each of many runs, with its probability."""
    desk = Desk(policy, conversations=Conversations(), clock=lambda: NOW_US, new_id=lambda: "c1")
    desk.acting = acting_of(ledger, policy.policy)
    return [tier_of(desk, f"run-{number}") for number in range(calls)]


def tier_of(desk: Desk, run: str) -> tuple[str, float]:
    headers = {"x-tierwise-run-id": run}
    planned = desk.open(b'{"model":"task/synthesis","max_tokens":9,"messages":[]}', headers).plan
    assert isinstance(planned, Plan)
    assert planned.decision.tier is not None
    return planned.decision.tier, planned.decision.selection_probability


def test_a_provisional_type_goes_to_the_cheaper_tier_but_for_a_tenth(ledger: Ledger) -> None:
    ledger.write(pairs(60))

    (act,) = look(ledger)

    assert (act.act, act.verdict, act.share, act.who) == (Act.MOVED, "provisional", 0.9, "autopilot")
    found = tiers(ledger)
    assert set(found) == {("fast", 0.9), ("frontier", 0.1)}
    assert 0.85 < sum(tier == "fast" for tier, _ in found) / len(found) < 0.95


def test_a_proven_type_goes_there_but_for_two_in_a_hundred_and_takes_the_earlier_ones_in(
    ledger: Ledger,
) -> None:
    ledger.write(pairs(60))
    look(ledger)
    before = tiers(ledger)
    ledger.write(pairs(240))

    (act,) = look(ledger)

    after = tiers(ledger)
    assert (act.verdict, act.share) == ("proven", 0.98)
    assert not [
        one for one, other in zip(before, after, strict=True) if (one[0], other[0]) == ("fast", "frontier")
    ]


def test_the_same_verdict_is_acted_on_once(ledger: Ledger) -> None:
    ledger.write(pairs(60))
    look(ledger)
    ledger.write(pairs(1))

    assert look(ledger) == []


def test_two_gateways_that_come_to_the_same_record_it_once(ledger: Ledger) -> None:
    ledger.write(pairs(60))
    audit = audit_of(ledger, STEERED.policy, at_us=NOW_US)
    for _ in range(2):
        ledger.write(acts_due(audit, STEERED.policy, (), at_us=NOW_US))

    assert len(acts(ledger)) == 1


def test_doubt_takes_a_type_back_only_below_a_lower_bar(ledger: Ledger) -> None:
    ledger.write(pairs(60))
    look(ledger)
    ledger.write(pairs(1, -1))
    assert look(ledger) == []
    ledger.write(pairs(3, -1))

    (act,) = look(ledger)

    assert (act.act, act.from_tier, act.to_tier, act.share) == (Act.REVERTED, "fast", "frontier", 0)
    assert set(tiers(ledger)) == {("frontier", 1.0)}


@pytest.mark.parametrize(
    "edit",
    [
        {"autopilot = true": "autopilot = false"},
        {"shadow = true": "shadow = false"},
        {"claude-haiku-5-5": "claude-haiku-4-5"},
        {"shadow = true": "shadow = true\nquality.margin = 5"},
        {"shadow = true": "shadow = true\nquality.autopilot = false"},
    ],
)
def test_acts_do_not_hold_under_another_policy(ledger: Ledger, edit: dict[str, str]) -> None:
    text = TWO_TIERS.replace('tier = "frontier"', 'tier = "frontier"\nshadow = true')
    text += "[audit]\nautopilot = true\n"
    for old, new in edit.items():
        text = text.replace(old, new)
    ledger.write(pairs(60))
    look(ledger)

    assert set(tiers(ledger, book(text))) == {("frontier", 1.0)}


def test_without_autopilot_verdicts_move_nothing(ledger: Ledger) -> None:
    still = book(TWO_TIERS.replace('tier = "frontier"', 'tier = "frontier"\nshadow = true'))
    ledger.write(pairs(300))

    assert look(ledger, still) == []


def test_a_conversation_that_has_a_tier_keeps_it(ledger: Ledger) -> None:
    ledger.write(pairs(60))
    memory = Conversations()
    desk = Desk(STEERED, conversations=memory, clock=lambda: NOW_US, new_id=lambda: "c1")
    first = [turn(desk, number, 1) for number in range(20)]
    look(ledger)
    desk.acting = acting_of(ledger, STEERED.policy)

    later = [turn(desk, number, 3) for number in range(20)]

    assert {tier for tier, _ in first} == {tier for tier, _ in later} == {"frontier"}
    assert "Its conversation is on the tier frontier and stays there." in {why for _, why in later}


def turn(desk: Desk, number: int, turns: int) -> tuple[str | None, str]:
    messages: list[dict[str, Any]] = [
        {"role": "user" if each % 2 == 0 else "assistant", "content": f"Do {number}."}
        for each in range(turns)
    ]
    planned = desk.open(
        json.dumps({"model": "task/synthesis", "max_tokens": 9, "messages": messages}).encode(), {}
    ).plan
    assert isinstance(planned, Plan)
    return planned.decision.tier, planned.decision.reasons[1].sentence


def watch(ledger: Ledger) -> list[Acted]:
    """The alarms of now; they are recorded."""
    found, before = evidence(ledger), acts(ledger)
    since = watched_since(found.declared_us, before)
    alarmed = find_alarms(found.pairs, since, margins={})
    done = alarm_acts(alarmed, found.pairs, before, at_us=NOW_US)
    ledger.write(done)
    return done


def moved_then_drifted(ledger: Ledger) -> Acted:
    """A type that the autopilot moved, and whose cheaper tier then failed in half of its pairs."""
    ledger.write(pairs(60))
    look(ledger)
    for _ in range(20):
        ledger.write([*pairs(1, -1), *pairs(1)])
    (alarm,) = watch(ledger)
    return alarm


def test_an_alarm_takes_a_type_back_at_once_and_is_told_once(ledger: Ledger) -> None:
    alarm = moved_then_drifted(ledger)

    assert (alarm.act, alarm.who, alarm.share) == (Act.ALARMED, "detector", 0)
    assert set(tiers(ledger)) == {("frontier", 1.0)}
    assert watch(ledger) == []


def test_after_an_alarm_the_verdict_is_re_opened_and_evidence_begins_anew(ledger: Ledger) -> None:
    moved_then_drifted(ledger)
    anew = open_line(line(), alarmed_lines(acts(ledger)))

    def verdict() -> Verdict:
        return audit_of(ledger, STEERED.policy, at_us=NOW_US).standings[0].verdict

    closed = verdict()
    ledger.write(pairs(5, key=anew))
    begun = verdict()
    ledger.write(pairs(60, key=anew))

    assert (closed, begun) == (Verdict.REOPENED, Verdict.REOPENED)
    assert [(act.act, act.line) for act in look(ledger)] == [(Act.MOVED, anew.id)]


def test_a_declared_line_is_watched_without_autopilot_too(ledger: Ledger) -> None:
    ledger.write(pairs(300))
    ledger.write([Declared(line=line().id, at_us=NOW_US + next(NUMBERS), log_e=9.0, pairs=300)])
    assert watch(ledger) == []
    ledger.write(pairs(30, -1))

    (alarm,) = watch(ledger)

    assert alarm.line == line().id


def test_pairs_before_a_verdict_raise_no_alarm(ledger: Ledger) -> None:
    ledger.write(pairs(30, -1))
    ledger.write([Declared(line=line().id, at_us=NOW_US + next(NUMBERS), log_e=9.0, pairs=300)])

    assert watch(ledger) == []


# --- Several alternatives of one type.

EFFORTS = book(
    TWO_TIERS.replace(
        "[tiers.fast]", '[tiers.low]\nmodel = "claude-opus-5-5"\neffort = "low"\n[tiers.fast]'
    ).replace('tier = "frontier"', 'tier = "frontier"\nshadow = true\nshadow_on = ["low", "fast"]')
    + "[audit]\nautopilot = true\n"
)


def alternative(cheap: str) -> LineKey:
    contract = EFFORTS.policy.contracts["synthesis"]
    return line_key(EFFORTS.policy, contract, dear="frontier", cheap=cheap)


def test_of_several_alternatives_one_is_moved_to_at_a_time(ledger: Ledger) -> None:
    ledger.write(pairs(60, key=alternative("low")))
    (first,) = look(ledger, EFFORTS)
    ledger.write(pairs(60, key=alternative("fast")))

    assert (first.to_tier, look(ledger, EFFORTS)) == ("low", [])
    assert {tier for tier, _ in tiers(ledger, EFFORTS)} == {"frontier", "low"}


def test_once_an_alternative_is_given_up_another_may_be_moved_to(ledger: Ledger) -> None:
    ledger.write(pairs(60, key=alternative("low")))
    look(ledger, EFFORTS)
    ledger.write([*pairs(60, -1, key=alternative("low")), *pairs(60, key=alternative("fast"))])

    assert [(act.act, act.to_tier) for act in look(ledger, EFFORTS)] == [(Act.REVERTED, "frontier")]
    assert [(act.act, act.to_tier) for act in look(ledger, EFFORTS)] == [(Act.MOVED, "fast")]


def test_two_alternatives_that_two_gateways_moved_to_are_both_taken_back(ledger: Ledger) -> None:
    for cheap in ("low", "fast"):
        key = alternative(cheap)
        ledger.write([*pairs(60, key=key), acted(cheap, line=key.id, to_tier=cheap)])
        ledger.write(pairs(60, -1, key=key))

    assert {(act.act, act.from_tier) for act in look(ledger, EFFORTS)} == {
        (Act.REVERTED, "low"),
        (Act.REVERTED, "fast"),
    }
