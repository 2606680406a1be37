from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.calls import FAST, FRONTIER, a_call, a_policy, contents_of
from tierwise.config.prices import shipped_prices
from tierwise.core.attempts import (
    ONLY,
    RETRIED_STATUSES,
    Attempt,
    Failure,
    Next,
    Spent,
    TryAgain,
    after_cut,
    after_failure,
    first_attempt,
)
from tierwise.core.budgets import Reserved, Shrunk
from tierwise.core.cascades import after_check, check_of
from tierwise.core.checks import Check, TextRule
from tierwise.core.decision import Why
from tierwise.core.effects import (
    Answer,
    BreakOff,
    CallerLeft,
    Claimed,
    Effect,
    Event,
    NoReply,
    NotRecorded,
    Record,
    Recorded,
    Relay,
    Release,
    ReplyBegan,
    ReplyEnded,
    Settle,
)
from tierwise.core.exchange import Exchange, State
from tierwise.core.ledger import Decided, Failed, Fault, Posted
from tierwise.core.lengths import UNKNOWN_LENGTHS, Counts, Lengths
from tierwise.core.planning import Plan, plan
from tierwise.core.policy import Budget, Contract, Policy, Upstream
from tierwise.core.reserving import Asked, Asking, ask
from tierwise.core.routing import cascaded
from tierwise.core.settlement import Ending
from tierwise.core.tasks import name_task
from tierwise.money import usd
from tierwise.usage import Metered, Usage, UsageLine

PRICES = shipped_prices()
AT = 1_795_000_000_000_000
SECOND = 1_000_000
OVERLOADED = Failure(error="status", status=529)


def policy(upstream: Upstream | None = None, **contract: Any) -> Policy:
    plain: dict[str, Any] = {"name": "extraction", "tier": "fast", "max_tokens": 512}
    return a_policy(
        Contract(**(plain | contract)),
        tiers=(FRONTIER, FAST),
        upstream=upstream or Upstream(),
    )


def planned(of: Policy, model: str = "task/extraction", **fields: Any) -> Plan:
    call = a_call(model, body_bytes=4_000, **fields)
    found = plan(call, name_task(call, policy=of), policy=of, kept=None)
    assert isinstance(found, Plan)
    return found


def an_attempt(
    of: Policy, *, number: int = 1, is_new: bool = True, lengths: Lengths = UNKNOWN_LENGTHS
) -> Attempt:
    first = first_attempt(of.upstream, at_us=AT, is_new=is_new, lengths=lengths)
    retries = max(0, first.retries - number + 1)
    return replace(first, number=number, retries=retries)


def following(
    failure: Failure,
    of: Policy | None = None,
    *,
    number: int = 1,
    at_us: int = AT,
    call_id: str = "c1",
    is_new: bool = True,
) -> Next:
    of = of or policy()
    attempt = an_attempt(of, number=number, is_new=is_new)
    return after_failure(failure, plan=planned(of), attempt=attempt, call_id=call_id, at_us=at_us)


def again(found: Next) -> TryAgain:
    assert isinstance(found, TryAgain)
    return found


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, *sorted(RETRIED_STATUSES), 599])
def test_errors_that_pass_are_tried_again_unless_the_provider_says_otherwise(status: int) -> None:
    failure = Failure(error="status", status=status)

    assert isinstance(following(failure), TryAgain) == (status in RETRIED_STATUSES)
    assert following(replace(failure, should_retry=False)) is None
    assert isinstance(following(replace(failure, should_retry=True)), TryAgain)


def test_a_call_without_a_reply_is_tried_again_and_a_late_one_where_the_policy_does_not_forbid_it() -> None:
    assert isinstance(following(Failure(error="unreachable")), TryAgain)
    assert isinstance(following(Failure(error="dropped")), TryAgain)
    assert isinstance(following(Failure(error="timeout")), TryAgain)
    assert following(Failure(error="timeout"), policy(Upstream(retry_timeouts=False))) is None


def test_the_silence_before_a_timeout_does_not_count_towards_the_time_for_retries() -> None:
    of = policy(Upstream(read_timeout_s=60.0, retry_for_s=30))
    late = Failure(error="timeout")

    first = again(following(late, of, at_us=AT + 60 * SECOND))
    second = after_failure(
        late, plan=first.plan, attempt=first.attempt, call_id="c2", at_us=first.at_us + 60 * SECOND
    )

    assert first.attempt.until_us == AT + 90 * SECOND
    assert again(second).attempt.until_us == AT + 150 * SECOND
    assert following(late, of, at_us=AT + 91 * SECOND) is None
    assert following(OVERLOADED, of, at_us=AT + 31 * SECOND) is None


def test_nothing_follows_where_nobody_makes_another_attempt() -> None:
    found = after_failure(OVERLOADED, plan=planned(policy()), attempt=ONLY, call_id="c1", at_us=AT)

    assert found is None


def test_another_attempt_goes_to_the_same_tier_and_says_which_it_is_and_why() -> None:
    found = again(following(OVERLOADED))

    assert (found.attempt.number, found.attempt.first_call_id, found.attempt.retries) == (2, "c1", 1)
    assert found.plan.decision.tier == "fast"
    assert found.plan.changes == planned(policy()).changes
    assert found.plan.decision.reasons[-1].why is Why.ATTEMPT
    assert found.plan.decision.reasons[-1].sentence == "Attempt 2: the provider answered 529."


def test_a_third_attempt_names_the_first_call() -> None:
    of = policy()
    second = replace(an_attempt(of, number=2), first_call_id="c1")
    found = again(after_failure(OVERLOADED, plan=planned(of), attempt=second, call_id="c2", at_us=AT))

    assert (found.attempt.number, found.attempt.first_call_id, found.attempt.retries) == (3, "c1", 0)


@given(call_id=st.text(max_size=8), number=st.integers(1, 12))
def test_the_wait_doubles_up_to_eight_seconds_less_up_to_a_quarter(call_id: str, number: int) -> None:
    of = policy(Upstream(retries=20, retry_for_s=3_600))
    wait = again(following(OVERLOADED, of, number=number, call_id=call_id)).at_us - AT

    whole = min(8 * SECOND, SECOND // 2 * 2 ** (number - 1))
    assert whole * 3 // 4 <= wait <= whole


def test_the_providers_own_wait_is_kept_to_the_microsecond() -> None:
    assert again(following(replace(OVERLOADED, wait_us=7 * SECOND))).at_us == AT + 7 * SECOND


def test_another_address_is_tried_at_once_and_one_that_failed_after_a_wait() -> None:
    of = policy(Upstream(fallback_urls=("https://b.example", "https://c.example"), retries=9))
    asked = replace(OVERLOADED, wait_us=3 * SECOND)
    waits = [again(following(asked, of, number=number)).at_us - AT for number in (1, 2, 3, 4)]

    assert waits == [0, 0, 3 * SECOND, 0]


def test_after_the_last_retry_the_caller_need_not_go_on() -> None:
    assert following(OVERLOADED, number=3) == Spent()
    assert following(OVERLOADED, policy(Upstream(retries=0))) is None


def test_no_retry_begins_after_its_time_and_a_wait_that_is_longer_is_the_callers_to_keep() -> None:
    late = AT + 30 * SECOND

    assert following(OVERLOADED, number=2, at_us=late) == Spent()
    assert following(OVERLOADED, number=1, at_us=late) is None
    assert following(replace(OVERLOADED, wait_us=60 * SECOND), number=2) is None
    assert again(following(replace(OVERLOADED, wait_us=30 * SECOND))).at_us == late


NEVER_RETRIES = Upstream(retries=0)


def test_a_new_conversation_goes_to_the_fallback_once_its_own_tier_keeps_failing() -> None:
    of = policy(fallback="frontier")
    found = again(following(OVERLOADED, of, number=3))

    assert (found.plan.decision.tier, found.plan.decision.model) == ("frontier", "claude-opus-5-5")
    assert (found.at_us, found.attempt.number, found.attempt.retries) == (AT, 4, 0)
    sentences = [reason.sentence for reason in found.plan.decision.reasons]
    assert "Attempt 4, on the fallback: the provider answered 529 for claude-haiku-5-5." in sentences
    assert again(following(OVERLOADED, of, number=2)).plan.decision.tier == "fast"


@pytest.mark.parametrize(
    ("failure", "of", "options"),
    [
        (OVERLOADED, policy(NEVER_RETRIES), {}),
        (OVERLOADED, policy(NEVER_RETRIES, fallback="frontier"), {"is_new": False}),
        (OVERLOADED, policy(NEVER_RETRIES, fallback="fast"), {}),
        (OVERLOADED, policy(NEVER_RETRIES, fallback="frontier"), {"at_us": AT + 31 * SECOND}),
        (Failure(error="status", status=429), policy(NEVER_RETRIES, fallback="frontier"), {}),
        (Failure(error="unreachable"), policy(NEVER_RETRIES, fallback="frontier"), {}),
        (OVERLOADED, replace(policy(NEVER_RETRIES, fallback="frontier"), mode="observe"), {}),
    ],
)
def test_no_call_crosses_tiers_without_the_contracts_word_for_a_new_conversation(
    failure: Failure, of: Policy, options: dict[str, Any]
) -> None:
    attempt = an_attempt(of, is_new=options.get("is_new", True))
    call = planned(of, "claude-opus-5-5") if of.mode == "observe" else planned(of)
    at_us = options.get("at_us", AT)

    assert after_failure(failure, plan=call, attempt=attempt, call_id="c1", at_us=at_us) is None


def test_an_undeclared_call_is_retried_as_it_is_and_has_no_fallback() -> None:
    of = policy(fallback="frontier")
    call = planned(of, "claude-opus-5-5")
    found = again(after_failure(OVERLOADED, plan=call, attempt=an_attempt(of), call_id="c1", at_us=AT))

    assert (found.plan.decision.tier, found.plan.changes) == (None, ())
    last = after_failure(OVERLOADED, plan=call, attempt=an_attempt(of, number=3), call_id="c3", at_us=AT)
    assert last == Spent()


OLD = replace(FAST, name="old", model="claude-haiku-4-5")


def with_old_tier(of: Policy) -> Policy:
    """A tier below the frontier whose model takes a prefilled answer, which the frontier's does not."""
    return replace(of, tiers={"frontier": FRONTIER, "old": OLD})


def test_a_fallback_whose_model_does_not_take_the_body_is_not_taken() -> None:
    of = with_old_tier(policy(NEVER_RETRIES, tier="old", fallback="frontier"))
    call = planned(of, prefill=True)

    assert after_failure(OVERLOADED, plan=call, attempt=an_attempt(of), call_id="c1", at_us=AT) is None


CUT_METERED = Metered(
    lines=(UsageLine(model="claude-haiku-5-5", usage=Usage(input_tokens=2_000, output_tokens=512)),)
)


def after_cut_of(
    of: Policy,
    *,
    metered: Metered = CUT_METERED,
    lengths: Lengths = UNKNOWN_LENGTHS,
    attempt: Attempt | None = None,
    model: str = "task/extraction",
    **fields: Any,
) -> TryAgain | None:
    return after_cut(
        metered,
        plan=planned(of, model, **fields),
        attempt=attempt or an_attempt(of, lengths=lengths),
        call_id="c1",
        prices=PRICES,
        at_us=AT,
    )


RAISES = policy(on_truncation="raise-cap")
ESCALATES = policy(on_truncation="escalate")


def test_a_cut_reply_is_tried_once_more_at_once_with_four_times_the_cap_on_its_tier() -> None:
    found = again(after_cut_of(RAISES))

    assert (found.plan.decision.tier, found.plan.max_tokens_sent) == ("fast", 2_048)
    assert (found.at_us, found.lengthens) == (AT, True)
    assert (found.attempt.number, found.attempt.first_call_id) == (2, "c1")
    sentences = [reason.sentence for reason in found.plan.decision.reasons]
    assert "The reply was cut at 512 tokens: once more on fast, with up to 2048." in sentences
    assert "Capped at this attempt's 2048; the caller asked for 32000." in sentences
    assert after_cut_of(RAISES, attempt=found.attempt) is None


def test_a_cap_is_never_raised_above_the_callers_own() -> None:
    assert again(after_cut_of(RAISES, max_tokens=700)).plan.max_tokens_sent == 700
    assert after_cut_of(RAISES, max_tokens=512) is None


@pytest.mark.parametrize(
    ("of", "fields"),
    [
        (policy(), {}),
        (RAISES, {"stream": True}),
        (RAISES, {"model": "claude-haiku-5-5"}),
        (RAISES, {"attempt": ONLY}),
    ],
)
def test_a_cut_reply_is_passed_on_where_nothing_else_is_asked_for_or_can_be_done(
    of: Policy, fields: dict[str, Any]
) -> None:
    assert after_cut_of(of, **fields) is None


def test_what_is_said_to_a_thread_is_said_once() -> None:
    call = planned(RAISES)
    call = replace(call, call=replace(call.call, thread=True))
    attempt = an_attempt(RAISES)

    assert after_cut(CUT_METERED, plan=call, attempt=attempt, call_id="c1", prices=PRICES, at_us=AT) is None


def test_a_stronger_tier_that_does_not_take_the_body_is_passed_over() -> None:
    of = with_old_tier(policy(tier="old", on_truncation="escalate"))

    assert again(after_cut_of(of, prefill=True)).plan.decision.tier == "old"


def test_an_observed_call_is_not_tried_with_another_cap() -> None:
    of = replace(RAISES, mode="observe")
    call = planned(of, "claude-opus-5-5", headers={"x-tierwise-task-type": "extraction"})

    assert (call.decision.tier, call.decision.acts) == ("fast", False)
    assert (
        after_cut(CUT_METERED, plan=call, attempt=an_attempt(of), call_id="c1", prices=PRICES, at_us=AT)
        is None
    )


SHORT_ABOVE = {1_024: Counts(whole=100)}
RUNS_ON = {724: Counts(whole=1, cut=0), 131_072: Counts(whole=99)}


def known(fast: Any, frontier: Any) -> Lengths:
    return Lengths(
        histograms={
            ("extraction", "claude-haiku-5-5"): fast,
            ("extraction", "claude-opus-5-5"): frontier,
        }
    )


def test_with_too_little_data_the_cap_is_raised() -> None:
    for lengths in (UNKNOWN_LENGTHS, known(RUNS_ON, {}), known({}, SHORT_ABOVE)):
        assert again(after_cut_of(ESCALATES, lengths=lengths)).plan.decision.tier == "fast"


def test_the_stronger_tier_is_taken_where_a_whole_reply_is_expected_to_cost_less_there() -> None:
    wins = again(after_cut_of(ESCALATES, lengths=known(RUNS_ON, SHORT_ABOVE)))
    loses = again(after_cut_of(ESCALATES, lengths=known(SHORT_ABOVE, SHORT_ABOVE)))

    assert (wins.plan.decision.tier, wins.plan.max_tokens_sent) == ("frontier", 2_048)
    assert loses.plan.decision.tier == "fast"


def test_replies_that_never_end_below_the_cap_are_dearer_than_any_that_do() -> None:
    never = {131_072: Counts(whole=100)}

    assert again(after_cut_of(ESCALATES, lengths=known(never, SHORT_ABOVE))).plan.decision.tier == "frontier"
    assert again(after_cut_of(ESCALATES, lengths=known(never, never))).plan.decision.tier == "fast"


def test_raising_is_all_that_is_done_on_the_strongest_tier() -> None:
    of = policy(on_truncation="escalate", tier="frontier", max_tokens=8_192)
    found = again(after_cut_of(of, lengths=known(RUNS_ON, SHORT_ABOVE)))

    assert (found.plan.decision.tier, found.plan.max_tokens_sent) == ("frontier", 32_000)


def test_a_reply_of_several_parts_or_of_a_model_without_a_price_says_too_little_to_escalate() -> None:
    lengths = known(RUNS_ON, SHORT_ABOVE)
    parts = Metered(lines=CUT_METERED.lines * 2)
    unpriced = replace(
        ESCALATES, tiers={"new": replace(FRONTIER, name="new", model="claude-next"), "fast": FAST}
    )
    unknown = Lengths(
        histograms={**lengths.histograms, ("extraction", "claude-next"): SHORT_ABOVE},
    )

    assert again(after_cut_of(ESCALATES, metered=parts, lengths=lengths)).plan.decision.tier == "fast"
    assert again(after_cut_of(unpriced, lengths=unknown)).plan.decision.tier == "fast"


def test_a_cold_cache_on_the_stronger_tier_counts_against_it() -> None:
    """A prompt of 90,000 cached tokens: fifty times the reply."""
    usage = Usage(cache_read_tokens=90_000, output_tokens=512)
    cached = Metered(lines=(UsageLine(model="claude-haiku-5-5", usage=usage),))
    often_cut = {1_024: Counts(whole=10), 131_072: Counts(whole=90)}
    lengths = known(often_cut, SHORT_ABOVE)

    assert again(after_cut_of(ESCALATES, metered=cached, lengths=lengths)).plan.decision.tier == "fast"


def budgeted(of: Policy) -> Policy:
    budget = Budget(name="all", scope="all", limit=usd("5"))
    return replace(of, budgets=(budget,), count_near_limit=False)


def asking(of: Policy) -> Asking:
    call = planned(of)
    asked = ask(call, contents_of(call.call), call_id="c1", key_id="k1", prices=PRICES, at_us=AT)
    assert isinstance(asked, Asking)
    return asked


BUDGETED = budgeted(policy(on_truncation="raise-cap", fallback="frontier"))
ASKING = asking(BUDGETED)
WHOLE = Ending(
    at_us=AT + 9, status=200, served_model="claude-haiku-5-5", stop_reason="end_turn", metered=CUT_METERED
)
CUT = replace(WHOLE, stop_reason="max_tokens")
ERROR = Ending(at_us=AT + 9, status=529, unbilled=True, error="overloaded_error", fault=Fault.PROVIDER)
DONE = Recorded(at_us=AT + 10)


def an_exchange(of: Asked, attempt: Attempt | None = None) -> Exchange:
    attempt = attempt or an_attempt(BUDGETED)
    return Exchange(of, prices=PRICES, call_id="c1", read_us=AT, attempt=attempt)


def run(of: Asked, *events: Event, attempt: Attempt | None = None) -> list[Effect]:
    exchange = an_exchange(of, attempt)
    effects = [*exchange.begin(AT)]
    for event in events:
        effects += exchange.receive(event)
    return effects


PLAN = planned(RAISES)
BEGAN_529 = ReplyBegan(at_us=AT + 5, status=529)


def test_an_error_is_read_aside_and_its_reservation_voided_before_the_next_attempt() -> None:
    granted = Claimed(outcome=Reserved(amount_nanos=ASKING.claim.amount_nanos), at_us=AT)
    effects = run(ASKING, granted, DONE, BEGAN_529, ReplyEnded(ending=ERROR), DONE)

    relay, settle, record, last = effects[-4:]
    assert relay == Relay(aside=True)
    assert settle == Settle(cost_nanos=0)
    assert isinstance(record, Record)
    assert record.durable
    assert again(last if isinstance(last, TryAgain) else None).attempt.number == 2


def test_a_dropped_calls_reservation_is_kept_while_another_attempt_is_made() -> None:
    granted = Claimed(outcome=Reserved(amount_nanos=ASKING.claim.amount_nanos), at_us=AT)
    dropped = NoReply(at_us=AT + 5, error="dropped", sentence="Gone.")
    effects = run(ASKING, granted, DONE, dropped, DONE)

    assert effects[-3] == Settle(cost_nanos=None)
    assert isinstance(effects[-1], TryAgain)


def test_the_last_error_is_passed_on_and_its_caller_told_not_to_try_again() -> None:
    third = an_attempt(RAISES, number=3)
    effects = run(PLAN, BEGAN_529, ReplyEnded(ending=ERROR), DONE, attempt=third)
    silent = run(PLAN, NoReply(at_us=AT, error="unreachable", sentence="No."), DONE, attempt=third)

    assert Relay(last=True) in effects
    assert effects[-1] == Release()
    assert silent[-1] == Answer(code="unreachable", sentence="No.", last=True)


def test_an_error_that_is_not_tried_again_is_passed_on_as_it_is() -> None:
    effects = run(PLAN, ReplyBegan(at_us=AT, status=400), ReplyEnded(ending=ERROR), DONE)

    assert Relay() in effects
    assert effects[-1] == Release()


def test_an_error_that_breaks_off_is_tried_again_all_the_same() -> None:
    effects = run(PLAN, BEGAN_529, ReplyEnded(ending=ERROR, broke=True), DONE)

    assert isinstance(effects[-1], TryAgain)


def test_a_cut_reply_is_posted_with_its_cost_before_the_next_attempt() -> None:
    effects = run(PLAN, ReplyBegan(at_us=AT), ReplyEnded(ending=CUT), DONE)

    record, last = effects[-2:]
    assert isinstance(record, Record)
    assert isinstance(record.entry, Posted)
    assert (record.entry.stop_reason, record.entry.cost_nanos) == ("max_tokens", 2_000 * 100 + 512 * 500)
    assert isinstance(last, TryAgain)
    assert last.lengthens


@pytest.mark.parametrize("ending", [WHOLE, replace(CUT, metered=None)])
def test_a_reply_that_is_whole_or_says_nothing_of_its_usage_is_released(ending: Ending) -> None:
    assert run(PLAN, ReplyBegan(at_us=AT), ReplyEnded(ending=ending), DONE)[-1] == Release()


def test_a_reply_that_broke_after_its_cap_is_broken_off() -> None:
    assert run(PLAN, ReplyBegan(at_us=AT), ReplyEnded(ending=CUT, broke=True), DONE)[-1] == BreakOff()


def test_a_cap_that_a_budget_lowered_is_not_raised() -> None:
    shrunk = Claimed(outcome=Shrunk(amount_nanos=ASKING.claim.least_nanos), at_us=AT)
    effects = run(ASKING, shrunk, DONE, ReplyBegan(at_us=AT), ReplyEnded(ending=CUT), DONE)

    assert effects[-1] == Release()


def test_a_raised_attempt_is_not_shrunk_to_the_cap_that_cut_the_first() -> None:
    found = again(after_cut_of(budgeted(RAISES)))
    asked = ask(found.plan, contents_of(found.plan.call), call_id="c2", key_id="k1", prices=PRICES, at_us=AT)

    assert isinstance(asked, Asking)
    assert asked.claim.least_nanos == asked.estimate.cost_nanos(513)


def test_an_entry_says_which_attempt_it_is_and_of_which_call() -> None:
    second = replace(an_attempt(RAISES, number=2), first_call_id="c0")
    (first, *_) = run(PLAN, attempt=second)

    assert isinstance(first, Record)
    assert isinstance(first.entry, Decided)
    assert (first.entry.attempt, first.entry.first_call_id) == (2, "c0")


STARTS: tuple[Event, ...] = (
    ReplyBegan(at_us=AT),
    BEGAN_529,
    ReplyBegan(at_us=AT, status=400),
    NoReply(at_us=AT, error="unreachable", sentence="No."),
    NoReply(at_us=AT, error="timeout", sentence="No."),
)
ENDS: tuple[Event, ...] = (
    ReplyEnded(ending=WHOLE),
    ReplyEnded(ending=CUT),
    ReplyEnded(ending=ERROR),
    ReplyEnded(ending=ERROR, broke=True),
    CallerLeft(ending=replace(ERROR, error="caller-left", fault=Fault.CALLER)),
)
ATTEMPTS = (ONLY, an_attempt(BUDGETED), an_attempt(BUDGETED, number=3, is_new=False))
TOLD: tuple[Event, ...] = (DONE, NotRecorded(at_us=AT + 10))


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("attempt", ATTEMPTS)
@pytest.mark.parametrize("told", TOLD)
def test_on_every_path_a_call_has_one_ending_and_one_last_word_to_its_caller_or_to_the_next_attempt(
    start: Event, end: Event, attempt: Attempt, told: Event
) -> None:
    exchange = an_exchange(PLAN, attempt)
    effects = [*exchange.begin(AT)]
    for event in (start, end, told):
        if exchange.state is State.SETTLING and event is end:
            continue
        effects += exchange.receive(event)

    endings = [
        each for each in effects if isinstance(each, Record) and isinstance(each.entry, Posted | Failed)
    ]
    last = [each for each in effects if isinstance(each, Release | BreakOff | Answer | TryAgain)]
    assert exchange.state is State.DONE
    assert len(endings) == 1
    assert len(last) == (0 if isinstance(end, CallerLeft) and not isinstance(start, NoReply) else 1)
    if last:
        assert effects[-1] is last[0]
    if attempt is ONLY:
        assert not any(isinstance(each, TryAgain) for each in effects)


JSON = Check(written="json", version="json", rule=TextRule(kind="json"))


def cascade(**fields: Any) -> Policy:
    return policy(tier="frontier", cascade=True, check=JSON, **fields)


def first_of_cascade(of: Policy, **fields: Any) -> Plan:
    call = a_call("task/extraction", body_bytes=4_000, **fields)
    task = name_task(call, policy=of)
    found = plan(call, task, policy=of, kept=None, drawn=cascaded(call, task, of))
    assert isinstance(found, Plan)
    return found


def test_a_cascade_begins_on_the_next_cheaper_tier_and_ends_on_the_types_own() -> None:
    of = cascade()
    begun = first_of_cascade(of)

    follows = after_check(plan=begun, attempt=an_attempt(of), call_id="c1", at_us=AT)

    assert (begun.decision.tier, check_of(begun, an_attempt(of))) == ("fast", JSON)
    assert follows is not None
    assert (follows.plan.decision.tier, follows.attempt.number, follows.lengthens) == ("frontier", 2, True)
    assert check_of(follows.plan, follows.attempt) is None


@pytest.mark.parametrize("fields", [{"stream": True}, {"thread": True}])
def test_what_cannot_be_held_back_has_no_cascade(fields: dict[str, Any]) -> None:
    of = cascade()

    call = a_call("task/extraction", **fields)

    assert cascaded(call, name_task(call, policy=of), of) is None


@pytest.mark.parametrize(("passed", "last"), [(False, TryAgain), (True, Release)])
def test_a_reply_that_fails_its_check_is_posted_and_made_again(passed: bool, last: type[Effect]) -> None:
    ending = replace(WHOLE, passed=passed)

    effects = run(first_of_cascade(cascade()), ReplyBegan(at_us=AT), ReplyEnded(ending=ending), DONE)

    assert isinstance(effects[-2], Record)
    assert isinstance(effects[-1], last)


@pytest.mark.parametrize("fields", [{"stream": True}, {"thread": True}])
def test_a_reply_that_cannot_be_held_back_is_not_checked(fields: dict[str, Any]) -> None:
    begun = first_of_cascade(cascade())
    begun = replace(begun, call=replace(begun.call, **fields))

    assert check_of(begun, an_attempt(begun.policy)) is None


def test_a_cascade_whose_own_tier_does_not_take_the_body_ends_where_it_began() -> None:
    of = cascade()
    begun = first_of_cascade(of)
    begun = replace(begun, call=replace(begun.call, prefill=True))

    assert after_check(plan=begun, attempt=an_attempt(of), call_id="c1", at_us=AT) is None


def test_a_type_without_a_cascade_is_not_checked() -> None:
    of = policy()

    assert check_of(planned(of), an_attempt(of)) is None


def test_no_second_attempt_is_checked() -> None:
    of = cascade()

    assert check_of(first_of_cascade(of), ONLY) is None
