"""One call as a machine: events in, effects out. It does no I/O; a driver performs its effects.

    READ ──sent───────────────────────────────▶ SENT ──began──▶ STREAMING ──ended──▶ SETTLING ──recorded──▶ DONE
     ├──asked──▶ RESERVING ──granted──▶ BOOKING ──┘
     └──refused

A call under a budget is RESERVING until its worst case is set aside, and BOOKING until that is durable; a call
under none goes at once. A call that is refused, denied, left or without a reply goes to SETTLING from where it is:
`TRANSITIONS` has every step.

A driver performs the effects of `begin()` in order and gives back the event that an effect leads to, until the
machine is done. Body bytes go past the machine, from the provider to the caller; only usage and endings are
events. Three rules hold on every path:

1. The entry of the decision is handed to the ledger before `Send`, and the entry of a reservation is durable
   before it.
2. The entry of the ending is durable before `Release`, which lets the reply's final chunk go. A ledger that does
   not take it in time is no reason to withhold the reply: the reservation, which is durable, stands for the cost.
3. Every reservation is settled once: by its call's ending, or by `give_up` where a driver fails.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, TypeAlias, assert_never

from tierwise.core.budgets import Claim, Denied, Outcome
from tierwise.core.changes import Change
from tierwise.core.ledger import NO_TIMINGS, Entry, Failed, Fault, Posted, SetAside, Timings
from tierwise.core.planning import Plan, Refused
from tierwise.core.pricing import PriceBook
from tierwise.core.reserving import Asked, Asking, granted
from tierwise.core.settlement import Ending, decided_entry, ending_entry, refused_entry
from tierwise.money import Nanos


class State(StrEnum):
    """Where a call is in its life."""

    READ = "read"
    RESERVING = "reserving"
    BOOKING = "booking"
    SENT = "sent"
    STREAMING = "streaming"
    SETTLING = "settling"
    DONE = "done"


class Step(StrEnum):
    """What moves a call on."""

    SENT = "sent"
    ASKED = "asked"
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
    (State.RESERVING, Step.GRANTED): State.BOOKING,
    (State.RESERVING, Step.DENIED): State.SETTLING,
    (State.RESERVING, Step.FAILED): State.DONE,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyBegan:
    """The provider's status and headers are here."""

    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyEnded:
    """The reply came to its end, or broke."""

    ending: Ending
    broke: bool = False
    """Whether its bytes stopped before their end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoReply:
    """The provider gave no reply."""

    at_us: int
    error: Literal["unreachable", "dropped", "timeout"]
    sentence: str
    """For the caller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerLeft:
    """The caller closed its connection; the ending says what the provider had counted by then."""

    ending: Ending


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """The budgets answered the call's claim."""

    outcome: Outcome
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The entry that had to be durable is."""

    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NotRecorded:
    """The entry that had to be durable is not, in the time that a driver waits; the ledger goes on trying."""

    at_us: int


Event: TypeAlias = Claimed | ReplyBegan | ReplyEnded | NoReply | CallerLeft | Recorded | NotRecorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """Ask the budgets, all accounts in one step; answer `Claimed`."""

    claim: Claim


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Hand an entry to the ledger. A durable one is waited for: answer `Recorded`, `NotRecorded` or `CallerLeft`."""

    entry: Entry
    durable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Send the body, changed so; answer `ReplyBegan`, `NoReply` or `CallerLeft`."""

    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """Let the reply's bytes past, up to its final chunk; answer `ReplyEnded` or `CallerLeft`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Let the final chunk go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """Settle the call's reservation: at its cost, which may be nothing; None keeps it at its worst case."""

    cost_nanos: Nanos | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakOff:
    """Break off the reply, as the provider did: the caller must not take it for a whole one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Answer the caller with an error of ours."""

    code: Literal[
        "unknown-task-type",
        "ineligible",
        "thread",
        "budget",
        "unpriced",
        "too-dear",
        "ledger",
        "unreachable",
        "dropped",
        "timeout",
    ]
    sentence: str
    denied: Denied | None = None
    """Which account is short, where one is."""
    at_us: int = 0
    """When it was found short."""


Effect: TypeAlias = Reserve | Record | Send | Relay | Settle | Release | BreakOff | Answer


class Exchange:
    """The machine of one call."""

    __slots__ = (
        "_asking",
        "_began_us",
        "_ended_us",
        "_last_effects",
        "_prices",
        "_sent_us",
        "call_id",
        "plan",
        "read_us",
        "state",
    )

    def __init__(self, asked: Asked, *, prices: PriceBook, call_id: str, read_us: int) -> None:
        """Begin with what was planned for a call that was read at `read_us`, and what it asks of its budgets."""
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

    def begin(self, at_us: int) -> tuple[Effect, ...]:
        """Return the first effects: the claim on the budgets; else the decision's entry and the call, or a refusal."""
        match self.plan:
            case Plan() if self._asking is not None:
                self._step(Step.ASKED)
                return (Reserve(claim=self._asking.claim),)
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
            case ReplyBegan(at_us=at_us):
                self._step(Step.BEGAN)
                self._began_us = at_us
                return (Relay(),)
            case ReplyEnded(ending=ending, broke=broke):
                self._step(Step.ENDED)
                return self._settle(ending, then=(BreakOff() if broke else Release(),))
            case NoReply(at_us=at_us, error=error, sentence=sentence):
                self._step(Step.NO_REPLY)
                ending = Ending(
                    at_us=at_us,
                    error=error,
                    unbilled=error == "unreachable",
                    fault=Fault.PROVIDER,
                    finished=False,
                )
                return self._settle(ending, then=(Answer(code=error, sentence=sentence),))
            case CallerLeft(ending=ending):
                self._step(Step.CALLER_LEFT)
                return self._settle(ending, then=())
            case Recorded(at_us=at_us):
                return self._recorded(at_us)
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
        unsent = self.state in {State.RESERVING, State.BOOKING}
        untold = (self._decided(),) if self.state is State.RESERVING else ()
        self._step(Step.FAILED)
        ending = Ending(
            at_us=at_us, error="gateway-failed", unbilled=unsent, fault=Fault.GATEWAY, finished=False
        )
        return *untold, *self._ended(ending, durable=False)

    @property
    def upstream_us(self) -> int | None:
        """How long the call was the provider's, in microseconds; None where it was not sent."""
        if self._sent_us is None or self._ended_us is None:
            return None
        return self._ended_us - self._sent_us

    def _step(self, step: Step) -> None:
        self.state = TRANSITIONS[self.state, step]

    def _decided(self) -> Record:
        entry = decided_entry(self.plan, call_id=self.call_id, at_us=self.read_us)
        return Record(entry=entry, durable=False)

    def _refuse(self, refused: Refused, at_us: int, denied: Denied | None = None) -> tuple[Effect, ...]:
        refusal = refused.refusal
        self._last_effects = (
            Answer(code=refusal.code, sentence=refusal.sentence, denied=denied, at_us=at_us),
        )
        entry = refused_entry(call_id=self.call_id, at_us=at_us, error=refusal.code, prices=self._prices)
        return self._decided(), Record(entry=entry, durable=True)

    def _claimed(self, outcome: Outcome, at_us: int) -> tuple[Effect, ...]:
        """Go on as the budgets have it: the reservation is written down before the call leaves."""
        self._step(Step.DENIED if isinstance(outcome, Denied) else Step.GRANTED)
        assert self._asking is not None
        self.plan = granted(self._asking, outcome)
        if isinstance(outcome, Denied):
            assert isinstance(self.plan, Refused)
            return self._refuse(self.plan, at_us, outcome)
        accounts = tuple(account.key for account in self._asking.claim.accounts)
        entry = SetAside(
            call_id=self.call_id, at_us=at_us, accounts=accounts, reserved_nanos=outcome.amount_nanos
        )
        return self._decided(), Record(entry=entry, durable=True)

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
        return (*self._settled(entry), Record(entry=entry, durable=durable))

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
