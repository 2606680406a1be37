"""One call as a machine: events in, effects out. It does no I/O; a driver performs its effects.

    READ ──sent───────────────────────────────▶ SENT ──began──▶ STREAMING ──ended──▶ SETTLING ──recorded──▶ DONE
     ├──asked──▶ RESERVING ──granted──▶ BOOKING ──┘
     │            ▲ └──short──▶ COUNTING, QUEUED
     └──refused   └──counted, waited──┘

A call under a budget is RESERVING until its worst case is set aside, and BOOKING until that is durable; a call
under none goes at once. Where a budget is short it asks again: for less, after the provider has counted its prompt
(COUNTING), or after money may have come back (QUEUED). A call that is refused, denied, left or without a reply goes
to SETTLING from where it is: `TRANSITIONS` has every step.

A driver performs the effects of `begin()` in order and gives back the event that an effect leads to, until the
machine is done. Where the last effect is `TryAgain`, the caller is owed a reply still, and another attempt at its
request is made, which is a call of its own. Body bytes go past the machine, from the provider to the caller; only
usage and endings are events. Three rules hold on every path:

1. The entry of the decision is handed to the ledger before `Send`, and the entry of a reservation is durable
   before it.
2. The entry of the ending is durable before `Release`, which lets the reply's final chunk go. A ledger that does
   not take it in time is no reason to withhold the reply: the reservation, which is durable, stands for the cost.
3. Every reservation is settled once: by its call's ending, or by `give_up` where a driver fails.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, assert_never

from tierwise.core.attempts import ONLY, Attempt, Failure, Next, Spent, TryAgain, after_cut, after_failure
from tierwise.core.budgets import Denied, Lost, Outcome
from tierwise.core.cascades import after_check
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
from tierwise.core.ledger import NO_TIMINGS, Failed, Fault, Posted, SetAside, Timings
from tierwise.core.planning import Plan, Refused
from tierwise.core.pricing import PriceBook
from tierwise.core.reserving import Asked, Asking, CountFirst, Queued, counted, granted, next_try
from tierwise.core.settlement import Ending, decided_entry, ending_entry, refused_entry
from tierwise.values import maker


class State(StrEnum):
    """Where a call is in its life."""

    READ = "read"
    RESERVING = "reserving"
    COUNTING = "counting"
    QUEUED = "queued"
    BOOKING = "booking"
    SENT = "sent"
    STREAMING = "streaming"
    SETTLING = "settling"
    DONE = "done"


class Step(StrEnum):
    """What moves a call on."""

    SENT = "sent"
    ASKED = "asked"
    AGAIN = "again"
    COUNT = "count"
    COUNTED = "counted"
    QUEUE = "queue"
    WAITED = "waited"
    GRANTED = "granted"
    DENIED = "denied"
    REFUSED = "refused"
    BEGAN = "began"
    ENDED = "ended"
    NO_REPLY = "no reply"
    CALLER_LEFT = "caller left"
    RECORDED = "recorded"
    NOT_RECORDED = "not recorded"
    FAILED = "failed"


TRANSITIONS: Final[Mapping[tuple[State, Step], State]] = {
    (State.READ, Step.SENT): State.SENT,
    (State.READ, Step.ASKED): State.RESERVING,
    (State.READ, Step.REFUSED): State.SETTLING,
    (State.RESERVING, Step.AGAIN): State.RESERVING,  # for less, or on a cheaper tier
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
    (State.STREAMING, Step.ENDED): State.SETTLING,  # finished or broken: the ending says which
    (State.STREAMING, Step.CALLER_LEFT): State.SETTLING,
    (State.STREAMING, Step.FAILED): State.DONE,
    (State.SETTLING, Step.RECORDED): State.DONE,
    (State.SETTLING, Step.NOT_RECORDED): State.DONE,
}
"""Every transition there is. A step that has none here is a driver's mistake, and a KeyError."""


class Exchange:
    """The machine of one call."""

    __slots__ = (
        "_asking",
        "_began_us",
        "_ended_us",
        "_last_effects",
        "_next",
        "_prices",
        "_sent_us",
        "_told",
        "attempt",
        "call_id",
        "ending",
        "key_id",
        "plan",
        "purpose",
        "read_us",
        "state",
    )

    def __init__(
        self,
        asked: Asked,
        *,
        prices: PriceBook,
        call_id: str,
        read_us: int,
        key_id: str | None = None,
        attempt: Attempt = ONLY,
        purpose: str | None = None,
    ) -> None:
        """Begin with what was planned for a call that was read at `read_us`, and what it asks of its budgets.

        `key_id` names the caller's credential in the entry, without telling it; `attempt` says which attempt at its
        request it is, or which call it is compared with; `purpose` whose wish it is, None for a caller's own.
        """
        self.state = State.READ
        self.plan: Plan | Refused = asked.plan if isinstance(asked, Asking) else asked
        """What the call is sent as; after its budgets' answer, with what they made of it."""
        self.read_us = read_us
        self._asking = asked if isinstance(asked, Asking) else None
        self._prices = prices
        self.call_id = call_id
        self._sent_us: int | None = None
        self._began_us: int | None = None
        self._ended_us: int | None = None
        self._last_effects: tuple[Effect, ...] = ()
        self._told = False
        self.key_id = key_id
        self.attempt = attempt
        self._next: Next = None
        self.purpose = purpose
        self.ending: Posted | Failed | None = None
        """The entry of its end, once it is made; None also for a call that was refused."""

    def begin(self, at_us: int) -> tuple[Effect, ...]:
        """Return the first effects: the claim on the budgets; else the decision's entry and the call, or a refusal."""
        match self.plan:
            case Plan() if self._asking is not None:
                self._step(Step.ASKED)
                return self._ask(self._asking)
            case Plan(changes=changes):
                self._step(Step.SENT)
                self._sent_us = at_us
                return self._decided(), Send(changes=changes)
            case Refused() as refused:
                self._step(Step.REFUSED)
                return self._refuse(refused, at_us)
            case other:
                assert_never(other)

    def receive(self, event: Event) -> tuple[Effect, ...]:
        """Take what happened and return what to do about it.

        Raises:
            KeyError: the event cannot happen in this state.
        """
        match event:
            case Claimed(outcome=outcome, at_us=at_us):
                return self._claimed(outcome, at_us)
            case Recorded(at_us=at_us):
                return self._recorded(at_us)
            case Counted(tokens=tokens, at_us=at_us):
                return self._counted(tokens, at_us)
            case Waited():
                self._step(Step.WAITED)
                return self._ask(self._asked)
            case ReplyBegan() as began:
                self._step(Step.BEGAN)
                return (self._relay(began),)
            case ReplyEnded(ending=ending, broke=broke):
                self._step(Step.ENDED)
                return self._settle(ending, then=(self._pass_on(ending, broke=broke),))
            case NoReply(at_us=at_us, error=error, sentence=sentence):
                self._step(Step.NO_REPLY)
                ending = Ending(
                    at_us=at_us,
                    error=error,
                    unbilled=error == "unreachable",
                    fault=Fault.PROVIDER,
                    finished=False,
                )
                following = self._after(Failure(error=error), at_us)
                answer = Answer(code=error, sentence=sentence, last=isinstance(following, Spent))
                again = following if isinstance(following, TryAgain) else None
                return self._settle(ending, then=(again or answer,))
            case CallerLeft(ending=ending):
                self._step(Step.CALLER_LEFT)
                return self._settle(ending, then=())
            case NotRecorded(at_us=at_us):
                return self._not_recorded(at_us)
            case other:
                assert_never(other)

    def give_up(self, at_us: int) -> tuple[Effect, ...]:
        """Return what is left to do for a call whose driver failed: it ends here, and a reservation is settled.

        What was not sent costs nothing; the cost of what was is unknown.
        """
        if (self.state, Step.FAILED) not in TRANSITIONS:
            return ()
        unsent = self.state not in {State.SENT, State.STREAMING}
        self._step(Step.FAILED)
        ending = Ending(
            at_us=at_us, error="gateway-failed", unbilled=unsent, fault=Fault.GATEWAY, finished=False
        )
        return self._ended(ending, durable=False)

    @property
    def upstream_us(self) -> int | None:
        """How long the call was the provider's, in microseconds; None where it was not sent."""
        if self._sent_us is None or self._ended_us is None:
            return None
        return self._ended_us - self._sent_us

    def _step(self, step: Step) -> None:
        self.state = TRANSITIONS[self.state, step]

    @property
    def _asked(self) -> Asking:
        assert self._asking is not None
        return self._asking

    def _decided(self) -> Record:
        self._told = True
        entry = decided_entry(
            self.plan,
            call_id=self.call_id,
            key_id=self.key_id,
            at_us=self.read_us,
            attempt=self.attempt,
            purpose=self.purpose,
        )
        return _make_record(entry=entry, durable=False)

    def _refuse(self, refused: Refused, at_us: int, denied: Denied | None = None) -> tuple[Effect, ...]:
        refusal = refused.refusal
        self._last_effects = (
            Answer(code=refusal.code, sentence=refusal.sentence, denied=denied, at_us=at_us),
        )
        entry = refused_entry(call_id=self.call_id, at_us=at_us, error=refusal.code, prices=self._prices)
        return self._decided(), _make_record(entry=entry, durable=True)

    def _claimed(self, outcome: Outcome, at_us: int) -> tuple[Effect, ...]:
        """Go on as the budgets have it: the reservation is written down before the call leaves."""
        if self.state is not State.RESERVING:
            raise KeyError(self.state, outcome)
        asking = self._asked
        if isinstance(outcome, Denied):
            return self._short(asking, outcome, at_us)
        self.plan = granted(asking, outcome)
        if isinstance(self.plan, Refused):
            self._step(Step.DENIED)
            return self._refuse(self.plan, at_us)
        self._step(Step.GRANTED)
        contents = asking.asker.contents
        amount = asking.claim.amount_nanos if isinstance(outcome, Lost) else outcome.amount_nanos
        entry = SetAside(
            call_id=self.call_id,
            at_us=at_us,
            accounts=tuple([account.key for account in asking.claim.accounts]),
            reserved_nanos=amount,
            prompt_bytes=contents.body_bytes if contents.plain else None,
            prompt_kind=contents.kind if contents.plain else None,
        )
        moved = (KeepTier(tier=tier),) if asking.downgraded and (tier := self.plan.decision.tier) else ()
        return *moved, self._decided(), _make_record(entry=entry, durable=True)

    def _short(self, asking: Asking, denied: Denied, at_us: int) -> tuple[Effect, ...]:
        """Try what is left to try, or refuse."""
        match next_try(asking, denied, at_us=at_us):
            case Asking() as again:
                self._step(Step.AGAIN)
                return self._ask(again)
            case CountFirst():
                self._step(Step.COUNT)
                return (CountPrompt(changes=asking.plan.changes),)
            case Queued(until_us=until_us):
                self._step(Step.QUEUE)
                return (AwaitMoney(until_us=until_us),)
            case Refused() as refused:
                self._step(Step.DENIED)
                self.plan = refused
                return self._refuse(refused, at_us, denied)
            case other:
                assert_never(other)

    def _ask(self, asking: Asking) -> tuple[Effect, ...]:
        self._asking = asking
        self.plan = asking.plan
        return (Reserve(claim=asking.claim),)

    def _counted(self, tokens: int | None, at_us: int) -> tuple[Effect, ...]:
        self._step(Step.COUNTED)
        match counted(self._asked, tokens):
            case Asking() as again:
                return self._ask(again)
            case Refused() as refused:
                self._step(Step.DENIED)
                self.plan = refused
                return self._refuse(refused, at_us)
            case other:
                assert_never(other)

    def _relay(self, began: ReplyBegan) -> Relay:
        self._began_us = began.at_us
        if began.status < 400:
            return Relay()
        failure = Failure(
            error="status", status=began.status, should_retry=began.should_retry, wait_us=began.wait_us
        )
        self._next = self._after(failure, began.at_us)
        return Relay(aside=isinstance(self._next, TryAgain), last=isinstance(self._next, Spent))

    def _after(self, failure: Failure, at_us: int) -> Next:
        wanted = self.plan if self._asking is None else self._asking.wanted
        assert isinstance(wanted, Plan)
        return after_failure(failure, plan=wanted, attempt=self.attempt, call_id=self.call_id, at_us=at_us)

    def _pass_on(self, ending: Ending, *, broke: bool) -> Effect:
        """What becomes of a reply that has ended: it is let go, broken off, or tried again."""
        if isinstance(self._next, TryAgain):
            return self._next
        if broke:
            return BreakOff()
        return self._better(ending) or Release()

    def _better(self, ending: Ending) -> TryAgain | None:
        """Another attempt at a reply that failed its check, or that its cap cut, unless a budget set that cap."""
        assert isinstance(self.plan, Plan)
        if ending.passed is False:
            return after_check(plan=self.plan, attempt=self.attempt, call_id=self.call_id, at_us=ending.at_us)
        wanted = self.plan if self._asking is None else self._asking.wanted
        lowered = self.plan.max_tokens_sent < wanted.max_tokens_sent
        if ending.stop_reason != "max_tokens" or ending.metered is None or lowered:
            return None
        return after_cut(
            ending.metered,
            plan=self.plan,
            attempt=self.attempt,
            call_id=self.call_id,
            prices=self._prices,
            at_us=ending.at_us,
        )

    def _recorded(self, at_us: int) -> tuple[Effect, ...]:
        self._step(Step.RECORDED)
        if self.state is State.DONE:
            return self._last_effects
        assert isinstance(self.plan, Plan)
        self._sent_us = at_us
        return (Send(changes=self.plan.changes),)

    def _not_recorded(self, at_us: int) -> tuple[Effect, ...]:
        """A call whose reservation is not durable does not leave; a reply that has ended is let go all the same."""
        booking = self.state is State.BOOKING
        self._step(Step.NOT_RECORDED)
        if not booking:
            return self._last_effects
        ending = Ending(at_us=at_us, error="ledger", unbilled=True, fault=Fault.GATEWAY, finished=False)
        sentence = "The reservation of this call could not be written down in time, so it was not sent."
        return *self._ended(ending, durable=False), Answer(code="ledger", sentence=sentence)

    def _settle(self, ending: Ending, *, then: tuple[Effect, ...]) -> tuple[Effect, ...]:
        self._last_effects = then
        return self._ended(ending, durable=True)

    def _ended(self, ending: Ending, *, durable: bool) -> tuple[Effect, ...]:
        assert isinstance(self.plan, Plan)
        self._ended_us = ending.at_us
        entry = ending_entry(
            ending,
            plan=self.plan,
            prices=self._prices,
            call_id=self.call_id,
            timings=self._timings(ending.at_us),
        )
        self.ending = entry
        untold = () if self._told else (self._decided(),)
        return (*untold, *self._settled(entry), _make_record(entry=entry, durable=durable))

    def _settled(self, entry: Posted | Failed) -> tuple[Effect, ...]:
        return (Settle(cost_nanos=entry.cost_nanos),) if self._asking is not None else ()

    def _timings(self, ended_us: int) -> Timings:
        if self._sent_us is None:
            return NO_TIMINGS
        return Timings(
            until_sent_us=self._sent_us - self.read_us,
            until_first_byte_us=None if self._began_us is None else self._began_us - self._sent_us,
            until_end_us=None if self._began_us is None else ended_us - self._began_us,
        )


_make_record: Final = maker(Record)
