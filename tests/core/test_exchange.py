from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.calls import EXTRACTION, FAST, FRONTIER, a_call, a_policy
from tierwise.config.prices import shipped_prices
from tierwise.core.exchange import (
    TRANSITIONS,
    Answer,
    BreakOff,
    CallerLeft,
    Effect,
    Event,
    Exchange,
    NoReply,
    Record,
    Recorded,
    Relay,
    Release,
    ReplyBegan,
    ReplyEnded,
    Send,
    State,
    Step,
)
from tierwise.core.ledger import NO_TIMINGS, Decided, Failed, Fault, Posted, Timings
from tierwise.core.planning import Plan, Refused, plan
from tierwise.core.settlement import Ending, decided_entry, ending_entry, refused_entry
from tierwise.core.tasks import name_task
from tierwise.usage import Metered, Usage, UsageLine

PRICES = shipped_prices()
POLICY = a_policy(EXTRACTION, tiers=(FRONTIER, FAST))
READ = int(datetime(2026, 11, 23, tzinfo=UTC).timestamp()) * 1_000_000
LEAVES, BEGINS, ENDS = READ + 30, READ + 500, READ + 2_000


def planned(model: str) -> Plan | Refused:
    call = a_call(model)
    return plan(call, name_task(call, policy=POLICY), policy=POLICY, kept=None)


def admitted(model: str) -> Plan:
    found = planned(model)
    assert isinstance(found, Plan)
    return found


PLAN = admitted("task/extraction")
REFUSED = planned("task/nope")
assert isinstance(REFUSED, Refused)

METERED = Metered(
    lines=(UsageLine(model="claude-haiku-5-5", usage=Usage(input_tokens=1000, output_tokens=500)),)
)
WHOLE = Ending(
    at_us=ENDS, status=200, served_model="claude-haiku-5-5", stop_reason="end_turn", metered=METERED
)
BROKEN = Ending(at_us=ENDS, status=200, finished=False, error="stream-broke", fault=Fault.PROVIDER)
LEFT = Ending(at_us=ENDS, finished=False, error="caller-left", fault=Fault.CALLER)

BEGAN = ReplyBegan(at_us=BEGINS)
ENDED = ReplyEnded(ending=WHOLE)
BROKE = ReplyEnded(ending=BROKEN, broke=True)
UNREACHABLE = NoReply(at_us=ENDS, error="unreachable", sentence="No route.")
TIMEOUT = NoReply(at_us=ENDS, error="timeout", sentence="Too late.")
GONE = CallerLeft(ending=LEFT)
DONE = Recorded()
EVENTS: tuple[Event, ...] = (BEGAN, ENDED, BROKE, UNREACHABLE, TIMEOUT, GONE, DONE)

NOT_BEGUN = Timings(until_sent_us=30, until_first_byte_us=None, until_end_us=None)
WHOLE_TIMINGS = Timings(until_sent_us=30, until_first_byte_us=470, until_end_us=1_500)


def an_exchange(of: Plan | Refused = PLAN) -> Exchange:
    return Exchange(of, prices=PRICES, call_id="c1", read_us=READ)


def run(*events: Event, of: Plan | Refused = PLAN) -> list[Effect]:
    exchange = an_exchange(of)
    effects = [*exchange.begin(LEAVES)]
    for event in events:
        effects += exchange.receive(event)
    return effects


def decision(of: Plan | Refused = PLAN) -> Record:
    return Record(entry=decided_entry(of, call_id="c1", at_us=READ), durable=False)


def ending(of: Ending, timings: Timings = WHOLE_TIMINGS) -> Record:
    entry = ending_entry(of, plan=PLAN, prices=PRICES, call_id="c1", timings=timings)
    return Record(entry=entry, durable=True)


SEND = Send(changes=PLAN.changes)


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


def test_a_refused_call_is_never_sent_and_is_answered_once_its_entries_are_durable() -> None:
    refused = Record(
        entry=refused_entry(call_id="c1", at_us=LEAVES, error="unknown-task-type", prices=PRICES),
        durable=True,
    )
    sentence = "The policy has no task type 'nope'. It knows: extraction."

    effects = run(DONE, of=REFUSED)

    assert effects == [decision(REFUSED), refused, Answer(code="unknown-task-type", sentence=sentence)]
    assert isinstance(refused.entry, Failed)
    assert refused.entry.timings == NO_TIMINGS


def test_the_time_that_was_the_providers_is_from_sending_to_the_end() -> None:
    exchange = an_exchange()
    exchange.begin(LEAVES)
    before_the_end = exchange.upstream_us
    exchange.receive(BEGAN)
    exchange.receive(ENDED)

    assert before_the_end is None
    assert exchange.upstream_us == ENDS - LEAVES


def test_a_refused_call_was_never_the_providers() -> None:
    exchange = an_exchange(REFUSED)
    exchange.begin(LEAVES)

    assert exchange.upstream_us is None


# The states and what may happen in them, written again: from each, the events that are listed and no others.
PATHS: Mapping[State, tuple[Event, ...] | None] = {
    State.READ: None,
    State.SENT: (),
    State.STREAMING: (BEGAN,),
    State.SETTLING: (BEGAN, ENDED),
    State.DONE: (BEGAN, ENDED, DONE),
}
LEADS_TO: Mapping[State, Mapping[Event, State]] = {
    State.READ: {},
    State.SENT: {
        BEGAN: State.STREAMING,
        UNREACHABLE: State.SETTLING,
        TIMEOUT: State.SETTLING,
        GONE: State.SETTLING,
    },
    State.STREAMING: {ENDED: State.SETTLING, BROKE: State.SETTLING, GONE: State.SETTLING},
    State.SETTLING: {DONE: State.DONE},
    State.DONE: {},
}


def an_exchange_in(state: State) -> Exchange:
    exchange = an_exchange()
    path = PATHS[state]
    if path is not None:
        exchange.begin(LEAVES)
        for event in path:
            exchange.receive(event)
    assert exchange.state is state
    return exchange


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", EVENTS, ids=repr)
def test_an_event_has_one_outcome_in_a_state_or_is_the_drivers_mistake(state: State, event: Event) -> None:
    exchange = an_exchange_in(state)

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


@pytest.mark.parametrize(("of", "state"), [(PLAN, State.SENT), (REFUSED, State.SETTLING)])
def test_a_call_begins_by_being_sent_or_refused(of: Plan | Refused, state: State) -> None:
    exchange = an_exchange(of)
    exchange.begin(LEAVES)

    assert exchange.state is state


def test_the_table_has_every_transition_and_no_other() -> None:
    assert {
        (State.READ, Step.SENT): State.SENT,
        (State.READ, Step.REFUSED): State.SETTLING,
        (State.SENT, Step.BEGAN): State.STREAMING,
        (State.SENT, Step.NO_REPLY): State.SETTLING,
        (State.SENT, Step.CALLER_LEFT): State.SETTLING,
        (State.STREAMING, Step.ENDED): State.SETTLING,
        (State.STREAMING, Step.CALLER_LEFT): State.SETTLING,
        (State.SETTLING, Step.RECORDED): State.DONE,
    } == TRANSITIONS


def test_every_state_but_the_last_leads_on_and_the_last_leads_nowhere() -> None:
    assert {state for state, _ in TRANSITIONS} == set(State) - {State.DONE}


@given(of=st.sampled_from((PLAN, REFUSED)), events=st.lists(st.sampled_from(EVENTS), max_size=12))
def test_on_every_path_the_decision_is_recorded_before_the_call_and_the_ending_before_the_last_bytes(
    of: Plan | Refused, events: list[Event]
) -> None:
    exchange = an_exchange(of)
    log: list[Effect | Recorded] = [*exchange.begin(LEAVES)]
    for event in events:
        try:
            effects = exchange.receive(event)
        except KeyError:
            continue
        log += [event, *effects] if isinstance(event, Recorded) else effects

    endings = [at for at, entry in recorded(log) if not isinstance(entry, Decided)]
    decisions = [at for at, entry in recorded(log) if isinstance(entry, Decided)]
    last_words = [at for at, done in enumerate(log) if isinstance(done, Release | BreakOff | Answer)]
    sends = [at for at, done in enumerate(log) if isinstance(done, Send)]
    acknowledgements = [at for at, done in enumerate(log) if isinstance(done, Recorded)]

    assert decisions == [0]
    assert len(sends) <= 1
    assert len(endings) <= 1
    assert len(last_words) <= 1
    assert exchange.state is not State.DONE or (endings and acknowledgements)
    for at in last_words:
        assert endings[0] < acknowledgements[0] < at
        assert isinstance(log[endings[0]], Record)


@given(of=st.sampled_from((PLAN, REFUSED)), events=st.lists(st.sampled_from(EVENTS), max_size=12))
def test_the_ending_is_the_only_entry_that_must_be_waited_for(
    of: Plan | Refused, events: list[Event]
) -> None:
    exchange = an_exchange(of)
    log: list[Effect] = [*exchange.begin(LEAVES)]
    for event in events:
        try:
            log += exchange.receive(event)
        except KeyError:
            continue

    for effect in log:
        if isinstance(effect, Record):
            assert effect.durable is not isinstance(effect.entry, Decided)


def recorded(log: list[Effect | Recorded]) -> list[tuple[int, Decided | Posted | Failed]]:
    return [(at, effect.entry) for at, effect in enumerate(log) if isinstance(effect, Record)]
