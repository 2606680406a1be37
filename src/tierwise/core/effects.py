"""Events and effects: the words between the machine of a call and the drivers that perform it."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from tierwise.core.attempts import TryAgain
from tierwise.core.budgets import Claim, Denied, Outcome
from tierwise.core.changes import Change
from tierwise.core.ledger import Entry
from tierwise.core.settlement import Ending
from tierwise.money import Nanos
from tierwise.values import value


@value
class ReplyBegan:
    """The provider's status and headers are here."""

    at_us: int
    status: int = 200
    should_retry: bool | None = None
    """The provider's own word on another try; None where it has none."""
    wait_us: int | None = None
    """How long the provider asks to wait; None where it does not say."""


@value
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


@value
class Claimed:
    """The budgets answered the call's claim."""

    outcome: Outcome
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The provider counted the prompt."""

    tokens: int | None
    """None where it could not."""
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited:
    """Money may have come back, or the time is over."""


@value
class Recorded:
    """The entry that had to be durable is."""

    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NotRecorded:
    """The entry that had to be durable is not, in the time that a driver waits; the ledger goes on trying."""

    at_us: int


Event: TypeAlias = (
    Claimed | Counted | Waited | ReplyBegan | ReplyEnded | NoReply | CallerLeft | Recorded | NotRecorded
)


@value
class Reserve:
    """Ask the budgets, all accounts in one step; answer `Claimed`, or `CallerLeft`."""

    claim: Claim


@dataclass(frozen=True, slots=True, kw_only=True)
class CountPrompt:
    """Have the provider count the prompt of the body, changed so; answer `Counted`, or `CallerLeft`."""

    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitMoney:
    """Wait until money may have come back, or until a time; answer `Waited`, or `CallerLeft`."""

    until_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepTier:
    """Its conversation is on another tier than was decided first, and stays there."""

    tier: str


@value
class Record:
    """Hand an entry to the ledger. A durable one is waited for: answer `Recorded`, `NotRecorded` or `CallerLeft`."""

    entry: Entry
    durable: bool


@value
class Send:
    """Send the body, changed so; answer `ReplyBegan`, `NoReply` or `CallerLeft`."""

    changes: tuple[Change, ...]


@value
class Relay:
    """Let the reply's bytes past, up to its final chunk; answer `ReplyEnded` or `CallerLeft`."""

    aside: bool = False
    """Whether the caller is handed nothing of it: it is an error, and the call is tried again."""
    last: bool = False
    """Whether the caller is told not to try again, for that was done."""


@value
class Release:
    """Let the final chunk go."""


@value
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
        "budget-store",
        "unpriced",
        "too-dear",
        "not-supported",
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
    last: bool = False
    """Whether the caller is told not to try again, for that was done."""


Effect: TypeAlias = (
    Reserve
    | CountPrompt
    | AwaitMoney
    | KeepTier
    | Record
    | Send
    | Relay
    | Settle
    | Release
    | BreakOff
    | Answer
    | TryAgain
)
