from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from support.calls import FAST, FRONTIER, MIDDLE, a_call, a_policy, contents_of
from tierwise.config.prices import shipped_prices
from tierwise.core.budgets import AccountRef, Denied, Reserved, Shrunk, accounts_of
from tierwise.core.call import Call
from tierwise.core.changes import REMOVED
from tierwise.core.decision import Refusal, Why
from tierwise.core.planning import Plan, Refused, plan
from tierwise.core.policy import Budget, Client, Contract, Mode, Policy, Tier, WhenShort, cap_floor
from tierwise.core.reserving import Asked, Asking, NextTry, ask, explain, granted, is_counted, next_try
from tierwise.core.settlement import describe
from tierwise.core.tasks import name_task
from tierwise.money import usd

PRICES = shipped_prices()
NOW = int(datetime(2026, 11, 23, tzinfo=UTC).timestamp()) * 1_000_000
HARD = Budget(name="all", scope="all", limit=usd("5"))
WARNS = Budget(name="soft", scope="all", limit=usd("5"), hard=False)
REFUSES = Budget(name="strict", scope="all", limit=usd("5"), when_short=("refuse",))
HEADER = {"x-tierwise-task-type": "extraction"}
OLD = Tier(name="old", model="claude-haiku-4-5", thinking="adaptive")


def planned(call: Call, policy: Policy) -> Plan:
    found = plan(call, name_task(call, policy=policy), policy=policy, kept=None)
    assert isinstance(found, Plan)
    return found


def asked(call: Call, policy: Policy) -> Asked:
    return ask(planned(call, policy), contents_of(call), call_id="c1", key_id="k1", prices=PRICES, at_us=NOW)


def asks(call: Call, policy: Policy) -> Asking:
    found = asked(call, policy)
    assert isinstance(found, Asking)
    return found


def extraction(
    *budgets: Budget,
    tier: Tier = FAST,
    max_tokens: int | None = 512,
    min_tokens: int | None = None,
    max_cost: str | None = None,
) -> Policy:
    """A policy of one type, on one tier, under budgets; prompts are not counted."""
    contract = Contract(
        name="extraction",
        tier=tier.name,
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        max_cost_nanos=None if max_cost is None else usd(max_cost),
    )
    return a_policy(contract, tiers=(tier,), budgets=budgets, count_near_limit=False)


def least_tokens(asking: Asking) -> int:
    found = asking.estimate.most_tokens(asking.claim.least_nanos)
    assert found is not None
    return found


def shrunk(asking: Asking, nanos: int) -> Plan:
    found = granted(asking, Shrunk(amount_nanos=nanos))
    assert isinstance(found, Plan)
    return found


def refusal(of: Asked | NextTry) -> Refusal:
    assert isinstance(of, Refused)
    return of.refusal


def test_a_call_is_counted_where_there_is_a_budget_or_its_type_has_a_limit() -> None:
    call = a_call("task/extraction")

    assert is_counted(planned(call, extraction(WARNS)))
    assert is_counted(planned(call, extraction(max_cost="1")))
    assert not is_counted(planned(call, extraction()))


def test_a_call_is_counted_where_its_type_has_a_budget_of_its_own() -> None:
    own = Contract(name="extraction", tier="fast", budgets=(HARD,))

    assert is_counted(planned(a_call("task/extraction"), a_policy(own)))
    assert not is_counted(planned(a_call(), a_policy(own)))


def test_a_call_is_counted_where_a_budget_counts_its_clients_calls() -> None:
    client = Client(name="ada", key_sha256=b"", budgets=(HARD.name,))
    policy = replace(extraction(HARD), clients=(client,))
    plan = planned(a_call("task/extraction"), policy)

    assert is_counted(plan, "ada")
    assert not is_counted(plan, "ben")
    assert not is_counted(plan)


def test_an_undeclared_or_observed_call_is_not_counted_by_the_limit_of_a_type() -> None:
    limited = extraction(max_cost="1")

    assert not is_counted(planned(a_call(), limited))
    assert not is_counted(planned(a_call(headers=HEADER), replace(limited, mode="observe")))


def test_a_call_asks_all_its_accounts_for_its_worst_case() -> None:
    policy = extraction(HARD, replace(WARNS, scope="key"))
    call = a_call("task/extraction", body_bytes=2_000)

    asking = asks(call, policy)

    accounts = accounts_of(asking.plan.task, key_id="k1", policy=policy, at_us=NOW)
    assert (asking.claim.call_id, asking.claim.accounts) == ("c1", accounts)
    # 3,000 tokens at $0.10 and 512 at $0.50 a million: the body's bytes and 1,000 that the provider may add.
    assert asking.claim.amount_nanos == usd("0.000556")
    assert asking.plan == planned(call, policy)


def test_a_call_asks_for_what_the_decided_model_costs_where_the_decision_acts() -> None:
    acting = asks(a_call("claude-opus-5-5", headers=HEADER, max_tokens=512), extraction(HARD))
    observed = asks(
        a_call("claude-opus-5-5", headers=HEADER, max_tokens=512), replace(extraction(HARD), mode="observe")
    )

    assert acting.claim.amount_nanos < observed.claim.amount_nanos
    assert observed.estimate == asks(a_call("claude-opus-5-5"), extraction(HARD)).estimate


def test_a_call_without_a_minimum_may_be_shrunk_to_a_quarter_of_its_cap_rounded_up() -> None:
    assert least_tokens(asks(a_call("task/extraction", max_tokens=101), extraction(HARD))) == 26


def test_a_call_may_be_shrunk_to_its_contracts_minimum_and_not_below() -> None:
    assert least_tokens(asks(a_call("task/extraction"), extraction(HARD, min_tokens=300))) == 300


def test_a_cap_below_the_contracts_minimum_is_not_raised_to_it() -> None:
    asking = asks(a_call("task/extraction", max_tokens=100), extraction(HARD, min_tokens=300))

    assert asking.claim.least_nanos == asking.claim.amount_nanos == asking.estimate.cost_nanos(100)


def test_a_call_that_thinks_keeps_the_room_that_its_model_needs() -> None:
    asking = asks(a_call("task/extraction"), extraction(HARD, tier=FRONTIER, max_tokens=None, min_tokens=1))

    assert least_tokens(asking) == 2048


def test_a_cap_stays_above_the_thinking_budget_that_the_caller_sent() -> None:
    keeps = Tier(name="old", model="claude-haiku-4-5")
    call = a_call("task/extraction", thinking="enabled", thinking_budget=9_000)

    asking = asks(call, extraction(HARD, tier=keeps, max_tokens=None, min_tokens=1))

    assert least_tokens(asking) == 9_001


def test_a_cap_stays_above_the_thinking_budget_that_fitting_sets() -> None:
    asking = asks(
        a_call("task/extraction", max_tokens=10_000),
        extraction(HARD, tier=OLD, max_tokens=None, min_tokens=1),
    )

    assert [describe(change) for change in asking.plan.changes if change.path == ("thinking",)] == [
        'thinking: -> {"type": "enabled", "budget_tokens": 5000} (thinking.adaptive)'
    ]
    assert least_tokens(asking) == 5_001


def test_a_cap_stays_above_the_thinking_budget_that_fitting_lowers() -> None:
    call = a_call("task/extraction", thinking="enabled", thinking_budget=9_000)

    asking = asks(call, extraction(HARD, tier=OLD, max_tokens=8_000, min_tokens=1))

    assert least_tokens(asking) == 4_001


@pytest.mark.parametrize("tier", [FAST, replace(MIDDLE, thinking="adaptive", thinking_floor=1)])
def test_a_thinking_budget_that_is_not_sent_needs_no_room(tier: Tier) -> None:
    call = a_call("task/extraction", thinking="enabled", thinking_budget=9_000)

    asking = asks(call, extraction(HARD, tier=tier, max_tokens=None, min_tokens=10))

    assert least_tokens(asking) == 10


@pytest.mark.parametrize(
    ("budgets", "shrinks"),
    [
        ((HARD,), True),
        ((REFUSES,), False),
        ((HARD, REFUSES), False),
        ((HARD, replace(REFUSES, hard=False)), True),
    ],
)
def test_a_call_is_shrunk_only_where_every_hard_budget_allows_it(
    budgets: tuple[Budget, ...], shrinks: bool
) -> None:
    claim = asks(a_call("task/extraction"), extraction(*budgets)).claim

    assert (claim.least_nanos < claim.amount_nanos) is shrinks


@pytest.mark.parametrize(
    ("call", "mode"),
    [(a_call(), "route"), (a_call(headers=HEADER), "observe")],
    ids=["undeclared", "observed"],
)
def test_a_call_that_goes_as_it_was_asked_is_never_shrunk(call: Call, mode: str) -> None:
    policy = extraction(HARD, max_cost="0.0001")
    asking = asks(call, replace(policy, mode=mode))

    assert asking.claim.least_nanos == asking.claim.amount_nanos == asking.estimate.cost_nanos(32_000)
    assert asking.plan.changes == ()


def test_a_model_without_a_price_is_refused_under_a_hard_budget() -> None:
    for policy in (extraction(HARD), extraction(WARNS, HARD)):
        found = refusal(asked(a_call("claude-next-9"), policy))

        assert found.code == "unpriced"
        assert found.sentence.startswith("claude-next-9 has no price")


def test_a_model_without_a_price_is_refused_where_its_type_has_a_limit() -> None:
    unpriced = Tier(name="fast", model="claude-next-9")

    for budgets in ((), (WARNS,)):
        policy = extraction(*budgets, tier=unpriced, max_cost="1")
        assert refusal(asked(a_call("task/extraction"), policy)).code == "unpriced"


def test_a_model_without_a_price_passes_budgets_that_only_warn_and_asks_nothing() -> None:
    call, policy = a_call("claude-next-9"), extraction(WARNS)

    assert asked(call, policy) == planned(call, policy)


@pytest.mark.parametrize("limit", ["0.01", "0.000356"])  # the second is its worst case
def test_a_call_within_its_types_limit_goes_as_planned(limit: str) -> None:
    call, policy = a_call("task/extraction"), extraction(max_cost=limit)

    assert asked(call, policy) == planned(call, policy)


def test_a_call_above_its_types_limit_is_capped_to_it_and_the_reason_is_told() -> None:
    # 1,000 tokens at $0.10 and 300 at $0.50 a million.
    capped = asked(a_call("task/extraction"), extraction(max_cost="0.00025"))

    assert isinstance(capped, Plan)
    assert (capped.max_tokens_sent, capped.decision.max_tokens) == (300, 300)
    assert capped.decision.reasons[-1].why is Why.BUDGET
    assert capped.decision.reasons[-1].sentence == "Capped at 300: one call may cost $0.00025."
    assert [describe(change) for change in capped.changes if change.path == ("max_tokens",)] == [
        "max_tokens: 32000 -> 300 (budget.max_tokens)"
    ]


def test_a_thread_above_its_types_limit_is_refused_so_that_the_caller_sends_it_whole() -> None:
    call = a_call(FAST.model, headers={"x-tierwise-task-type": "extraction"}, thread=True)
    found = refusal(asked(call, extraction(max_cost="0.00025")))

    assert found.code == "thread"
    assert "(max_cost_usd)" in found.sentence


def test_a_call_that_no_useful_cap_brings_below_its_types_limit_is_too_dear() -> None:
    found = refusal(asked(a_call("task/extraction"), extraction(max_cost="0.00025", min_tokens=400)))

    assert found.code == "too-dear"
    assert "One call of extraction may cost $0.00025" in found.sentence
    assert "up to $0.0003" in found.sentence


def test_a_call_whose_prompt_alone_is_above_its_types_limit_is_too_dear() -> None:
    assert refusal(asked(a_call("task/extraction"), extraction(max_cost="0.00005"))).code == "too-dear"


def test_a_call_that_is_capped_by_its_limit_asks_its_budgets_for_the_rest() -> None:
    asking = asks(a_call("task/extraction"), extraction(HARD, max_cost="0.00025"))

    assert asking.claim.amount_nanos == usd("0.00025")
    assert least_tokens(asking) == 128


def test_a_call_that_is_granted_whole_goes_as_planned() -> None:
    asking = asks(a_call("task/extraction"), extraction(HARD))

    assert granted(asking, Reserved(amount_nanos=asking.claim.amount_nanos)) == asking.plan


def test_a_shrunk_call_has_one_cap_and_says_why() -> None:
    asking = asks(a_call("task/extraction"), extraction(HARD, max_cost="0.00025"))

    smaller = shrunk(asking, usd("0.0002"))

    assert [change.after for change in smaller.changes if change.path == ("max_tokens",)] == [200]
    assert smaller.decision.max_tokens == 200
    assert smaller.decision.reasons[-1].sentence == (
        "Capped at 200: a budget has $0.0002 left for this call."
    )
    assert smaller.decision.reasons[:-1] == asking.plan.decision.reasons


def denied(account: AccountRef) -> Denied:
    return Denied(
        account=account, posted_nanos=usd("4"), pending_nanos=usd("0.9999"), asked_nanos=usd("0.0005")
    )


def test_a_denied_call_is_refused_with_the_account_that_is_short() -> None:
    asking = asks(a_call("task/extraction"), extraction(HARD))
    outcome = denied(asking.claim.accounts[0])

    found = refusal(next_try(asking, outcome, at_us=NOW))

    assert found == Refusal(code="budget", sentence=explain(outcome))


@pytest.mark.parametrize(
    ("budget", "headers", "begins", "ends"),
    [
        (HARD, {}, "The budget all is short: of $5.00, $4.0000 is spent and $0.9999 set aside", "no end."),
        (
            replace(HARD, name="runs", scope="run", window="day"),
            {"x-tierwise-run-id": "r7"},
            "The budget runs of run r7 is short: ",
            "Its window ends at 2026-11-24T00:00:00Z.",
        ),
        (replace(HARD, name="runs", scope="run"), {}, "The budget runs of run (none) is short: ", "no end."),
    ],
)
def test_a_caller_is_told_which_budget_is_short_whose_it_is_and_when_it_ends(
    budget: Budget, headers: dict[str, str], begins: str, ends: str
) -> None:
    asking = asks(a_call("task/extraction", headers=headers), extraction(budget))

    sentence = explain(denied(asking.claim.accounts[0]))

    assert sentence.startswith(begins)
    assert "this call may cost $0.0005." in sentence
    assert sentence.endswith(ends)


CAPS = st.integers(1, 60_000)
WHEN_SHORT: st.SearchStrategy[tuple[WhenShort, ...]] = st.sampled_from([("shrink", "refuse"), ("refuse",)])
DECLARED = a_call("claude-haiku-4-5", headers=HEADER)
CALLS = st.sampled_from((DECLARED, a_call("task/extraction"), a_call()))
MODES: st.SearchStrategy[Mode] = st.sampled_from(("route", "observe"))


@st.composite
def askings(
    draw: st.DrawFn,
    *,
    when_short: st.SearchStrategy[tuple[WhenShort, ...]] = WHEN_SHORT,
    calls: st.SearchStrategy[Call] = CALLS,
    modes: st.SearchStrategy[Mode] = MODES,
    least: st.SearchStrategy[int] = CAPS,
) -> Asking:
    """Calls of all kinds under a budget: declared or not, observed or not, thinking or not, on any tier."""
    budget = draw(st.integers(1_024, 20_000) | st.none())
    call = replace(
        draw(calls),
        max_tokens=draw(CAPS),
        body_bytes=draw(st.integers(0, 50_000)),
        thinking=None if budget is None else "enabled",
        thinking_budget=budget,
    )
    policy = extraction(
        replace(HARD, when_short=draw(when_short)),
        tier=draw(st.sampled_from((FRONTIER, MIDDLE, FAST, OLD))),
        max_tokens=draw(CAPS | st.none()),
        min_tokens=draw(least | st.none()),
        max_cost=draw(st.sampled_from((None, "0.1", "1"))),
    )
    found = asked(call, replace(policy, mode=draw(modes)))
    assume(isinstance(found, Asking))
    assert isinstance(found, Asking)
    return found


SHRINKABLE = askings(
    when_short=st.just(("shrink", "refuse")),
    calls=st.just(DECLARED),
    modes=st.just("route"),
    least=st.integers(1, 500),
)


@given(asking=SHRINKABLE, share=st.integers(0, 100))
def test_a_shrunk_calls_worst_case_is_within_what_was_granted_and_its_cap_never_rises(
    asking: Asking, share: int
) -> None:
    claim = asking.claim
    spread = claim.amount_nanos - claim.least_nanos
    assume(spread)
    amount = claim.least_nanos + spread * share // 101

    smaller = shrunk(asking, amount)

    assert asking.estimate.cost_nanos(smaller.max_tokens_sent) <= amount
    assert least_tokens(asking) <= smaller.max_tokens_sent < asking.plan.max_tokens_sent
    assert smaller.decision.max_tokens == smaller.max_tokens_sent


@given(asking=askings())
def test_the_least_of_a_claim_is_a_useful_reply_and_never_more_than_its_worst_case(asking: Asking) -> None:
    claim, made = asking.claim, asking.plan
    assert claim.least_nanos <= claim.amount_nanos == asking.estimate.cost_nanos(made.max_tokens_sent)
    assert made.max_tokens_sent <= made.call.max_tokens
    if not made.decision.acts:
        assert claim.least_nanos == claim.amount_nanos
    elif claim.least_nanos < claim.amount_nanos:
        assert made.decision.tier is not None
        contract = made.policy.contracts["extraction"]
        least = least_tokens(asking)
        assert least >= (contract.min_tokens or 1)
        assert least >= cap_floor(made.policy.tiers[made.decision.tier], contract)
        assert least > sent_budget(made)


def sent_budget(made: Plan) -> int:
    """The thinking budget of the body as it is sent."""
    thinking: Any = {"type": made.call.thinking, "budget_tokens": made.call.thinking_budget}
    for change in made.changes:
        match change.path:
            case ("thinking",):
                thinking = {} if change.after is REMOVED else change.after
            case ("thinking", name):
                thinking = {**thinking, name: change.after}
            case _:
                pass
    budget = thinking.get("budget_tokens")
    return budget if isinstance(budget, int) else 0
