"""What is tried after a claim was denied, in the order of the short budget's own words."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from support.calls import FAST, FRONTIER, a_call, a_policy, contents_of
from tierwise.config.prices import shipped_prices
from tierwise.core.budgets import Denied, Lost, Reserved
from tierwise.core.calibration import Calibration, Ratio
from tierwise.core.call import Call
from tierwise.core.decision import Refusal, Why
from tierwise.core.estimate import Contents
from tierwise.core.planning import Plan, Refused, plan
from tierwise.core.policy import Budget, Contract, Policy, WhenShort
from tierwise.core.reserving import (
    Asking,
    CountFirst,
    NextTry,
    Queued,
    ask,
    counted,
    explain,
    granted,
    next_try,
)
from tierwise.core.tasks import name_task
from tierwise.money import usd

PRICES = shipped_prices()
NOW = int(datetime(2026, 11, 23, tzinfo=UTC).timestamp()) * 1_000_000
UNTIL = NOW + 10_000_000
PLAIN_TEXT = a_call("task/extraction", body_bytes=200_000)
HEADER = {"x-tierwise-task-type": "extraction"}


def a_budget(*when_short: WhenShort, name: str = "all", limit: str = "5") -> Budget:
    return Budget(name=name, scope="all", limit=usd(limit), when_short=when_short or ("shrink", "refuse"))


def a_policy_of(
    *budgets: Budget,
    downgrade_to: str | None = None,
    max_cost: str | None = None,
    count: bool = False,
    calibrated: bool = False,
) -> Policy:
    """One type on the frontier tier, capped at 8,192 tokens, where the fast tier is cheaper."""
    contract = Contract(
        name="extraction",
        tier="frontier",
        max_tokens=8_192,
        downgrade_to=downgrade_to,
        max_cost_nanos=None if max_cost is None else usd(max_cost),
    )
    return a_policy(
        contract,
        tiers=(FRONTIER, FAST),
        budgets=budgets,
        count_near_limit=count,
        prompt_bound="calibrated" if calibrated else "bytes",
    )


def asks(
    policy: Policy,
    *,
    call: Call = PLAIN_TEXT,
    contents: Contents | None = None,
    is_new: bool = True,
    calibration: Calibration | None = None,
) -> Asking:
    made = plan(call, name_task(call, policy=policy), policy=policy, kept=None)
    assert isinstance(made, Plan)
    asking = ask(
        made,
        contents or contents_of(call),
        call_id="c1",
        key_id="k1",
        prices=PRICES,
        at_us=NOW,
        is_new=is_new,
        calibration=calibration or Calibration(),
    )
    assert isinstance(asking, Asking)
    return asking


def short(asking: Asking, *, left: int = 0, place: int = 0) -> Denied:
    account = asking.claim.accounts[place]
    return Denied(
        account=account,
        posted_nanos=(account.limit or 0) - left,
        pending_nanos=0,
        asked_nanos=asking.claim.least_nanos,
    )


def tried(asking: Asking, *, left: int = 0, place: int = 0, at_us: int = NOW) -> NextTry:
    return next_try(asking, short(asking, left=left, place=place), at_us=at_us)


def again(asking: Asking, *, left: int = 0, place: int = 0, at_us: int = NOW) -> Asking:
    found = tried(asking, left=left, place=place, at_us=at_us)
    assert isinstance(found, Asking)
    return found


def refusal(found: NextTry) -> Refusal:
    assert isinstance(found, Refused)
    return found.refusal


def tier(asking: Asking) -> str | None:
    return asking.plan.decision.tier


def test_words_are_tried_in_their_order_and_each_once() -> None:
    first = asks(a_policy_of(a_budget("shrink", "downgrade", "queue", "refuse"), downgrade_to="fast"))
    moved = again(first)

    assert first.shrinks
    assert (tier(first), tier(moved)) == ("frontier", "fast")
    assert tried(moved) == Queued(until_us=UNTIL)
    assert refusal(tried(moved, at_us=UNTIL)).code == "budget"


def test_a_call_asks_for_all_of_it_first_where_shrinking_is_not_the_first_word() -> None:
    first = asks(a_policy_of(a_budget("downgrade", "shrink", "refuse"), downgrade_to="fast"))
    moved = again(first)
    smaller = again(moved)

    assert [asking.shrinks for asking in (first, moved, smaller)] == [False, False, True]
    assert [tier(asking) for asking in (first, moved, smaller)] == ["frontier", "fast", "fast"]
    assert smaller.claim.least_nanos < smaller.claim.amount_nanos == moved.claim.amount_nanos


def test_a_call_that_may_wait_before_it_is_shrunk_is_shrunk_when_the_wait_is_over() -> None:
    first = asks(a_policy_of(a_budget("queue", "shrink", "refuse")))

    assert not first.shrinks
    assert tried(first) == Queued(until_us=UNTIL)
    assert again(first, at_us=UNTIL).shrinks


def test_nothing_is_tried_after_refuse_or_after_the_last_word() -> None:
    refuses = asks(a_policy_of(a_budget("refuse", "queue")))
    ends = asks(a_policy_of(a_budget("shrink")))

    assert refusal(tried(refuses)) == Refusal(code="budget", sentence=explain(short(refuses)))
    assert refusal(tried(ends)).code == "budget"


def test_the_words_are_those_of_the_budget_that_is_short() -> None:
    asking = asks(a_policy_of(a_budget("refuse", name="one"), a_budget("queue", name="two")))

    assert refusal(tried(asking, place=0)).code == "budget"
    assert tried(asking, place=1) == Queued(until_us=UNTIL)


def test_a_call_is_not_shrunk_where_another_hard_budget_does_not_allow_it() -> None:
    asking = asks(a_policy_of(a_budget("queue", "shrink"), a_budget("refuse", name="two")))

    assert refusal(tried(asking, at_us=UNTIL)).code == "budget"


def test_a_call_that_was_shrunk_keeps_a_quarter_of_the_cap_it_was_planned_with() -> None:
    policy = a_policy_of(a_budget("queue", "shrink"), max_cost="0.9")
    first = asks(policy)
    assert first.plan.max_tokens_sent < first.wanted.max_tokens_sent == 8_192

    smaller = again(first, at_us=UNTIL)

    assert smaller.claim.least_nanos == smaller.estimate.cost_nanos(2_048)
    assert smaller.plan == first.plan


# Counting.


def test_a_body_whose_bytes_do_not_fit_is_sent_where_its_count_does() -> None:
    first = asks(a_policy_of(a_budget(), count=True))
    left = usd("0.4")
    assert first.claim.amount_nanos > left

    assert tried(first, left=left) == CountFirst()
    fewer = counted(first, 50_000)
    assert isinstance(fewer, Asking)
    assert fewer.claim.amount_nanos < left
    assert granted(fewer, Reserved(amount_nanos=fewer.claim.amount_nanos)) == first.plan


def test_a_call_is_not_shrunk_before_its_prompt_is_counted_and_may_be_after() -> None:
    first = asks(a_policy_of(a_budget(), count=True))
    after = counted(first, 50_000)

    assert isinstance(after, Asking)
    assert (first.shrinks, after.shrinks) == (False, True)
    assert (first.may_count, after.may_count) == (True, False)


def test_a_prompt_that_could_not_be_counted_keeps_its_bound() -> None:
    first = asks(a_policy_of(a_budget(), count=True))
    after = counted(first, None)

    assert isinstance(after, Asking)
    assert after.estimate == first.estimate


def test_a_prompt_is_not_counted_where_the_fewest_tokens_would_not_fit() -> None:
    first = asks(a_policy_of(a_budget(), count=True))

    assert tried(first, left=usd("0.0001")) != CountFirst()


def test_a_prompt_is_not_counted_for_a_smaller_reply_where_no_budget_allows_one() -> None:
    words = asks(a_policy_of(a_budget("refuse"), count=True))
    left = words.estimate.cost_nanos(4_000) - words.estimate.cost_nanos(0) + usd("0.06")

    assert refusal(tried(words, left=left)).code == "budget"
    assert tried(asks(a_policy_of(a_budget("shrink"), count=True)), left=left) == CountFirst()


def test_images_are_counted_however_many_bytes_they_have() -> None:
    images = Contents(body_bytes=900_000, attachments=1, open_ended=False, cache_writes="none")
    first = asks(a_policy_of(a_budget(), count=True), contents=images)

    assert tried(first, left=first.estimate.cost_nanos(8_192) - first.estimate.cost_nanos(0)) == CountFirst()


@pytest.mark.parametrize(
    "call",
    [
        replace(PLAIN_TEXT, tool_types=("web_search_20260209",)),
        replace(PLAIN_TEXT, requested_model="claude-opus-5-5", headers=HEADER, thread=True),
        replace(PLAIN_TEXT, requested_model="claude-opus-5-5", headers=HEADER, fallbacks=True),
    ],
    ids=["tools", "thread", "fallbacks"],
)
def test_what_the_provider_does_not_count_is_not_counted(call: Call) -> None:
    assert not asks(a_policy_of(a_budget(limit="50"), count=True), call=call).may_count


def test_a_prompt_that_the_provider_adds_to_is_not_counted() -> None:
    grows = replace(contents_of(PLAIN_TEXT), grows=True)

    assert not asks(a_policy_of(a_budget(), count=True), contents=grows).may_count


def test_a_count_does_not_free_what_a_call_was_capped_for_from_its_types_limit() -> None:
    first = asks(a_policy_of(a_budget(), max_cost="0.9", count=True))

    after = counted(first, 50_000)

    assert isinstance(after, Asking)
    assert first.plan.max_tokens_sent < after.plan.max_tokens_sent
    assert after.claim.amount_nanos <= usd("0.9")


def test_a_policy_that_bounds_prompts_by_experience_asks_for_less() -> None:
    seen = Calibration(
        ratios={(FRONTIER.model, "ascii"): Ratio(calls=1_000, most_per_mille=300)},
    )

    by_bytes = asks(a_policy_of(a_budget()), calibration=seen)
    by_experience = asks(a_policy_of(a_budget(), calibrated=True), calibration=seen)

    assert by_experience.claim.amount_nanos < by_bytes.claim.amount_nanos


# Downgrading.


def test_a_new_conversation_is_moved_to_its_contracts_cheaper_tier_and_told_why() -> None:
    moved = again(asks(a_policy_of(a_budget("downgrade"), downgrade_to="fast")))

    decision = moved.plan.decision
    assert (decision.tier, decision.model) == ("fast", FAST.model)
    assert moved.downgraded
    why = [reason.sentence for reason in decision.reasons if reason.why is Why.BUDGET]
    assert why == ["A budget is short, and the contract of extraction allows fast."]


@pytest.mark.parametrize("downgrade_to", [None, "frontier"])
def test_a_contract_without_a_cheaper_tier_moves_nothing(downgrade_to: str | None) -> None:
    found = tried(asks(a_policy_of(a_budget("downgrade"), downgrade_to=downgrade_to)))

    assert refusal(found).code == "budget"


def test_a_conversation_that_has_a_tier_is_not_moved() -> None:
    asking = asks(a_policy_of(a_budget("downgrade"), downgrade_to="fast"), is_new=False)

    assert refusal(tried(asking)).code == "budget"


def test_a_call_that_goes_as_it_was_asked_is_not_moved() -> None:
    undeclared = replace(PLAIN_TEXT, requested_model="claude-opus-5-5")
    policy = a_policy_of(a_budget("shrink", "downgrade", limit="50"), downgrade_to="fast")

    assert refusal(tried(asks(policy, call=undeclared))).code == "budget"


def test_a_call_is_moved_once() -> None:
    moved = again(asks(a_policy_of(a_budget("downgrade"), downgrade_to="fast")))

    assert refusal(tried(moved)).code == "budget"


def test_a_body_that_the_cheaper_tier_cannot_take_stays() -> None:
    thread = replace(
        PLAIN_TEXT, requested_model=FRONTIER.model, headers=HEADER, thread=True, begins_thread=True
    )
    policy = a_policy_of(a_budget("downgrade", limit="50"), downgrade_to="fast")

    assert refusal(tried(asks(policy, call=thread))).code == "budget"


GOES_ON = replace(PLAIN_TEXT, requested_model=FRONTIER.model, headers=HEADER, thread=True, opening=None)


def test_a_thread_that_a_budget_cannot_cover_is_refused_so_that_the_caller_sends_it_whole() -> None:
    asking = asks(a_policy_of(a_budget("shrink", "queue", limit="50"), count=True), call=GOES_ON)

    refused = refusal(tried(asking))

    assert (asking.shrinks, asking.may_count) == (False, False)
    assert refused.code == "thread"
    assert "send the conversation in full" in refused.sentence
    assert "The budget all is short" in refused.sentence


def test_a_thread_that_comes_after_a_limit_of_calls_is_refused_like_any_call() -> None:
    of_calls = replace(a_budget(), counts="calls", limit=1)

    assert refusal(tried(asks(a_policy_of(of_calls), call=GOES_ON))).code == "budget"


def test_a_body_that_only_another_tier_takes_stays() -> None:
    long = replace(PLAIN_TEXT, body_bytes=30_000_000)
    small = replace(FAST, model="claude-haiku-4-5")
    policy = replace(
        a_policy_of(a_budget("downgrade", limit="50"), downgrade_to="fast"),
        tiers={"frontier": FRONTIER, "fast": small},
    )

    assert refusal(tried(asks(policy, call=long))).code == "budget"


def test_a_call_stays_where_the_cheaper_tier_has_no_price() -> None:
    unpriced = replace(FAST, model="claude-next-9")
    policy = replace(
        a_policy_of(a_budget("downgrade"), downgrade_to="fast"),
        tiers={"frontier": FRONTIER, "fast": unpriced},
    )

    assert refusal(tried(asks(policy))).code == "budget"


# Limits of calls, and of what one key may have pending.


def test_a_limit_of_calls_is_neither_counted_for_nor_shrunk_nor_moved_for_and_may_be_waited_for() -> None:
    limit = Budget(
        name="calls",
        scope="all",
        limit=5,
        counts="calls",
        when_short=("shrink", "downgrade", "queue", "refuse"),
    )
    asking = asks(a_policy_of(limit, downgrade_to="fast", count=True))

    assert tried(asking) == Queued(until_us=UNTIL)
    assert refusal(tried(asking, at_us=UNTIL)).sentence == (
        "The limit calls is reached: 5 of 5 calls are made. It has no end."
    )


def test_a_limit_of_calls_does_not_keep_a_call_from_being_shrunk_for_its_money() -> None:
    calls = Budget(name="calls", scope="all", limit=5, counts="calls", when_short=("refuse",))

    assert asks(a_policy_of(a_budget(), calls)).shrinks
    assert again(asks(a_policy_of(a_budget("queue", "shrink"), calls)), at_us=UNTIL).shrinks


def test_a_caller_is_told_that_its_key_has_too_much_pending() -> None:
    budget = replace(a_budget(), pending_share=10)
    asking = asks(a_policy_of(budget))
    denied = Denied(
        account=asking.claim.accounts[1],
        posted_nanos=usd("3"),
        pending_nanos=usd("0.4999"),
        asked_nanos=usd("0.01"),
    )

    assert explain(denied) == (
        "One key may have $0.50 of the budget all set aside at once, $0.4999 is, and this call may cost $0.0100. "
        "Some comes back when calls in flight end."
    )


# Balances that cannot be reached.


@pytest.mark.parametrize(
    ("hard", "when_lost", "goes"),
    [(True, "refuse", False), (True, "allow", True), (False, "refuse", True)],
)
def test_while_balances_cannot_be_reached_calls_under_hard_budgets_wait_for_the_policys_word(
    hard: bool, when_lost: str, goes: bool
) -> None:
    policy = replace(a_policy_of(replace(a_budget(), hard=hard)), when_lost=when_lost)
    asking = asks(policy)

    found = granted(asking, Lost(why="no route"))

    if goes:
        assert found == asking.plan
    else:
        assert isinstance(found, Refused)
        assert found.refusal.code == "budget-store"
        assert found.refusal.sentence.endswith("no route")
