from dataclasses import replace
from typing import Any

import pytest

from support.calls import DEFAULT, EXTRACTION, FAST, FRONTIER, MIDDLE, SYNTHESIS, a_call, a_policy
from tierwise.core.call import Call
from tierwise.core.changes import Change
from tierwise.core.decision import Refusal
from tierwise.core.planning import Plan, Refused, plan
from tierwise.core.policy import Policy, Tier
from tierwise.core.tasks import name_task

HEADER = {"x-tierwise-task-type": "extraction"}
OLD = Tier(name="old", model="claude-haiku-4-5")
NEW = Tier(name="new", model="claude-next-9")


def planned(call: Call, policy: Policy, kept: str | None = None) -> Plan | Refused:
    return plan(call, name_task(call, policy=policy), policy=policy, kept=kept)


def goes_on(call: Call, policy: Policy, kept: str | None = None) -> Plan:
    outcome = planned(call, policy, kept)
    assert isinstance(outcome, Plan)
    return outcome


def edits(outcome: Plan) -> dict[str, tuple[Any, Any]]:
    return {".".join(change.path): (change.before, change.after) for change in outcome.changes}


def test_a_plan_holds_the_edits_that_make_the_body_what_was_decided() -> None:
    policy = a_policy()
    call = a_call("task/extraction", effort="high")

    outcome = goes_on(call, policy)

    assert outcome.decision.tier == "fast"
    assert edits(outcome)["model"] == ("task/extraction", "claude-haiku-5-5")
    assert edits(outcome)["max_tokens"] == (32_000, 512)
    assert outcome.max_tokens_sent == 512
    assert (outcome.call, outcome.policy) == (call, policy)


def test_the_same_arguments_give_the_same_plan() -> None:
    call, policy = a_call("task/extraction", prefill=True), a_policy(tiers=(FRONTIER, OLD, FAST))

    assert planned(call, policy) == planned(replace(call), replace(policy))


def test_a_conversation_is_planned_for_the_tier_that_it_has() -> None:
    assert goes_on(a_call("task/extraction"), a_policy(), kept="middle").decision.model == MIDDLE.model


def test_an_undeclared_call_goes_out_byte_for_byte() -> None:
    outcome = goes_on(a_call(max_tokens=123_456), a_policy())

    assert outcome.changes == ()
    assert outcome.max_tokens_sent == 123_456


def test_an_observed_call_goes_out_byte_for_byte_and_its_decision_is_kept() -> None:
    outcome = goes_on(a_call(headers=HEADER), a_policy(mode="observe"))

    assert (outcome.decision.tier, outcome.decision.max_tokens) == ("fast", 512)
    assert outcome.changes == ()
    assert outcome.max_tokens_sent == 32_000


def test_a_body_that_a_tier_cannot_take_goes_to_the_nearest_that_can() -> None:
    policy = a_policy(EXTRACTION, tiers=(FRONTIER, OLD, FAST))

    outcome = goes_on(a_call("task/extraction", prefill=True), policy)

    assert outcome.decision.tier == "old"
    assert edits(outcome)["model"] == ("task/extraction", "claude-haiku-4-5")
    told = [reason.sentence for reason in outcome.decision.reasons]
    assert any(
        sentence.startswith("The tier fast cannot take this body: claude-haiku-5-5") for sentence in told
    )
    assert "old is the nearest tier that takes this body." in told


def test_a_body_that_no_tier_takes_is_refused_and_explained() -> None:
    call, policy = a_call("task/extraction", prefill=True), a_policy(EXTRACTION, tiers=(FRONTIER, FAST))

    outcome = planned(call, policy)

    assert isinstance(outcome, Refused)
    assert outcome.refusal.code == "ineligible"
    assert outcome.refusal.sentence.startswith(
        "No tier of the policy takes this body. fast: claude-haiku-5-5"
    )
    assert "frontier: claude-opus-5-5" in outcome.refusal.sentence
    assert (outcome.call, outcome.task.type, outcome.policy) == (call, "extraction", policy)


def test_an_observed_body_that_no_tier_takes_passes_as_it_was_asked() -> None:
    policy = a_policy(EXTRACTION, tiers=(FRONTIER, FAST), mode="observe")

    outcome = goes_on(a_call("claude-haiku-4-5", headers=HEADER, prefill=True), policy)

    assert (outcome.decision.tier, outcome.decision.acts, outcome.changes) == (None, False, ())


def test_a_refused_decision_is_a_refused_plan() -> None:
    outcome = planned(a_call("task/nope"), a_policy(SYNTHESIS))

    assert isinstance(outcome, Refused)
    assert outcome.refusal.code == "unknown-task-type"


def test_a_thread_that_would_leave_its_model_is_refused_so_that_the_caller_sends_it_whole() -> None:
    outcome = planned(a_call(headers=HEADER, thread=True), a_policy())

    assert isinstance(outcome, Refused)
    assert outcome.refusal == Refusal(
        code="thread",
        sentence="A thread is bound to the model that it began with, and claude-haiku-5-5 is another.",
    )


def test_a_thread_that_is_only_observed_passes() -> None:
    outcome = goes_on(a_call(headers=HEADER, thread=True), a_policy(mode="observe"))

    assert (outcome.decision.acts, outcome.changes) == (False, ())


def test_a_thread_that_stays_on_its_model_goes_on() -> None:
    outcome = goes_on(a_call(FAST.model, headers=HEADER, thread=True), a_policy())

    assert outcome.decision.model == FAST.model


def test_the_cap_that_is_sent_is_the_models_where_the_model_takes_less_than_was_decided() -> None:
    policy = a_policy(replace(DEFAULT, tier="old"), tiers=(FRONTIER, OLD))

    outcome = goes_on(a_call("task/default", max_tokens=128_000), policy)

    assert outcome.decision.max_tokens == 128_000
    assert outcome.max_tokens_sent == 64_000


@pytest.mark.parametrize(
    ("call", "changes"),
    [
        (
            a_call("task/extraction", effort="max", prefill=True),
            (
                Change(
                    path=("model",),
                    before="task/extraction",
                    after="claude-next-9",
                    rule="decision.model",
                    why="As decided.",
                ),
                Change(
                    path=("max_tokens",),
                    before=32_000,
                    after=512,
                    rule="decision.max_tokens",
                    why="As decided.",
                ),
            ),
        ),
        (a_call("claude-next-9", headers=HEADER, max_tokens=5), ()),
    ],
)
def test_a_model_that_the_catalogue_lacks_is_trusted_with_all_but_name_and_cap(
    call: Call, changes: tuple[Change, ...]
) -> None:
    policy = a_policy(replace(EXTRACTION, tier="new"), tiers=(FRONTIER, NEW))

    assert goes_on(call, policy).changes == changes
