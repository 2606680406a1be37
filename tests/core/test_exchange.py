from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.calls import EXTRACTION, FAST, FRONTIER, a_call, a_policy, contents_of
from tierwise.config.prices import shipped_prices
from tierwise.core.budgets import Denied, Lost, Outcome, Reserved, Shrunk
from tierwise.core.effects import (
    Answer,
    AwaitMoney,
    BreakOff,
    CallerLeft,
    Claimed,
    Counted,
    CountPrompt,
    Effect,
    Event,
    KeepTier,
    NoReply,
    NotRecorded,
    Record,
    Recorded,
    Relay,
    Release,
    ReplyBegan,
    ReplyEnded,
    Reserve,
    Send,
    Settle,
    Waited,
)
from tierwise.core.exchange import TRANSITIONS, Exchange, State, Step
from tierwise.core.ledger import NO_TIMINGS, Decided, Failed, Fault, Posted, SetAside, Timings
from tierwise.core.planning import Plan, Refused, plan
from tierwise.core.policy import Budget, Contract, Policy
from tierwise.core.reserving import Asked, Asking, ask, counted, explain, granted, next_try
from tierwise.core.settlement import Ending, decided_entry, ending_entry, refused_entry
from tierwise.core.tasks import name_task
from tierwise.money import usd
from tierwise.usage import Metered, Usage, UsageLine

PRICES = shipped_prices()
POLICY = a_policy(EXTRACTION, tiers=(FRONTIER, FAST))
BUDGETED = a_policy(
    EXTRACTION,
    tiers=(FRONTIER, FAST),
    budgets=(Budget(name="all", scope="all", limit=usd("5"), when_short=("shrink", "queue", "refuse")),),
)
READ = int(datetime(2026, 11, 23, tzinfo=UTC).timestamp()) * 1_000_000
CLAIMS, LEAVES, BEGINS, ENDS, FAILS = READ + 20, READ + 30, READ + 500, READ + 2_000, READ + 3_000


def planned(model: str, policy: Policy = POLICY) -> Plan | Refused:
    call = a_call(model, body_bytes=4_000)
    return plan(call, name_task(call, policy=policy), policy=policy, kept=None)


def admitted(model: str, policy: Policy = POLICY) -> Plan:
    found = planned(model, policy)
    assert isinstance(found, Plan)
    return found


ALL_WORDS = Budget(
    name="all", scope="all", limit=usd("5"), when_short=("shrink", "downgrade", "queue", "refuse")
)
TRIES_ALL = a_policy(
    Contract(name="extraction", tier="frontier", max_tokens=8_192, downgrade_to="fast"),
    tiers=(FRONTIER, FAST),
    budgets=(ALL_WORDS,),
)
WAITS_UNTIL = READ + 10_000_000


def asking(policy: Policy = BUDGETED) -> Asking:
    planned = admitted("task/extraction", policy)
    asked = ask(
        planned,
        contents_of(planned.call),
        call_id="c1",
        key_id="k1",
        prices=PRICES,
        at_us=READ,
        is_new=True,
    )
    assert isinstance(asked, Asking)
    return asked


PLAN = admitted("task/extraction")
REFUSED = planned("task/nope")
ASKING = asking()
TRYING = asking(TRIES_ALL)
assert isinstance(REFUSED, Refused)

METERED = Metered(
    lines=(UsageLine(model="claude-haiku-5-5", usage=Usage(input_tokens=1000, output_tokens=500)),)
)
WHOLE = Ending(
    at_us=ENDS, status=200, served_model="claude-haiku-5-5", stop_reason="end_turn", metered=METERED
)
BROKEN = Ending(at_us=ENDS, status=200, finished=False, error="stream-broke", fault=Fault.PROVIDER)
LEFT = Ending(at_us=ENDS, finished=False, error="caller-left", fault=Fault.CALLER)
NOT_SENT = Ending(at_us=ENDS, finished=False, unbilled=True, error="caller-left", fault=Fault.CALLER)

ACCOUNT = ASKING.claim.accounts[0]
RESERVED = Reserved(amount_nanos=ASKING.claim.amount_nanos)
DENIED = Denied(
    account=ACCOUNT,
    posted_nanos=usd("4"),
    pending_nanos=usd("1"),
    asked_nanos=ASKING.claim.amount_nanos,
)
UNKNOWN = Lost(why="no route to the balances")


def again(of: Asking, outcome: Denied = DENIED, *, at_us: int = CLAIMS) -> Asking:
    tried = next_try(of, outcome, at_us=at_us)
    assert isinstance(tried, Asking)
    return tried


def short_of(of: Asking, *, left: int = 0) -> Denied:
    (account,) = of.claim.accounts
    return Denied(
        account=account, posted_nanos=usd("5") - left, pending_nanos=0, asked_nanos=of.claim.amount_nanos
    )


SMALLER = again(ASKING)
SHRUNK = Shrunk(amount_nanos=SMALLER.claim.least_nanos)

GRANTED = Claimed(outcome=RESERVED, at_us=CLAIMS)
GRANTED_LESS = Claimed(outcome=SHRUNK, at_us=CLAIMS)
SHORT = Claimed(outcome=DENIED, at_us=CLAIMS)
BLIND = Claimed(outcome=UNKNOWN, at_us=CLAIMS)
COUNTS = Claimed(outcome=short_of(ASKING, left=ASKING.claim.amount_nanos - 1), at_us=CLAIMS)
LATE = Claimed(outcome=DENIED, at_us=WAITS_UNTIL)
COUNTED = Counted(tokens=900, at_us=CLAIMS)
UNCOUNTED = Counted(tokens=None, at_us=CLAIMS)
WAITED = Waited()
BOOKED = Recorded(at_us=LEAVES)
BEGAN = ReplyBegan(at_us=BEGINS)
ENDED = ReplyEnded(ending=WHOLE)
BROKE = ReplyEnded(ending=BROKEN, broke=True)
UNREACHABLE = NoReply(at_us=ENDS, error="unreachable", sentence="No route.")
TIMEOUT = NoReply(at_us=ENDS, error="timeout", sentence="Too late.")
GONE = CallerLeft(ending=LEFT)
GONE_BEFORE = CallerLeft(ending=NOT_SENT)
DONE = Recorded(at_us=ENDS)
LOST = NotRecorded(at_us=ENDS)
EVENTS: tuple[Event, ...] = (
    GRANTED,
    GRANTED_LESS,
    SHORT,
    COUNTS,
    BLIND,
    COUNTED,
    UNCOUNTED,
    WAITED,
    BEGAN,
    ENDED,
    BROKE,
    UNREACHABLE,
    TIMEOUT,
    GONE,
    DONE,
    LOST,
)

NOT_BEGUN = Timings(until_sent_us=30, until_first_byte_us=None, until_end_us=None)
WHOLE_TIMINGS = Timings(until_sent_us=30, until_first_byte_us=470, until_end_us=1_500)


def an_exchange(of: Asked = PLAN) -> Exchange:
    return Exchange(of, prices=PRICES, call_id="c1", read_us=READ)


def run(*events: Event, of: Asked = PLAN) -> list[Effect]:
    exchange = an_exchange(of)
    effects = [*exchange.begin(LEAVES)]
    for event in events:
        effects += exchange.receive(event)
    return effects


def decision(of: Plan | Refused = PLAN) -> Record:
    return Record(entry=decided_entry(of, call_id="c1", key_id=None, at_us=READ), durable=False)


def ending(
    of: Ending, timings: Timings = WHOLE_TIMINGS, *, plan: Plan = PLAN, durable: bool = True
) -> Record:
    entry = ending_entry(of, plan=plan, prices=PRICES, call_id="c1", timings=timings)
    return Record(entry=entry, durable=durable)


def refusal(code: str, at_us: int) -> Record:
    return Record(entry=refused_entry(call_id="c1", at_us=at_us, error=code, prices=PRICES), durable=True)


def set_aside(nanos: int) -> Record:
    entry = SetAside(
        call_id="c1",
        at_us=CLAIMS,
        accounts=(ACCOUNT.key,),
        reserved_nanos=nanos,
        prompt_bytes=4_000,
        prompt_kind="ascii",
    )
    return Record(entry=entry, durable=True)


def gateway_failed(*, unbilled: bool) -> Ending:
    return Ending(at_us=FAILS, error="gateway-failed", unbilled=unbilled, fault=Fault.GATEWAY, finished=False)


SEND = Send(changes=PLAN.changes)
RESERVE = Reserve(claim=ASKING.claim)
KEPT = Settle(cost_nanos=None)
VOIDED = Settle(cost_nanos=0)


def test_a_whole_call_is_decided_sent_relayed_recorded_and_only_then_released() -> None:
    effects = run(BEGAN, ENDED, DONE)

    assert effects == [decision(), SEND, Relay(), ending(WHOLE), Release()]
    assert isinstance(effects[3], Record)
    assert isinstance(effects[3].entry, Posted)


def test_a_reply_that_broke_is_recorded_and_then_broken_off() -> None:
    assert run(BEGAN, BROKE, DONE) == [decision(), SEND, Relay(), ending(BROKEN), BreakOff()]


def test_a_caller_that_leaves_during_the_reply_is_owed_nothing_after_the_record() -> None:
    assert run(BEGAN, GONE, DONE) == [decision(), SEND, Relay(), ending(LEFT)]


def test_a_caller_that_leaves_before_the_reply_leaves_an_entry() -> None:
    assert run(GONE, DONE) == [decision(), SEND, ending(LEFT, NOT_BEGUN)]


@pytest.mark.parametrize(("event", "last"), [(ENDED, Release()), (BROKE, BreakOff())])
def test_a_reply_whose_ending_is_not_recorded_in_time_is_not_withheld(event: Event, last: Effect) -> None:
    assert run(BEGAN, event, LOST) == [*run(BEGAN, event), last]


@pytest.mark.parametrize(
    ("event", "cost_nanos", "answer"),
    [
        (UNREACHABLE, 0, Answer(code="unreachable", sentence="No route.")),
        (TIMEOUT, None, Answer(code="timeout", sentence="Too late.")),
    ],
)
def test_a_provider_that_cannot_be_reached_bills_nothing_and_one_that_is_late_may_bill(
    event: NoReply, cost_nanos: int | None, answer: Answer
) -> None:
    *begun, record, last = run(event, DONE)

    assert begun == [decision(), SEND]
    assert record == Record(
        entry=Failed(
            call_id="c1",
            at_us=ENDS,
            fault=Fault.PROVIDER,
            error=event.error,
            status=None,
            served_model=None,
            usage=None,
            cost_nanos=cost_nanos,
            at_least_nanos=None,
            price_version=PRICES.version,
            timings=NOT_BEGUN,
            request_id=None,
        ),
        durable=True,
    )
    assert last == answer


@pytest.mark.parametrize("told", [DONE, LOST])
def test_a_refused_call_is_never_sent_and_is_answered_once_the_ledger_was_waited_for(told: Event) -> None:
    refused = refusal("unknown-task-type", LEAVES)
    sentence = "The policy has no task type 'nope'. It knows: extraction."

    effects = run(told, of=REFUSED)

    answer = Answer(code="unknown-task-type", sentence=sentence, at_us=LEAVES)
    assert effects == [decision(REFUSED), refused, answer]
    assert isinstance(refused.entry, Failed)
    assert refused.entry.timings == NO_TIMINGS


def test_a_call_under_a_budget_asks_before_anything_is_decided() -> None:
    assert run(of=ASKING) == [RESERVE]


def test_a_granted_call_leaves_once_its_reservation_is_durable() -> None:
    until_granted = [RESERVE, decision(ASKING.plan), set_aside(ASKING.claim.amount_nanos)]

    assert run(GRANTED, of=ASKING) == until_granted
    assert run(GRANTED, BOOKED, of=ASKING) == [*until_granted, Send(changes=ASKING.plan.changes)]


def test_a_shrunk_call_is_decided_and_sent_with_what_was_granted() -> None:
    smaller = granted(SMALLER, SHRUNK)
    assert isinstance(smaller, Plan)

    effects = run(SHORT, GRANTED_LESS, BOOKED, of=ASKING)

    assert smaller.max_tokens_sent < ASKING.plan.max_tokens_sent
    assert effects == [
        RESERVE,
        Reserve(claim=SMALLER.claim),
        decision(smaller),
        set_aside(SHRUNK.amount_nanos),
        Send(changes=smaller.changes),
    ]


def test_a_call_under_a_budget_is_settled_at_its_cost_as_it_ends() -> None:
    settle, record, release = run(GRANTED, BOOKED, BEGAN, ENDED, DONE, of=ASKING)[-3:]

    assert settle == Settle(cost_nanos=PRICES.cost(METERED, ENDS))
    assert (record, release) == (ending(WHOLE, plan=ASKING.plan), Release())


def test_a_call_that_asked_is_timed_from_its_reservation_being_durable() -> None:
    exchange = an_exchange(ASKING)
    exchange.begin(READ + 1)
    for event in (GRANTED, BOOKED, BEGAN, ENDED):
        exchange.receive(event)

    assert exchange.upstream_us == ENDS - LEAVES


def test_a_reservation_is_kept_where_the_cost_is_unknown_and_voided_where_nothing_is_billed() -> None:
    assert KEPT in run(GRANTED, BOOKED, TIMEOUT, of=ASKING)
    assert KEPT in run(GRANTED, BOOKED, BEGAN, BROKE, of=ASKING)
    assert KEPT in run(GRANTED, BOOKED, GONE, of=ASKING)
    assert VOIDED in run(GRANTED, BOOKED, UNREACHABLE, of=ASKING)


def test_a_denied_call_is_never_sent_and_is_answered_once_its_entries_are_durable() -> None:
    denied = next_try(SMALLER, DENIED, at_us=WAITS_UNTIL)
    assert isinstance(denied, Refused)

    effects = run(SHORT, LATE, DONE, of=ASKING)

    answer = Answer(code="budget", sentence=explain(DENIED), denied=DENIED, at_us=WAITS_UNTIL)
    asked = [RESERVE, Reserve(claim=SMALLER.claim)]
    assert effects == [*asked, decision(denied), refusal("budget", WAITS_UNTIL), answer]


def test_a_prompt_is_counted_as_it_would_be_sent_and_the_budgets_are_asked_again() -> None:
    fewer = counted(ASKING, 900)
    assert isinstance(fewer, Asking)

    effects = run(COUNTS, COUNTED, of=ASKING)

    assert effects == [RESERVE, CountPrompt(changes=ASKING.plan.changes), Reserve(claim=fewer.claim)]
    assert fewer.claim.amount_nanos < ASKING.claim.amount_nanos


def test_a_prompt_that_could_not_be_counted_is_bounded_as_before() -> None:
    last = run(COUNTS, UNCOUNTED, of=ASKING)[-1]

    assert isinstance(last, Reserve)
    assert last.claim == SMALLER.claim


def test_a_prompt_is_counted_once() -> None:
    exchange = an_exchange(ASKING)
    exchange.begin(LEAVES)
    for event in (COUNTS, COUNTED, COUNTS):
        exchange.receive(event)

    assert exchange.state is not State.COUNTING


def test_a_call_that_is_too_dear_even_so_is_refused_after_its_count() -> None:
    contract = BUDGETED.contracts["extraction"]
    dearer = replace(BUDGETED, contracts={"extraction": replace(contract, max_cost_nanos=1)})
    wanted = replace(ASKING.wanted, policy=dearer)

    *_, record, answer = run(COUNTS, COUNTED, DONE, of=replace(ASKING, wanted=wanted))

    assert record == refusal("too-dear", CLAIMS)
    assert isinstance(answer, Answer)
    assert answer.code == "too-dear"


def test_a_call_that_waits_for_money_asks_the_same_again() -> None:
    effects = run(SHORT, SHORT, WAITED, of=ASKING)

    again = Reserve(claim=SMALLER.claim)
    assert effects == [RESERVE, again, AwaitMoney(until_us=WAITS_UNTIL), again]


def test_a_call_that_has_waited_long_enough_is_refused() -> None:
    *_, last = run(SHORT, SHORT, WAITED, LATE, DONE, of=ASKING)

    assert isinstance(last, Answer)
    assert (last.code, last.at_us) == ("budget", WAITS_UNTIL)


def test_a_call_that_is_moved_to_a_cheaper_tier_says_so_once_it_is_granted() -> None:
    exchange = an_exchange(TRYING)
    exchange.begin(LEAVES)
    exchange.receive(Claimed(outcome=short_of(TRYING), at_us=CLAIMS))  # shrunk
    exchange.receive(Claimed(outcome=short_of(TRYING), at_us=CLAIMS))  # moved

    effects = exchange.receive(GRANTED)

    assert isinstance(exchange.plan, Plan)
    assert exchange.plan.decision.tier == "fast"
    assert effects[:2] == (KeepTier(tier="fast"), decision(exchange.plan))


def test_a_call_whose_balances_cannot_be_reached_is_refused_under_a_hard_budget() -> None:
    *_, record, answer = run(BLIND, DONE, of=ASKING)

    assert record == refusal("budget-store", CLAIMS)
    assert isinstance(answer, Answer)
    assert answer.code == "budget-store"
    assert answer.sentence.endswith(UNKNOWN.why)


def test_a_call_that_may_go_without_balances_sets_its_worst_case_aside_in_the_ledger() -> None:
    allowing = asking(replace(BUDGETED, when_lost="allow"))

    effects = run(BLIND, BOOKED, of=allowing)[1:]

    assert effects[0] == decision(allowing.plan)
    assert effects[1] == set_aside(allowing.claim.amount_nanos)
    assert isinstance(effects[2], Send)


@pytest.mark.parametrize("events", [(), (COUNTS,), (SHORT,), (SHORT, SHORT)])
def test_a_caller_that_leaves_before_its_call_may_leave_has_spent_nothing(events: tuple[Event, ...]) -> None:
    before = run(*events, of=ASKING)

    after = run(*events, GONE_BEFORE, DONE, of=ASKING)[len(before) :]

    assert after == [decision(ASKING.plan), VOIDED, ending(NOT_SENT, NO_TIMINGS, plan=ASKING.plan)]


def test_an_entry_of_a_prompt_that_is_not_all_text_says_nothing_of_its_size() -> None:
    with_images = replace(ASKING.asker.contents, attachments=1)
    asking = replace(ASKING, asker=replace(ASKING.asker, contents=with_images))

    record = run(GRANTED, of=asking)[-1]

    assert isinstance(record, Record)
    assert isinstance(record.entry, SetAside)
    assert (record.entry.prompt_bytes, record.entry.prompt_kind) == (None, None)


def test_a_decision_names_the_callers_credential() -> None:
    exchange = Exchange(PLAN, prices=PRICES, call_id="c1", read_us=READ, key_id="k1")

    record, _ = exchange.begin(LEAVES)

    assert isinstance(record, Record)
    assert isinstance(record.entry, Decided)
    assert record.entry.key_id == "k1"


@pytest.mark.parametrize("event", [GRANTED, GRANTED_LESS])
def test_a_call_whose_reservation_is_not_recorded_is_voided_answered_and_never_sent(event: Claimed) -> None:
    before = run(event, of=ASKING)

    settle, record, answer = run(event, LOST, of=ASKING)[len(before) :]

    failed = Ending(at_us=ENDS, error="ledger", unbilled=True, fault=Fault.GATEWAY, finished=False)
    assert settle == VOIDED
    assert record == ending(failed, NO_TIMINGS, durable=False)
    assert isinstance(answer, Answer)
    assert answer.code == "ledger"


def test_a_caller_that_leaves_while_its_reservation_is_written_has_spent_nothing() -> None:
    before = run(GRANTED, of=ASKING)

    after = run(GRANTED, GONE_BEFORE, DONE, of=ASKING)[len(before) :]

    assert after == [VOIDED, ending(NOT_SENT, NO_TIMINGS, plan=ASKING.plan)]


def given_up(*events: Event, of: Asked) -> list[Effect]:
    exchange = an_exchange(of)
    exchange.begin(LEAVES)
    for event in events:
        exchange.receive(event)
    effects = [*exchange.give_up(FAILS)]

    assert exchange.state in {State.SETTLING, State.DONE}
    assert exchange.give_up(FAILS) == ()
    return effects


def test_a_call_that_is_given_up_before_it_was_sent_costs_nothing() -> None:
    unsent = ending(gateway_failed(unbilled=True), NO_TIMINGS, plan=ASKING.plan, durable=False)

    assert given_up(of=ASKING) == [decision(ASKING.plan), VOIDED, unsent]
    assert given_up(GRANTED, of=ASKING) == [VOIDED, unsent]
    assert given_up(COUNTS, of=ASKING) == [decision(ASKING.plan), VOIDED, unsent]
    assert given_up(SHORT, SHORT, of=ASKING) == [decision(ASKING.plan), VOIDED, unsent]


def test_the_cost_of_a_call_that_is_given_up_after_it_was_sent_is_unknown() -> None:
    failed = gateway_failed(unbilled=False)
    sent = ending(failed, NOT_BEGUN, durable=False)
    begun = Timings(until_sent_us=30, until_first_byte_us=470, until_end_us=FAILS - BEGINS)

    assert given_up(of=PLAN) == [sent]
    assert given_up(BEGAN, of=PLAN) == [ending(failed, begun, durable=False)]
    assert given_up(GRANTED, BOOKED, of=ASKING) == [KEPT, sent]


@pytest.mark.parametrize(
    ("of", "events"),
    [(REFUSED, ()), (ASKING, (BLIND,)), (ASKING, (GRANTED, BOOKED, BEGAN, ENDED)), (PLAN, (GONE,))],
)
def test_nothing_is_left_to_do_for_a_call_that_is_given_up_after_its_ending(
    of: Asked, events: tuple[Event, ...]
) -> None:
    assert given_up(*events, of=of) == []


def test_nothing_is_left_to_do_for_a_call_that_is_given_up_before_it_began() -> None:
    assert an_exchange(ASKING).give_up(FAILS) == ()


def test_the_time_that_was_the_providers_is_from_sending_to_the_end() -> None:
    exchange = an_exchange()
    exchange.begin(LEAVES)
    before_the_end = exchange.upstream_us
    exchange.receive(BEGAN)
    exchange.receive(ENDED)

    assert before_the_end is None
    assert exchange.upstream_us == ENDS - LEAVES


@pytest.mark.parametrize(
    ("of", "events"), [(REFUSED, ()), (ASKING, (BLIND, DONE)), (ASKING, (GRANTED, LOST))]
)
def test_a_call_that_was_not_sent_was_never_the_providers(of: Asked, events: tuple[Event, ...]) -> None:
    exchange = an_exchange(of)
    exchange.begin(LEAVES)
    for event in events:
        exchange.receive(event)

    assert exchange.upstream_us is None


# The states and what may happen in them, written again: from each, the events that are listed and no others.
PATHS: Mapping[State, tuple[Event, ...] | None] = {
    State.READ: None,
    State.RESERVING: (),
    State.COUNTING: (COUNTS,),
    State.QUEUED: (SHORT, SHORT),
    State.BOOKING: (GRANTED,),
    State.SENT: (GRANTED, BOOKED),
    State.STREAMING: (GRANTED, BOOKED, BEGAN),
    State.SETTLING: (GRANTED, BOOKED, BEGAN, ENDED),
    State.DONE: (GRANTED, BOOKED, BEGAN, ENDED, DONE),
}
LEADS_TO: Mapping[State, Mapping[Event, State]] = {
    State.READ: {},
    State.RESERVING: {
        GRANTED: State.BOOKING,
        GRANTED_LESS: State.BOOKING,
        SHORT: State.RESERVING,
        COUNTS: State.COUNTING,
        BLIND: State.SETTLING,
        GONE: State.SETTLING,
    },
    State.COUNTING: {COUNTED: State.RESERVING, UNCOUNTED: State.RESERVING, GONE: State.SETTLING},
    State.QUEUED: {WAITED: State.RESERVING, GONE: State.SETTLING},
    State.BOOKING: {DONE: State.SENT, LOST: State.DONE, GONE: State.SETTLING},
    State.SENT: {
        BEGAN: State.STREAMING,
        UNREACHABLE: State.SETTLING,
        TIMEOUT: State.SETTLING,
        GONE: State.SETTLING,
    },
    State.STREAMING: {ENDED: State.SETTLING, BROKE: State.SETTLING, GONE: State.SETTLING},
    State.SETTLING: {DONE: State.DONE, LOST: State.DONE},
    State.DONE: {},
}
ASKERS = {State.RESERVING, State.COUNTING, State.QUEUED, State.BOOKING}
UNASKED = [state for state in State if state not in ASKERS]


def an_exchange_in(state: State, of: Asked = ASKING) -> Exchange:
    exchange = an_exchange(of)
    path = PATHS[state]
    if path is not None:
        exchange.begin(LEAVES)
        for event in path if of is ASKING else path[2:]:
            exchange.receive(event)
    assert exchange.state is state
    return exchange


@pytest.mark.parametrize(
    ("of", "state"),
    [*((ASKING, state) for state in State), *((PLAN, state) for state in UNASKED)],
    ids=lambda it: it.value if isinstance(it, State) else type(it).__name__,
)
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: f"{type(event).__name__}{EVENTS.index(event)}")
def test_an_event_has_one_outcome_in_a_state_or_is_the_drivers_mistake(
    of: Asked, state: State, event: Event
) -> None:
    exchange = an_exchange_in(state, of)

    after = LEADS_TO[state].get(event)
    if after is None:
        with pytest.raises(KeyError):
            exchange.receive(event)
    else:
        exchange.receive(event)

    assert exchange.state is (after or state)


@pytest.mark.parametrize("state", [state for state in State if state is not State.READ])
def test_a_call_begins_once(state: State) -> None:
    exchange = an_exchange_in(state)

    with pytest.raises(KeyError):
        exchange.begin(LEAVES)


@pytest.mark.parametrize(
    ("of", "state"), [(PLAN, State.SENT), (ASKING, State.RESERVING), (REFUSED, State.SETTLING)]
)
def test_a_call_begins_by_being_sent_by_asking_or_by_being_refused(of: Asked, state: State) -> None:
    exchange = an_exchange(of)
    exchange.begin(LEAVES)

    assert exchange.state is state


def test_the_table_has_every_transition_and_no_other() -> None:
    assert {
        (State.READ, Step.SENT): State.SENT,
        (State.READ, Step.ASKED): State.RESERVING,
        (State.READ, Step.REFUSED): State.SETTLING,
        (State.RESERVING, Step.AGAIN): State.RESERVING,
        (State.RESERVING, Step.COUNT): State.COUNTING,
        (State.RESERVING, Step.QUEUE): State.QUEUED,
        (State.RESERVING, Step.GRANTED): State.BOOKING,
        (State.RESERVING, Step.DENIED): State.SETTLING,
        (State.RESERVING, Step.CALLER_LEFT): State.SETTLING,
        (State.RESERVING, Step.FAILED): State.DONE,
        (State.COUNTING, Step.COUNTED): State.RESERVING,
        (State.COUNTING, Step.CALLER_LEFT): State.SETTLING,
        (State.COUNTING, Step.FAILED): State.DONE,
        (State.QUEUED, Step.WAITED): State.RESERVING,
        (State.QUEUED, Step.CALLER_LEFT): State.SETTLING,
        (State.QUEUED, Step.FAILED): State.DONE,
        (State.BOOKING, Step.RECORDED): State.SENT,
        (State.BOOKING, Step.NOT_RECORDED): State.DONE,
        (State.BOOKING, Step.CALLER_LEFT): State.SETTLING,
        (State.BOOKING, Step.FAILED): State.DONE,
        (State.SENT, Step.BEGAN): State.STREAMING,
        (State.SENT, Step.NO_REPLY): State.SETTLING,
        (State.SENT, Step.CALLER_LEFT): State.SETTLING,
        (State.SENT, Step.FAILED): State.DONE,
        (State.STREAMING, Step.ENDED): State.SETTLING,
        (State.STREAMING, Step.CALLER_LEFT): State.SETTLING,
        (State.STREAMING, Step.FAILED): State.DONE,
        (State.SETTLING, Step.RECORDED): State.DONE,
        (State.SETTLING, Step.NOT_RECORDED): State.DONE,
    } == TRANSITIONS


def test_every_state_but_the_last_leads_on_and_the_last_leads_nowhere() -> None:
    assert {state for state, _ in TRANSITIONS} == set(State) - {State.DONE}


@dataclass(frozen=True)
class GaveUp:
    """The driver failed."""


class Walk:
    """One way through the machine, and the log of what happened and what was done about it, in order."""

    def __init__(self, of: Asked, choices: list[int]) -> None:
        self.exchange = an_exchange(of)
        self.log: list[Effect | Event | GaveUp] = [*self.exchange.begin(LEAVES)]
        for choice in choices:
            events = self.possible()
            if not events:
                break
            if choice == 0:
                self.give_up()
            else:
                event = events[choice % len(events)]
                self.log += [event, *self.exchange.receive(event)]

    def possible(self) -> list[Event]:
        """What may happen now: of an answer to a claim, one that fits the claim."""
        state = self.exchange.state
        if state is State.RESERVING:
            return [
                GONE_BEFORE,
                *(Claimed(outcome=outcome, at_us=at_us) for outcome, at_us in self.outcomes()),
            ]
        events = [*LEADS_TO[state]]
        return [GONE_BEFORE if event is GONE and state in ASKERS else event for event in events]

    def outcomes(self) -> Iterator[tuple[Outcome, int]]:
        """Granted, granted in part where that was asked, short of a little or of all, too late, unknown."""
        claim = [effect for effect in self.log if isinstance(effect, Reserve)][-1].claim
        yield Reserved(amount_nanos=claim.amount_nanos), CLAIMS
        if claim.least_nanos < claim.amount_nanos:
            yield Shrunk(amount_nanos=claim.least_nanos), CLAIMS
        for left in (0, claim.least_nanos - 1):
            denied = Denied(
                account=claim.accounts[0],
                posted_nanos=usd("5") - left,
                pending_nanos=0,
                asked_nanos=claim.least_nanos,
            )
            yield denied, CLAIMS
            yield denied, WAITS_UNTIL
        yield UNKNOWN, CLAIMS

    def give_up(self) -> None:
        self.log += [GaveUp(), *self.exchange.give_up(FAILS)]

    def places(self, *kinds: type) -> list[int]:
        return [at for at, done in enumerate(self.log) if isinstance(done, kinds)]

    def entries(self, *kinds: type) -> list[int]:
        return [at for at, record in self.records() if isinstance(record.entry, kinds)]

    def records(self) -> Iterator[tuple[int, Record]]:
        return ((at, done) for at, done in enumerate(self.log) if isinstance(done, Record))

    @property
    def is_granted(self) -> bool:
        """Whether the budgets set anything aside, or the policy let the call go without."""
        claims = [event.outcome for event in self.log if isinstance(event, Claimed)]
        return any(isinstance(outcome, Reserved | Shrunk) for outcome in claims) or (
            UNKNOWN in claims and not self.is_refused
        )

    @property
    def is_refused(self) -> bool:
        errors = {record.entry.error for _, record in self.records() if isinstance(record.entry, Failed)}
        return bool(errors & {"budget", "budget-store", "too-dear", "unknown-task-type"})


KINDS = (PLAN, REFUSED, ASKING, TRYING, asking(replace(TRIES_ALL, when_lost="allow")))
WALKS = st.builds(Walk, st.sampled_from(KINDS), st.lists(st.integers(0, 20), max_size=14))


@given(walk=WALKS)
def test_on_every_path_the_decision_is_recorded_before_the_call_and_the_ending_before_the_last_bytes(
    walk: Walk,
) -> None:
    decisions, endings = walk.entries(Decided), walk.entries(Posted, Failed)
    last_words = walk.places(Release, BreakOff, Answer)
    sends = walk.places(Send)
    told = walk.places(Recorded, NotRecorded)

    assert len(decisions) == (walk.exchange.state not in ASKERS - {State.BOOKING})
    assert max(len(sends), len(endings), len(last_words)) <= 1
    assert walk.exchange.state not in {State.SETTLING, State.DONE} or endings
    assert all(decisions[0] < at for at in (*sends, *endings))
    for at in last_words:
        assert endings[0] < at
        assert told[-1] < at


@given(walk=WALKS)
def test_on_every_path_a_call_that_is_given_up_has_one_decision_and_one_ending(walk: Walk) -> None:
    walk.give_up()

    assert len(walk.entries(Decided)) == len(walk.entries(Posted, Failed)) == 1


@given(walk=WALKS)
def test_on_every_path_a_call_under_a_budget_leaves_only_after_its_reservation_is_durable(walk: Walk) -> None:
    reservations = walk.entries(SetAside)

    assert len(reservations) == walk.is_granted
    if walk.places(Reserve):
        for sent in walk.places(Send):
            assert isinstance(walk.log[sent - 1], Recorded)
            assert sent - 2 == reservations[0]


@given(walk=WALKS)
def test_on_every_path_what_was_set_aside_is_settled_once_at_what_the_ending_says(walk: Walk) -> None:
    walk.give_up()

    settled = walk.places(Settle)

    assert len(settled) == (bool(walk.places(Reserve)) and not walk.is_refused)
    assert settled or not walk.is_granted
    for at in settled:
        settle, record = walk.log[at], walk.log[at + 1]
        assert isinstance(settle, Settle)
        assert isinstance(record, Record)
        assert isinstance(record.entry, Posted | Failed)
        assert settle.cost_nanos == record.entry.cost_nanos
        assert walk.places(Send) or settle == VOIDED


@given(walk=WALKS)
def test_on_every_path_a_prompt_is_counted_at_most_once_and_a_claim_waits_for_its_answer(walk: Walk) -> None:
    assert len(walk.places(CountPrompt)) <= 1
    for at in walk.places(Reserve)[:-1]:
        assert isinstance(walk.log[at + 1], Claimed)


@given(walk=WALKS)
def test_on_every_path_a_conversation_is_moved_only_where_its_call_is_granted_on_the_new_tier(
    walk: Walk,
) -> None:
    for at in walk.places(KeepTier):
        move, record = walk.log[at], walk.log[at + 1]
        assert isinstance(move, KeepTier)
        assert isinstance(record, Record)
        assert isinstance(record.entry, Decided)
        assert record.entry.tier == move.tier == "fast"
    assert len(walk.places(KeepTier)) <= 1


@given(walk=WALKS)
def test_a_reservation_and_an_ending_are_waited_for_and_nothing_else_is(walk: Walk) -> None:
    given_up = walk.places(GaveUp)
    for at, record in walk.records():
        unsent = isinstance(record.entry, Failed) and record.entry.error == "ledger"
        last_resort = unsent or bool(given_up and given_up[0] < at)
        assert record.durable == (not isinstance(record.entry, Decided) and not last_resort)
