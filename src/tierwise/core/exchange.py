"""One call as a machine: events in, effects out. It does no I/O; a driver performs its effects.

    READ ──sent──▶ SENT ──began──▶ STREAMING ──ended──▶ SETTLING ──recorded──▶ DONE
     │              ├──no reply────────│──────────────────▲
     │              └──caller left─────┴──caller left─────┤
     └──refused───────────────────────────────────────────┘

A driver performs the effects of `begin()` in order and gives back the event that an effect leads to, until the
machine is done. Body bytes go past the machine, from the provider to the caller; only usage and endings are
events. Two rules hold on every path:

1. The entry of the decision is handed to the ledger before `Send`. A budget's reservation has its place there:
   between READ and SENT, durable before the call leaves.
2. The entry of the ending is durable before `Release`, which lets the reply's final chunk go.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, TypeAlias, assert_never

from tierwise.core.changes import Change
from tierwise.core.ledger import Entry, Fault, Timings
from tierwise.core.planning import Plan, Refused
from tierwise.core.pricing import PriceBook
from tierwise.core.settlement import Ending, decided_entry, ending_entry, refused_entry


class State(StrEnum):
    """Where a call is in its life."""

    READ = "read"
    SENT = "sent"
    STREAMING = "streaming"
    SETTLING = "settling"
    DONE = "done"


class Step(StrEnum):
    """What moves a call on."""

    SENT = "sent"
    REFUSED = "refused"
    BEGAN = "began"
    ENDED = "ended"
    NO_REPLY = "no reply"
    CALLER_LEFT = "caller left"
    RECORDED = "recorded"


TRANSITIONS: Final[Mapping[tuple[State, Step], State]] = {
    (State.READ, Step.SENT): State.SENT,
    (State.READ, Step.REFUSED): State.SETTLING,
    (State.SENT, Step.BEGAN): State.STREAMING,
    (State.SENT, Step.NO_REPLY): State.SETTLING,
    (State.SENT, Step.CALLER_LEFT): State.SETTLING,
    (State.STREAMING, Step.ENDED): State.SETTLING,  # finished or broken: the ending says which
    (State.STREAMING, Step.CALLER_LEFT): State.SETTLING,
    (State.SETTLING, Step.RECORDED): State.DONE,
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
class Recorded:
    """The entry of the ending is in the ledger."""


Event: TypeAlias = ReplyBegan | ReplyEnded | NoReply | CallerLeft | Recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Hand an entry to the ledger; where it must be durable, wait for that and answer `Recorded`."""

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
class BreakOff:
    """Break off the reply, as the provider did: the caller must not take it for a whole one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Answer the caller with an error of ours."""

    code: Literal["unknown-task-type", "ineligible", "thread", "unreachable", "dropped", "timeout"]
    sentence: str


Effect: TypeAlias = Record | Send | Relay | Release | BreakOff | Answer


class Exchange:
    """The machine of one call."""

    __slots__ = (
        "_began_us",
        "_call_id",
        "_ended_us",
        "_last_effects",
        "_plan",
        "_prices",
        "_sent_us",
        "read_us",
        "state",
    )

    def __init__(self, plan: Plan | Refused, *, prices: PriceBook, call_id: str, read_us: int) -> None:
        """Begin with what was planned for a call that was read at `read_us`."""
        self.state = State.READ
        self._plan = plan
        self._prices = prices
        self._call_id = call_id
        self.read_us = read_us
        self._sent_us: int | None = None
        self._began_us: int | None = None
        self._ended_us: int | None = None
        self._last_effects: tuple[Effect, ...] = ()

    def begin(self, at_us: int) -> tuple[Effect, ...]:
        """Return the first effects: the decision's entry, then the call itself or a refusal."""
        decided = Record(
            entry=decided_entry(self._plan, call_id=self._call_id, at_us=self.read_us), durable=False
        )
        match self._plan:
            case Plan(changes=changes):
                self._step(Step.SENT)
                self._sent_us = at_us
                return decided, Send(changes=changes)
            case Refused(refusal=refusal):
                self._step(Step.REFUSED)
                self._last_effects = (Answer(code=refusal.code, sentence=refusal.sentence),)
                refused = refused_entry(
                    call_id=self._call_id, at_us=at_us, error=refusal.code, prices=self._prices
                )
                return decided, Record(entry=refused, durable=True)
            case other:
                assert_never(other)

    def receive(self, event: Event) -> tuple[Effect, ...]:
        """Take what happened and return what to do about it.

        Raises:
            KeyError: the event cannot happen in this state.
        """
        match event:
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
            case Recorded():
                self._step(Step.RECORDED)
                return self._last_effects
            case other:
                assert_never(other)

    @property
    def upstream_us(self) -> int | None:
        """How long the call was the provider's, in microseconds; None where it was not sent."""
        if self._sent_us is None or self._ended_us is None:
            return None
        return self._ended_us - self._sent_us

    def _step(self, step: Step) -> None:
        self.state = TRANSITIONS[self.state, step]

    def _settle(self, ending: Ending, *, then: tuple[Effect, ...]) -> tuple[Effect, ...]:
        assert isinstance(self._plan, Plan)
        self._last_effects = then
        self._ended_us = ending.at_us
        entry = ending_entry(
            ending,
            plan=self._plan,
            prices=self._prices,
            call_id=self._call_id,
            timings=self._timings(ending.at_us),
        )
        return (Record(entry=entry, durable=True),)

    def _timings(self, ended_us: int) -> Timings:
        assert self._sent_us is not None
        return Timings(
            until_sent_us=self._sent_us - self.read_us,
            until_first_byte_us=None if self._began_us is None else self._began_us - self._sent_us,
            until_end_us=None if self._began_us is None else ended_us - self._began_us,
        )
