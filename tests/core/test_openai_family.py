"""Calls of OpenAI's clients in the core: decided, fitted, bounded and priced by the rules of all."""

from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

import pytest

from support.calls import a_call
from tierwise.config.prices import shipped_prices
from tierwise.core.budgets import Shrunk
from tierwise.core.call import UNCAPPED, Call
from tierwise.core.decision import Refusal
from tierwise.core.estimate import Contents, Estimate, estimate
from tierwise.core.planning import Plan, Refused, plan
from tierwise.core.policy import Budget, Contract, Mode, Policy, Tier
from tierwise.core.pricing import Card, Price
from tierwise.core.reserving import Asked, Asking, ask, granted
from tierwise.core.settlement import describe
from tierwise.core.tasks import name_task
from tierwise.money import usd
from tierwise.usage import Metered, Usage, UsageLine

PRICES: Final = shipped_prices().with_overrides(
    [
        Price(model="gpt-5", card=Card(input=Decimal(1), output=Decimal(10))),
        Price(
            model="gpt-5-mini",
            card=Card(
                input=Decimal("0.25"),
                output=Decimal(2),
                cache_read=Decimal("0.025"),
                cache_write_5m=Decimal(1),
            ),
        ),
    ],
    version="test",
)
NOW: Final = 1_763_942_400_000_000
FRONTIER: Final = Tier(name="frontier", model="gpt-5", effort="medium", thinking_floor=0)
FAST: Final = Tier(name="fast", model="gpt-5-mini", effort="keep", thinking_floor=0)
EXTRACTION: Final = Contract(name="extraction", tier="fast", max_tokens=512)
SYNTHESIS: Final = Contract(name="synthesis", tier="frontier")
HARD: Final = Budget(name="all", scope="all", limit=usd("5"))


def a_chat(model: str = "task/extraction", **fields: Any) -> Call:
    chat: dict[str, Any] = {
        "family": "openai",
        "cap_path": ("max_completion_tokens",),
        "effort_path": ("reasoning_effort",),
        "max_tokens": UNCAPPED,
        "body_bytes": 200,
    }
    return replace(a_call(model), **{**chat, **fields})


def a_policy(*tiers: Tier, mode: Mode = "route", budgets: tuple[Budget, ...] = ()) -> Policy:
    found = tiers or (FRONTIER, FAST)
    return Policy(
        tiers={tier.name: tier for tier in found},
        contracts={each.name: each for each in (EXTRACTION, SYNTHESIS)},
        mode=mode,
        budgets=budgets,
    )


def planned(call: Call, policy: Policy) -> Plan | Refused:
    return plan(call, name_task(call, policy=policy), policy=policy, kept=None)


def changes(call: Call, policy: Policy | None = None) -> list[str]:
    found = planned(call, policy or a_policy())
    assert isinstance(found, Plan)
    return [describe(change) for change in found.changes]


def contents(*, open_ended: bool = False) -> Contents:
    return Contents(body_bytes=200, attachments=0, open_ended=open_ended, cache_writes="1h", grows=True)


def bound(call: Call, model: str = "gpt-5", *, open_ended: bool = False) -> Estimate:
    found = estimate(call, contents(open_ended=open_ended), model=model, prices=PRICES, at_us=NOW)
    assert found is not None
    return found


def asked(call: Call, policy: Policy) -> Asked:
    found = planned(call, policy)
    assert isinstance(found, Plan)
    return ask(found, contents(), call_id="c1", key_id="k1", prices=PRICES, at_us=NOW)


def test_a_call_gets_its_tiers_model_and_its_contracts_cap() -> None:
    assert changes(a_chat()) == [
        "model: task/extraction -> gpt-5-mini (decision.model)",
        "max_completion_tokens: -> 512 (decision.max_tokens)",
    ]


def test_the_callers_own_cap_stays_where_it_is_smaller_and_as_it_is_spelled() -> None:
    assert "max_tokens: 900 -> 512 (decision.max_tokens)" in changes(
        a_chat(max_tokens=900, cap_path=("max_tokens",)), a_policy(FRONTIER, replace(FAST, model="my-model"))
    )
    assert changes(a_chat(max_tokens=9)) == ["model: task/extraction -> gpt-5-mini (decision.model)"]


LOWERED: Final = "reasoning_effort: low -> medium (decision.effort)"


@pytest.mark.parametrize(
    ("effort", "told"),
    [(None, ["reasoning_effort: -> medium (decision.effort)"]), ("medium", []), ("low", [LOWERED])],
)
def test_a_tiers_effort_replaces_the_callers(effort: str | None, told: list[str]) -> None:
    assert changes(a_chat("task/synthesis", effort=effort, max_tokens=5))[1:] == told


def test_a_call_that_is_as_its_tier_has_it_is_not_changed() -> None:
    call = a_chat("gpt-5-mini", max_tokens=5, headers={"x-tierwise-task-type": "extraction"})

    assert changes(call) == []


def test_a_tier_without_an_effort_leaves_the_callers() -> None:
    assert changes(a_chat(effort="low", max_tokens=5)) == [
        "model: task/extraction -> gpt-5-mini (decision.model)"
    ]


def test_a_stream_is_asked_for_its_usage_whatever_becomes_of_it() -> None:
    told = "stream_options.include_usage: -> True (stream.usage)"
    header = {"x-tierwise-task-type": "extraction"}

    assert changes(a_chat(usage_told=False))[-1] == told
    assert changes(a_chat("gpt-5", usage_told=False)) == [told]
    assert changes(a_chat("gpt-5", usage_told=False, headers=header), a_policy(mode="observe")) == [told]
    assert changes(a_chat("gpt-5")) == []


def test_a_model_of_the_catalogue_behind_this_api_is_not_fitted_by_its_table() -> None:
    tier = Tier(name="fast", model="claude-haiku-5-5", effort="keep", thinking="off")
    policy = a_policy(FRONTIER, tier)

    assert changes(a_chat(max_tokens=5, thinking="enabled"), policy) == [
        "model: task/extraction -> claude-haiku-5-5 (decision.model)"
    ]


def test_a_tier_without_a_counterpart_is_refused_and_says_so() -> None:
    refused = planned(a_chat("task/synthesis"), a_policy(FAST))

    assert isinstance(refused, Refused)
    assert refused.refusal.code == "not-supported"
    assert "[openai.tiers.frontier]" in refused.refusal.sentence
    assert "does not translate" in refused.refusal.sentence


def test_an_observed_call_whose_tier_has_no_counterpart_goes_as_it_was_asked() -> None:
    call = a_chat("gpt-5", headers={"x-tierwise-task-type": "synthesis"})
    found = planned(call, a_policy(FAST, mode="observe"))

    assert isinstance(found, Plan)
    assert (found.decision.tier, found.decision.model) == (None, "gpt-5")
    assert "[openai.tiers.frontier]" in found.decision.reasons[0].sentence


def test_a_call_without_a_cap_takes_its_tiers_where_its_contract_has_none() -> None:
    capped = replace(FRONTIER, max_tokens=77)

    assert "max_completion_tokens: -> 77 (decision.max_tokens)" in changes(
        a_chat("task/synthesis"), a_policy(capped, FAST)
    )
    assert not [each for each in changes(a_chat("task/synthesis")) if "max_" in each]


def test_a_reason_says_that_there_was_no_cap() -> None:
    found = planned(a_chat(), a_policy())

    assert isinstance(found, Plan)
    assert "asked for no cap" in found.decision.reasons[-1].sentence


def test_a_call_that_nothing_caps_is_refused_under_a_hard_budget_and_not_under_a_soft_one() -> None:
    call = a_chat("task/synthesis")
    refused = asked(call, a_policy(budgets=(HARD,)))

    assert isinstance(refused, Refused)
    assert isinstance(refused.refusal, Refusal)
    assert refused.refusal.code == "unpriced"
    assert "max_completion_tokens" in refused.refusal.sentence
    assert isinstance(asked(call, a_policy(budgets=(replace(HARD, hard=False),))), Plan)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (a_chat(stored_prompt=True), "a stored prompt"),
        (a_chat("gpt-5-search-api", max_tokens=9), "its searches"),
    ],
)
def test_what_may_be_billed_beside_the_tokens_is_refused_under_a_hard_budget_and_not_under_a_soft_one(
    call: Call, word: str
) -> None:
    refused = asked(call, a_policy(budgets=(HARD,)))

    assert isinstance(refused, Refused)
    assert refused.refusal.code == "unpriced"
    assert word in refused.refusal.sentence
    assert isinstance(asked(call, a_policy(budgets=(replace(HARD, hard=False),))), Plan)


def test_counts_beside_which_more_is_billed_have_no_cost() -> None:
    counted = Metered(lines=(UsageLine(model="gpt-5", usage=Usage(output_tokens=5)),))

    assert PRICES.cost(counted, NOW) == 50_000
    assert PRICES.cost(replace(counted, billed_apart=True), NOW) is None


def test_a_budget_lowers_a_cap_where_the_caller_spells_it() -> None:
    asking = asked(a_chat(max_tokens=400), a_policy(budgets=(HARD,)))
    assert isinstance(asking, Asking)
    shrunk = granted(asking, Shrunk(amount_nanos=asking.estimate.cost_nanos(100)))

    assert isinstance(shrunk, Plan)
    assert shrunk.max_tokens_sent == 100
    assert "max_completion_tokens: 400 -> 100 (budget.max_tokens)" in map(describe, shrunk.changes)


def test_an_older_spelling_becomes_the_one_that_the_model_takes_and_a_budget_lowers_that() -> None:
    call = a_chat(max_tokens=400, cap_path=("max_tokens",))
    asking = asked(call, a_policy(budgets=(HARD,)))
    assert isinstance(asking, Asking)
    shrunk = granted(asking, Shrunk(amount_nanos=asking.estimate.cost_nanos(100)))

    renamed = "max_tokens: removed (openai.cap)"
    assert "max_completion_tokens: -> 400 (openai.cap)" in changes(call)
    assert renamed in changes(call)
    assert isinstance(shrunk, Plan)
    assert shrunk.max_tokens_sent == 100
    assert [describe(change) for change in shrunk.changes][1:] == [
        renamed,
        "max_completion_tokens: 400 -> 100 (budget.max_tokens)",
    ]


def test_an_observed_call_keeps_its_spelling() -> None:
    call = a_chat(
        "gpt-4o", max_tokens=400, cap_path=("max_tokens",), headers={"x-tierwise-task-type": "extraction"}
    )
    found = planned(call, a_policy(mode="observe"))

    assert isinstance(found, Plan)
    assert (found.changes, found.max_tokens_sent, found.call.cap_path) == ((), 400, ("max_tokens",))


def test_functions_go_to_a_tier_whose_model_takes_them_in_chat_completions() -> None:
    new = replace(FAST, model="gpt-6-luna")
    found = planned(a_chat(functions=True), a_policy(FRONTIER, new))

    assert isinstance(found, Plan)
    assert (found.decision.tier, found.decision.model) == ("frontier", "gpt-5")
    refused = planned(a_chat(functions=True), a_policy(new))
    assert isinstance(refused, Refused)
    assert "Responses" in refused.refusal.sentence
    in_responses = a_chat(functions=True, effort_path=("reasoning", "effort"))
    assert isinstance(planned(in_responses, a_policy(new)), Plan)


def test_each_of_several_replies_is_bounded() -> None:
    one, three = bound(a_chat()), bound(a_chat(samples=3))

    assert three.output_attos_each == 3 * one.output_attos_each
    assert three.fixed_attos == one.fixed_attos


def test_a_prompt_that_is_not_in_the_body_is_bounded_by_the_largest_window() -> None:
    assert bound(a_chat(), open_ended=True).cost_nanos(0) == 1_100_000 * 1_000
    assert bound(a_chat(thread=True)).cost_nanos(0) == 1_200 * 1_000


def test_a_bound_is_the_dearest_bucket_that_has_a_price() -> None:
    assert bound(a_chat()).cost_nanos(0) == 1_200 * 1_000
    assert bound(a_chat(), "gpt-5-mini").cost_nanos(0) == 1_200 * 1_000  # written to the cache
    assert estimate(a_chat(), contents(), model="gpt-4", prices=PRICES, at_us=NOW) is None


def test_a_snapshot_has_the_price_of_its_model() -> None:
    assert PRICES.resolve("gpt-5-2025-08-07") == "gpt-5"
    assert PRICES.resolve("gpt-5-2025-08") is None
