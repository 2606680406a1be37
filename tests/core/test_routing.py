from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.calls import DEFAULT, EXTRACTION, FAST, FRONTIER, MIDDLE, SYNTHESIS, a_call, a_policy
from tierwise.core.call import Call
from tierwise.core.decision import Decision, Drawn, Otherwise, Reason, Refusal, Why
from tierwise.core.policy import Contract, Policy, Tier, cap_floor
from tierwise.core.routing import decide
from tierwise.core.tasks import Declared, TaskRef, name_task

POLICY = a_policy(EXTRACTION, SYNTHESIS)
WITH_DEFAULT = a_policy(EXTRACTION, SYNTHESIS, DEFAULT)

TIERS = ("frontier", "middle", "fast")
CAPS = st.none() | st.integers(1, 200_000)
CALLS = st.builds(
    a_call,
    st.sampled_from(("claude-opus-5-5", "task/extraction", "task/synthesis", "task/unknown", "gpt-9")),
    max_tokens=st.integers(-5, 200_000),
    headers=st.sampled_from(({}, {"x-tierwise-task-type": "extraction"}, {"x-tierwise-task-type": "nope"})),
)
CONTRACTS = st.builds(
    Contract,
    name=st.just("extraction"),
    tier=st.sampled_from(TIERS),
    max_tokens=CAPS,
    effort=st.sampled_from((None, "keep")),
    thinking=st.sampled_from((None, "keep")),
    mode=st.sampled_from((None, "route", "observe")),
)


def policy_of(contract: Contract, *, default: tuple[Contract, ...], **fields: Any) -> Policy:
    return a_policy(contract, SYNTHESIS, *default, **fields)


POLICIES = st.builds(
    policy_of,
    CONTRACTS,
    default=st.sampled_from(((), (DEFAULT,))),
    mode=st.sampled_from(("route", "observe")),
    strict=st.booleans(),
)
KEPT = st.sampled_from((None, *TIERS, "gone"))
BARRED = st.lists(st.sampled_from(TIERS), unique=True).map(
    lambda names: dict.fromkeys(names, "It cannot be.")
)


def decided(call: Call, policy: Policy = POLICY, **state: Any) -> Decision:
    decision = decide(call, name_task(call, policy=policy), policy=policy, **state)
    assert isinstance(decision, Decision)
    return decision


def refused(call: Call, policy: Policy = POLICY, **state: Any) -> Refusal:
    refusal = decide(call, name_task(call, policy=policy), policy=policy, **state)
    assert isinstance(refusal, Refusal)
    return refusal


def sentences(decision: Decision) -> list[str]:
    return [reason.sentence for reason in decision.reasons]


@given(CALLS, POLICIES, KEPT, BARRED)
def test_a_decision_is_a_function_of_its_arguments(
    call: Call, policy: Policy, kept: str | None, barred: dict[str, str]
) -> None:
    task = name_task(call, policy=policy)

    first = decide(call, task, policy=policy, kept=kept, barred=barred)
    again = decide(
        replace(call), replace(task), policy=replace(policy), kept=kept, barred=dict(barred.items())
    )

    assert first == again


@given(CALLS, POLICIES, KEPT, BARRED)
def test_every_reason_is_a_sentence(
    call: Call, policy: Policy, kept: str | None, barred: dict[str, str]
) -> None:
    outcome = decide(call, name_task(call, policy=policy), policy=policy, kept=kept, barred=barred)

    told = [outcome.sentence] if isinstance(outcome, Refusal) else sentences(outcome)
    assert told
    assert all(sentence.endswith(".") and "None" not in sentence for sentence in told)


@given(CALLS, POLICIES, KEPT, BARRED)
def test_a_call_that_is_not_acted_on_asks_for_what_its_caller_asked_or_names_a_tier(
    call: Call, policy: Policy, kept: str | None, barred: dict[str, str]
) -> None:
    outcome = decide(call, name_task(call, policy=policy), policy=policy, kept=kept, barred=barred)

    if isinstance(outcome, Decision) and outcome.tier is None:
        assert not outcome.acts
        assert (outcome.model, outcome.max_tokens) == (call.requested_model, call.max_tokens)
        assert (outcome.effort, outcome.thinking) == ("keep", "keep")
    elif isinstance(outcome, Decision):
        assert outcome.tier is not None
        assert outcome.tier not in barred
        assert outcome.model == policy.tiers[outcome.tier].model


def test_a_declared_call_goes_to_the_tier_of_its_contract() -> None:
    decision = decided(a_call("task/extraction"))

    assert (decision.tier, decision.model, decision.acts) == ("fast", "claude-haiku-5-5", True)
    assert (decision.effort, decision.thinking) == (FAST.effort, FAST.thinking)
    assert sentences(decision) == [
        "The model name declares the task type extraction.",
        "The contract of extraction names the tier fast.",
        "Capped at the contract's 512; the caller asked for 32000.",
    ]


@pytest.mark.parametrize(
    ("declared", "sentence"),
    [
        (Declared.MODEL, "The model name declares the task type extraction."),
        (Declared.HEADER, "The header declares the task type extraction."),
        (Declared.MATCH, "A match rule recognises the task type extraction."),
    ],
)
def test_the_first_reason_is_how_the_type_was_declared(declared: Declared, sentence: str) -> None:
    decision = decide(a_call(), TaskRef(declared=declared, type="extraction"), policy=POLICY)

    assert isinstance(decision, Decision)
    assert (decision.reasons[0].why, decision.reasons[0].sentence) == (Why.DECLARED, sentence)


def test_an_undeclared_call_passes_as_it_was_asked() -> None:
    decision = decided(a_call("claude-next", max_tokens=77))

    assert (decision.tier, decision.model, decision.max_tokens) == (None, "claude-next", 77)
    assert (decision.acts, decision.effort, decision.thinking) == (False, "keep", "keep")
    assert [reason.why for reason in decision.reasons] == [Why.UNDECLARED]
    assert sentences(decision) == ["Nothing declares a task type: the call passes as it was asked."]


def test_an_unknown_type_in_a_header_passes_as_it_was_asked_where_there_is_no_default() -> None:
    decision = decided(a_call(headers={"x-tierwise-task-type": "extracton"}))

    assert (decision.tier, decision.acts) == (None, False)
    assert sentences(decision) == [
        "The policy has no task type 'extracton' and no default contract: the call passes as it was asked."
    ]


def test_an_unknown_type_in_the_model_name_is_refused_where_there_is_no_default() -> None:
    refusal = refused(a_call("task/extracton"))

    assert refusal == Refusal(
        code="unknown-task-type",
        sentence="The policy has no task type 'extracton'. Did you mean 'extraction'? "
        "It knows: extraction, synthesis.",
    )


def test_an_unknown_virtual_name_is_refused_though_the_policy_observes_for_there_is_no_such_model() -> None:
    refusal = refused(a_call("task/poetry"), a_policy(EXTRACTION, mode="observe"))

    assert refusal.sentence == "The policy has no task type 'poetry'. It knows: extraction."


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "extracton",
            "The policy has no task type 'extracton'; extraction is the nearest known: the default contract applies.",
        ),
        ("poetry", "The policy has no task type 'poetry': the default contract applies."),
    ],
)
def test_an_unknown_type_is_decided_by_the_default_contract(name: str, sentence: str) -> None:
    decision = decided(a_call(f"task/{name}"), WITH_DEFAULT)

    assert (decision.tier, decision.acts) == ("middle", True)
    assert (decision.reasons[0].why, decision.reasons[0].sentence) == (Why.UNKNOWN_TYPE, sentence)


@pytest.mark.parametrize("call", [a_call("task/nope"), a_call(headers={"x-tierwise-task-type": "nope"})])
def test_a_strict_policy_refuses_unknown_types_though_it_has_a_default(call: Call) -> None:
    policy = replace(WITH_DEFAULT, strict=True)

    assert refused(call, policy).code == "unknown-task-type"


def test_a_policy_that_observes_is_not_strict() -> None:
    policy = replace(WITH_DEFAULT, strict=True, mode="observe")

    decision = decided(a_call(headers={"x-tierwise-task-type": "nope"}), policy)

    assert (decision.tier, decision.acts) == ("middle", False)


def test_an_observed_call_is_decided_and_not_acted_on() -> None:
    policy = replace(POLICY, mode="observe")

    decision = decided(a_call(headers={"x-tierwise-task-type": "extraction"}), policy)

    assert (decision.tier, decision.max_tokens, decision.acts) == ("fast", 512, False)
    assert decision.reasons[-1].why is Why.OBSERVED
    assert decision.reasons[-1].sentence == "The policy observes: the call goes as it was asked."


@pytest.mark.parametrize(
    ("of_policy", "of_contract", "acts"),
    [
        ("route", None, True),
        ("route", "observe", False),
        ("observe", None, False),
        ("observe", "route", True),
    ],
)
def test_a_contract_may_observe_or_route_for_itself(of_policy: Any, of_contract: Any, acts: bool) -> None:
    policy = a_policy(replace(EXTRACTION, mode=of_contract), mode=of_policy)

    assert decided(a_call(headers={"x-tierwise-task-type": "extraction"}), policy).acts is acts


def test_a_virtual_model_name_is_always_acted_on_for_no_model_has_it() -> None:
    assert decided(a_call("task/extraction"), replace(POLICY, mode="observe")).acts


@given(CALLS, POLICIES, KEPT)
def test_the_cap_is_the_callers_or_the_larger_of_contract_and_floor_whichever_is_less(
    call: Call, policy: Policy, kept: str | None
) -> None:
    task = name_task(call, policy=policy)
    outcome = decide(call, task, policy=policy, kept=kept)

    if isinstance(outcome, Decision) and outcome.tier is not None:
        assert task.type is not None
        contract = policy.contracts[task.type]
        floor = cap_floor(policy.tiers[outcome.tier], contract)
        ceiling = call.max_tokens if contract.max_tokens is None else max(contract.max_tokens, floor)
        assert outcome.max_tokens == min(call.max_tokens, ceiling)


@pytest.mark.parametrize(
    ("asked", "contract_cap", "tier", "sent", "sentence"),
    [
        (32_000, 512, FAST, 512, "Capped at the contract's 512; the caller asked for 32000."),
        (100, 512, FAST, 100, "The caller's cap of 100 is within the contract's."),
        (512, 512, FAST, 512, "The caller's cap of 512 is within the contract's."),
        (32_000, None, FAST, 32_000, "extraction has no cap: the caller's 32000 stays."),
        (
            32_000,
            512,
            replace(FAST, thinking_floor=2048),
            2048,
            "Capped at 2048: claude-haiku-5-5 needs 2048 for room to think; the contract's is 512.",
        ),
        (
            1000,
            512,
            replace(FAST, thinking_floor=2048),
            1000,
            (
                "The caller's cap of 1000 stays: claude-haiku-5-5 needs 2048 for room to think; "
                "the contract's is 512."
            ),
        ),
    ],
)
def test_the_reason_of_a_cap_names_the_figures(
    asked: int, contract_cap: int | None, tier: Tier, sent: int, sentence: str
) -> None:
    policy = a_policy(replace(EXTRACTION, max_tokens=contract_cap), tiers=(FRONTIER, tier))

    decision = decided(a_call("task/extraction", max_tokens=asked), policy)

    assert decision.max_tokens == sent
    assert sentence in sentences(decision)


@pytest.mark.parametrize("kept", TIERS)
def test_a_conversation_keeps_its_tier(kept: str) -> None:
    assert decided(a_call("task/extraction"), kept=kept).tier == kept


def test_a_kept_tier_is_a_reason_where_the_contract_names_another() -> None:
    decision = decided(a_call("task/extraction"), kept="frontier")

    assert decision.reasons[1].why is Why.CONVERSATION
    assert decision.reasons[1].sentence == "Its conversation is on the tier frontier and stays there."


def test_a_kept_tier_that_the_policy_no_longer_has_is_forgotten() -> None:
    assert decided(a_call("task/extraction"), kept="gone").tier == "fast"


@pytest.mark.parametrize(
    ("wanted", "barred", "tier"),
    [
        ("fast", ("fast",), "middle"),
        ("fast", ("fast", "middle"), "frontier"),
        ("middle", ("middle",), "frontier"),
        ("middle", ("middle", "frontier"), "fast"),
        ("frontier", ("frontier",), "middle"),
        ("frontier", ("frontier", "middle"), "fast"),
        ("fast", ("frontier",), "fast"),
    ],
)
def test_a_barred_tier_gives_way_to_the_nearest_stronger_one_else_the_nearest_weaker(
    wanted: str, barred: tuple[str, ...], tier: str
) -> None:
    policy = a_policy(replace(EXTRACTION, tier=wanted))

    assert decided(a_call("task/extraction"), policy, barred=dict.fromkeys(barred, "No.")).tier == tier


def test_a_move_is_explained_tier_by_tier() -> None:
    barred = {"fast": "It takes no prefill.", "middle": "It is too small."}

    decision = decided(a_call("task/extraction", max_tokens=100), barred=barred)

    assert sentences(decision) == [
        "The model name declares the task type extraction.",
        "The contract of extraction names the tier fast.",
        "The tier fast cannot take this body: It takes no prefill.",
        "The tier middle cannot take this body: It is too small.",
        "frontier is the nearest tier that takes this body.",
        "The caller's cap of 100 is within the contract's.",
    ]


def test_a_call_that_no_tier_takes_is_refused_with_every_tiers_why() -> None:
    barred = {"fast": "Too long.", "middle": "Too long.", "frontier": "No prefill."}

    assert refused(a_call("task/extraction"), barred=barred) == Refusal(
        code="ineligible",
        sentence="No tier of the policy takes this body. "
        "fast: Too long. middle: Too long. frontier: No prefill.",
    )


def test_an_observed_call_that_no_tier_takes_passes_as_it_was_asked() -> None:
    call = a_call(headers={"x-tierwise-task-type": "extraction"})
    policy = a_policy(EXTRACTION, tiers=(FRONTIER, FAST), mode="observe")

    decision = decided(call, policy, barred={"fast": "Too long.", "frontier": "No prefill."})

    assert (decision.tier, decision.model, decision.acts) == (None, "claude-opus-5-5", False)
    assert sentences(decision) == [
        "The tier fast cannot take this body: Too long.",
        "The tier frontier cannot take this body: No prefill.",
        "The policy observes: the call goes as it was asked.",
    ]


@pytest.mark.parametrize(
    ("contract", "effort", "thinking"),
    [
        (EXTRACTION, "medium", "off"),
        (replace(EXTRACTION, effort="keep"), "keep", "off"),
        (replace(EXTRACTION, thinking="keep"), "medium", "keep"),
    ],
)
def test_effort_and_thinking_are_the_tiers_unless_the_contract_keeps_the_callers(
    contract: Contract, effort: str, thinking: str
) -> None:
    policy = a_policy(contract, tiers=(FRONTIER, MIDDLE, replace(FAST, effort="medium")))

    decision = decided(a_call("task/extraction", effort="max"), policy)

    assert (decision.effort, decision.thinking) == (effort, thinking)


LONG = a_call("task/synthesis")


def test_what_is_taken_otherwise_goes_before_the_contracts_tier_and_says_why() -> None:
    short = Reason(why=Why.BUDGET, sentence="A budget is short.")

    decision = decided(LONG, a_policy(SYNTHESIS), otherwise=Otherwise(tier="middle", why=short))

    assert (decision.tier, decision.model) == ("middle", MIDDLE.model)
    assert decision.reasons[1] == short


def test_a_contracts_task_budget_goes_with_its_decision() -> None:
    policy = a_policy(replace(SYNTHESIS, task_budget=50_000))

    assert decided(LONG, policy).task_budget == 50_000
    assert decided(LONG).task_budget is None


DRAWN = Drawn(tier="fast", probability=0.9, why=Reason(why=Why.AUTOPILOT, sentence="Drawn."))


def test_a_new_conversation_gets_the_tier_that_the_autopilot_drew() -> None:
    decision = decided(a_call("task/synthesis"), drawn=DRAWN)

    assert (decision.tier, decision.selection_probability) == ("fast", 0.9)
    assert "Drawn." in sentences(decision)


def test_a_conversation_on_the_drawn_tier_has_its_probability() -> None:
    decision = decided(a_call("task/synthesis"), drawn=DRAWN, kept="fast")

    assert (decision.tier, decision.selection_probability) == ("fast", 0.9)


def test_a_conversation_on_another_tier_than_the_drawn_one_stays() -> None:
    decision = decided(a_call("task/synthesis"), drawn=DRAWN, kept="frontier")

    assert (decision.tier, decision.selection_probability) == ("frontier", 1.0)
    assert "Its conversation is on the tier frontier and stays there." in sentences(decision)


def test_what_a_budget_or_another_attempt_takes_goes_before_what_was_drawn() -> None:
    otherwise = Otherwise(tier="middle", why=Reason(why=Why.BUDGET, sentence="Short."))

    decision = decided(a_call("task/synthesis"), drawn=DRAWN, otherwise=otherwise)

    assert (decision.tier, decision.selection_probability) == ("middle", 1.0)


def test_a_body_that_the_drawn_tier_cannot_take_goes_to_the_nearest_and_nothing_is_drawn() -> None:
    decision = decided(a_call("task/synthesis"), drawn=DRAWN, barred={"fast": "It cannot be."})

    assert (decision.tier, decision.selection_probability) == ("middle", 1.0)
