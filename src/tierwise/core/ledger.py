"""Entries: what the ledger knows of a call. Immutable events of a kind; a balance is a fold over them.

A call has one `Decided` and one ending: `Posted` where the provider says what it consumed, `Failed` where
there is no reply or its usage is unknown. Between them, a call under a budget has one `SetAside`: the reservation,
which its ending settles, voids where nothing is billed, and keeps where the cost is unknown. What a call of unknown
cost came to is told later, once, by a `Settled`. Others are no call's: a `ToppedUp` raises the limit of an account, a
`Batched` tells under which id the provider knows a Message Batch, whose items are calls, a `Paired`, a `Graded` and a
`Declared` are the audit's evidence, and an `Outcome` is what somebody tells of a task or a run. An `Acted` says what
came of a verdict, and a `Checked` counts replies that passed their check.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, TypeAlias

from tierwise.money import Nanos
from tierwise.usage import Usage
from tierwise.values import value


@value
class Decided:
    """What was asked, what was decided, and why: written before the call leaves."""

    call_id: str
    at_us: int
    """Microseconds since 1970 UTC, when the request was read."""
    task_type: str | None
    """Name of the contract that applied; None for an undeclared call."""
    declared: str
    """How the type was declared: model, header, match, undeclared."""
    unknown_type: str | None
    """The declared name, where the policy does not know it."""
    nearest_type: str | None
    """The known name that was probably meant by it."""
    task_id: str | None
    run_id: str | None
    agent: str | None
    key_id: str | None
    """Names the caller's credential, without telling it; None where that was not looked at."""
    requested_model: str
    """As the caller wrote it, virtual names included."""
    tier: str | None
    """The tier that was decided; None where there was none to decide, or the call was refused."""
    decided_model: str | None
    """The model that was decided; None where the call was refused."""
    acts: bool
    """False where the call was sent as asked, whatever was decided."""
    stream: bool
    max_tokens_asked: int
    max_tokens_sent: int | None
    """The cap that went on the wire; None where nothing was sent."""
    policy_version: str
    selection_probability: float
    reasons: tuple[str, ...]
    """One sentence a reason."""
    changes: tuple[str, ...]
    """What fitting changed in the body, one short line each."""
    purpose: str | None = None
    """Whose wish it was: `audit` where the audit made the call; None for a caller's own."""
    attempt: int = 1
    """Counts the calls that were made for one request, from 1: a retry is a call of its own."""
    first_call_id: str | None = None
    """The call that this one is another attempt of, or a comparison with; None for a first one."""
    batch_id: str | None = None
    """The gateway's own id of the Message Batch that it was an item of; `Batched` tells the provider's."""
    custom_id: str | None = None
    """The caller's own id of the item."""


@value
class SetAside:
    """A call's worst case, set aside on its accounts: durable before the call leaves."""

    call_id: str
    at_us: int
    accounts: tuple[str, ...]
    """Keys of the accounts."""
    reserved_nanos: Nanos
    """On each account; one that counts calls holds 1."""
    prompt_bytes: int | None = None
    """Length of the body, where the prompt's tokens were bounded by it; None where by something else."""
    prompt_kind: str | None = None
    """Kind of its text, which goes with how many bytes a token has: `ascii` or `unicode`."""


@value
class Timings:
    """Where a call's time went, in microseconds."""

    until_sent_us: int | None
    """From the request's last byte to the upstream call: the gateway's own work before it."""
    until_first_byte_us: int | None
    """From the upstream call to the reply's first byte."""
    until_end_us: int | None
    """From the reply's first byte to its last."""


NO_TIMINGS: Final = Timings(until_sent_us=None, until_first_byte_us=None, until_end_us=None)
"""Of a call that was never sent."""


@value
class Posted:
    """What a finished call consumed and what that costs."""

    call_id: str
    at_us: int
    served_model: str
    """As the reply names it."""
    stop_reason: str | None
    usage: Usage
    """All parts of the reply together."""
    thinking_tokens: int | None
    cost_nanos: Nanos | None
    """None where a model that took part has no price, or the provider does not say whether it bills."""
    price_version: str
    at_frontier_nanos: Nanos | None
    """The same tokens at the frontier tier's model: a naive baseline, it assumes equal lengths. This one and the
    next two are None where that model has no price, or the provider does not say whether it bills."""
    as_asked_nanos: Nanos | None
    """The same tokens at the model that the caller asked for; the call's own cost where it asked for none."""
    as_decided_nanos: Nanos | None
    """The same tokens at the decided model: differs from the cost where the policy only observes."""
    timings: Timings
    request_id: str | None
    """The provider's own id of the call."""
    batch_id: str | None = None
    """The provider's id of the Message Batch whose results told it. Of an item, the first ending counts: results may
    be fetched again."""


class Fault(StrEnum):
    """Whose doing it was that a call has no finished reply."""

    CALLER = "caller"
    PROVIDER = "provider"
    GATEWAY = "gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """How a call ended that has no finished reply, and what is known of its cost."""

    call_id: str
    at_us: int
    fault: Fault
    error: str
    """The error's type: the provider's word where it sent one (`overloaded_error`), else ours
    (`caller-left`, `gateway-stopped`, `stream-broke`, `no-usage`, `unreachable`, `dropped`, `timeout`, `repeated` for
    a batch whose making was answered with an earlier one, or a refusal's code)."""
    status: int | None
    """HTTP status of the provider's reply; None where there was none."""
    served_model: str | None
    usage: Usage | None
    """What the provider had counted by then; None where it had not said."""
    cost_nanos: Nanos | None
    """Zero where nothing is billed; None where that is unknown."""
    at_least_nanos: Nanos | None
    """Lower bound of an unknown cost: what the provider had counted by then."""
    price_version: str
    timings: Timings
    request_id: str | None
    batch_id: str | None = None
    """As in `Posted`."""


Basis: TypeAlias = Literal["reconciled", "assumed"]
"""reconciled: the provider's own report says it. assumed: nobody could say it in time, and the worst case is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What a call of unknown cost came to, told after its end: it posts or voids the kept reservation."""

    call_id: str
    at_us: int
    cost_nanos: Nanos
    basis: Basis
    note: str
    """Where the amount is from, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToppedUp:
    """An account's limit was raised by an amount, by somebody, for a reason."""

    entry_id: str
    """Names the entry itself: it is taken in once, however often it is read."""
    at_us: int
    account: str
    """The account's key."""
    amount_nanos: Nanos
    """In the account's unit, like its limit."""
    who: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Batched:
    """The provider took a Message Batch, and gave it an id: durable before the caller is told of it."""

    entry_id: str
    """The gateway's own id of the batch, as its items' decisions have it."""
    at_us: int
    batch_id: str
    """The provider's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """One task was done by two tiers: what the audit keeps of it. It outlives both calls' own entries."""

    pair_id: str
    """Names the entry itself."""
    at_us: int
    call_id: str
    """The caller's call."""
    shadow_call_id: str
    """The audit's own call on the other tier."""
    task_type: str
    line: str
    """Id of the line of evidence."""
    line_parts: tuple[tuple[str, str | int | None], ...]
    """What the line's id is made of, in order."""
    on_dear: bool
    """Whether the caller's call was on the dearer tier."""
    difference: int | None
    """The cheaper tier's quality minus the dearer one's: -1, 0 or 1; None where nobody can say yet."""
    how: str
    """How that was found: `equal`, `check`, `failure`; `differs`, or `unchecked` by its check, where it was not."""
    probability: float
    """With which probability a cluster like its own gave a pair."""
    cluster: str
    """Names the run or conversation, without telling it."""
    dear_nanos: Nanos | None
    """What the call cost on the dearer tier; None where that is unknown."""
    cheap_nanos: Nanos | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """The outcome of a pair that was undecided: the first that is told counts."""

    pair_id: str
    at_us: int
    difference: int
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A line of evidence was proven: its evidence is frozen at this value for good."""

    line: str
    at_us: int
    log_e: float
    """The natural logarithm of its e-value then."""
    pairs: int
    """How many pairs it had then."""


class Act(StrEnum):
    """What came of a verdict."""

    APPLIED = "applied"
    """Somebody had the policy file changed."""
    MOVED = "moved"
    """The autopilot sends a part of a type's runs and conversations to another tier."""
    REVERTED = "reverted"
    """The autopilot sends no more of them there."""
    ALARMED = "alarmed"
    """A claim that was true seems not to be any more: its line of evidence is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acted:
    """One act that followed from a verdict: of the autopilot, of a detector, or of somebody at the policy file."""

    act_id: str
    """Names the entry itself. An act of the autopilot is named by its line and its number there, so that of two
    gateways that come to the same, one is recorded."""
    at_us: int
    act: Act
    task_type: str
    line: str
    """Id of the line of evidence that it rests on."""
    verdict: str
    """Of that line, then."""
    from_tier: str
    to_tier: str
    share: float | None
    """The part of the type's runs and conversations that goes to the cheaper of the two from now on, from 0 to 1; None
    where the policy itself says where they go."""
    who: str
    """`autopilot`, `detector`, or whoever had the policy changed."""
    why: str
    """The evidence, in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Replies on the cheaper tier of a line that were held against the type's check: how many passed."""

    checked_id: str
    """Names the entry itself."""
    at_us: int
    """When the last of them was."""
    task_type: str
    line: str
    """Id of the line of evidence."""
    passed: int
    failed: int


Audited: TypeAlias = Paired | Graded | Declared | Acted | Checked
"""What the audit tells the ledger, beside the entries of its calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a task or a run came out, as somebody tells it: of one task or run the latest counts."""

    outcome_id: str
    """Names the entry itself: it is taken in once, however often it is told."""
    at_us: int
    run_id: str | None
    """The run that it is about, or that its task belongs to; None: the task's name is enough."""
    task_id: str | None
    """The task that it is about; None: it is about the run."""
    quality: float
    """From 0, failed, to 1, succeeded."""
    key_id: str | None
    """Whose calls alone it may be about; None: anybody's."""


Entry: TypeAlias = Decided | SetAside | Posted | Failed | Settled | ToppedUp | Batched | Audited | Outcome
"""What the ledger is told."""
