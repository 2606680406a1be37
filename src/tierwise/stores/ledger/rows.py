"""Entries as rows of the table `entries`, and back."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from tierwise.core.ledger import (
    Acted,
    Audited,
    Batched,
    Checked,
    Decided,
    Declared,
    Entry,
    Failed,
    Graded,
    Outcome,
    Paired,
    Posted,
    SetAside,
    Settled,
    ToppedUp,
)
from tierwise.stores.ledger.query import Record
from tierwise.usage import Usage

Row: TypeAlias = tuple[Any, ...]
Columns: TypeAlias = tuple[str, ...]

PLAINLY_DECIDED: Final[Columns] = (
    "call_id", "kind", "at_us", "task_type", "declared", "task_id", "run_id", "agent", "key_id", "requested_model",
    "tier", "decided_model", "acts", "stream", "max_tokens_asked", "max_tokens_sent", "policy_version",
    "selection_probability", "reasons", "changes", "attempt",
)  # fmt: skip
DECIDED: Final[Columns] = (
    *PLAINLY_DECIDED, "unknown_type", "nearest_type", "purpose", "first_call_id", "batch_id", "custom_id",
)  # fmt: skip
"""Of a decision. Most have none of the last six, and are written without: to bind a NULL takes longer than a value."""
SET_ASIDE: Final[Columns] = (
    "call_id", "kind", "at_us", "reserved_nanos", "accounts", "prompt_bytes", "prompt_kind",
)  # fmt: skip
POSTED: Final[Columns] = (
    "call_id", "kind", "at_us", "served_model", "price_version", "until_sent_us", "until_first_byte_us", "until_end_us",
    "request_id", "input_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "cache_read_tokens",
    "output_tokens", "web_search_requests", "cost_nanos", "stop_reason", "thinking_tokens", "at_frontier_nanos",
    "as_asked_nanos", "as_decided_nanos",
)  # fmt: skip
FAILED: Final[Columns] = (*POSTED[:16], "at_least_nanos", "fault", "error", "status")
ITEM_POSTED: Final[Columns] = (*POSTED, "batch_id")
ITEM_FAILED: Final[Columns] = (*FAILED, "batch_id")
"""These two of an item of a Message Batch, once its result was fetched."""
SETTLED: Final[Columns] = ("call_id", "kind", "at_us", "cost_nanos", "basis", "note")
TOPPED_UP: Final[Columns] = ("call_id", "kind", "at_us", "account", "amount_nanos", "who", "why")
BATCHED: Final[Columns] = ("call_id", "kind", "at_us", "batch_id")
"""In these two, the call's place holds the entry's own id."""

AUDITED: Final[Columns] = ("call_id", "kind", "at_us", "data")
"""The call's place holds the id of the pair, the line, the act, the count or the outcome; `data` is the whole entry as
JSON."""

KINDS: Final[tuple[Columns, ...]] = (
    PLAINLY_DECIDED, DECIDED, SET_ASIDE, POSTED, FAILED, ITEM_POSTED, ITEM_FAILED, SETTLED, TOPPED_UP, BATCHED, AUDITED,
)  # fmt: skip
"""The columns of every kind of row, in the order in which the entries of one call come."""

ONCE: Final = (ITEM_POSTED, ITEM_FAILED, SETTLED, TOPPED_UP, AUDITED)
"""Of these the first of an id is kept, and another is ignored: whoever tells them may tell them again."""

_encode = msgspec.json.Encoder().encode
_NO_COUNTS: Final = (None,) * 6
_NOTHING_RARE: Final = (None,) * 6


def decided_row(entry: Decided) -> tuple[Columns, Row]:
    """The row of a decision, and which columns it has."""
    row = (
        entry.call_id, "decided", entry.at_us, entry.task_type, str(entry.declared), entry.task_id, entry.run_id,
        entry.agent, entry.key_id, entry.requested_model, entry.tier, entry.decided_model, int(entry.acts),
        int(entry.stream), entry.max_tokens_asked, entry.max_tokens_sent, entry.policy_version,
        entry.selection_probability, _encode(entry.reasons).decode(), _encode(entry.changes).decode(), entry.attempt,
    )  # fmt: skip
    rare = (
        entry.unknown_type, entry.nearest_type, entry.purpose, entry.first_call_id, entry.batch_id, entry.custom_id,
    )  # fmt: skip
    return (PLAINLY_DECIDED, row) if rare == _NOTHING_RARE else (DECIDED, (*row, *rare))


def set_aside_row(entry: SetAside) -> tuple[Columns, Row]:
    """The row of a reservation."""
    accounts = _encode(entry.accounts).decode()
    return SET_ASIDE, (
        entry.call_id, "set-aside", entry.at_us, entry.reserved_nanos, accounts, entry.prompt_bytes, entry.prompt_kind,
    )  # fmt: skip


def posted_row(entry: Posted) -> tuple[Columns, Row]:
    """The row of a call that ended, and which columns it has."""
    row = (
        *_ending("posted", entry), entry.stop_reason, entry.thinking_tokens, entry.at_frontier_nanos,
        entry.as_asked_nanos, entry.as_decided_nanos,
    )  # fmt: skip
    return (POSTED, row) if entry.batch_id is None else (ITEM_POSTED, (*row, entry.batch_id))


def failed_row(entry: Failed) -> tuple[Columns, Row]:
    """The row of a call that failed, and which columns it has."""
    row = (*_ending("failed", entry), entry.at_least_nanos, entry.fault, entry.error, entry.status)
    return (FAILED, row) if entry.batch_id is None else (ITEM_FAILED, (*row, entry.batch_id))


def _ending(kind: str, entry: Posted | Failed) -> Row:
    timings = entry.timings
    return (
        entry.call_id, kind, entry.at_us, entry.served_model, entry.price_version, timings.until_sent_us,
        timings.until_first_byte_us, timings.until_end_us, entry.request_id, *_counts(entry.usage), entry.cost_nanos,
    )  # fmt: skip


def settled_row(entry: Settled) -> tuple[Columns, Row]:
    """The row of a later settlement."""
    return SETTLED, (entry.call_id, "settled", entry.at_us, entry.cost_nanos, entry.basis, entry.note)


def topped_up_row(entry: ToppedUp) -> tuple[Columns, Row]:
    """The row of a top-up."""
    return TOPPED_UP, (
        entry.entry_id, "topped-up", entry.at_us, entry.account, entry.amount_nanos, entry.who, entry.why,
    )  # fmt: skip


def batched_row(entry: Batched) -> tuple[Columns, Row]:
    """The row of a Message Batch that the provider took."""
    return BATCHED, (entry.entry_id, "batched", entry.at_us, entry.batch_id)


def told(row: Record) -> Settled | ToppedUp:
    """The entry of a row that has the columns `SETTLED` and `TOPPED_UP`."""
    if row["kind"] == "settled":
        return Settled(
            call_id=row["call_id"],
            at_us=row["at_us"],
            cost_nanos=row["cost_nanos"],
            basis=row["basis"],
            note=row["note"],
        )
    return ToppedUp(
        entry_id=row["call_id"],
        at_us=row["at_us"],
        account=row["account"],
        amount_nanos=row["amount_nanos"],
        who=row["who"],
        why=row["why"],
    )


def audited_row(entry: Audited | Outcome) -> tuple[Columns, Row]:
    """The row of an audit's entry."""
    match entry:
        case Paired(pair_id=own_id):
            kind = "paired"
        case Graded(pair_id=own_id):
            kind = "graded"
        case Declared(line=own_id):
            kind = "declared"
        case Acted(act_id=own_id):
            kind = "acted"
        case Checked(checked_id=own_id):
            kind = "checked"
        case Outcome(outcome_id=own_id):
            kind = "outcome"
    return AUDITED, (own_id, kind, entry.at_us, _encode(entry).decode())


def audited(row: Record) -> Audited:
    """The entry of a row that has the columns `AUDITED`."""
    return _DECODERS[row["kind"]](row["data"])


_DECODERS: Final[Mapping[str, Callable[[str], Audited]]] = {
    "paired": msgspec.json.Decoder(Paired).decode,
    "graded": msgspec.json.Decoder(Graded).decode,
    "declared": msgspec.json.Decoder(Declared).decode,
    "acted": msgspec.json.Decoder(Acted).decode,
    "checked": msgspec.json.Decoder(Checked).decode,
}


def outcome(row: Record) -> Outcome:
    """The outcome of a row that has the columns `AUDITED`."""
    return _decode_outcome(row["data"])


_decode_outcome: Final = msgspec.json.Decoder(Outcome).decode


def sorted_rows(entries: Sequence[Entry]) -> tuple[tuple[Columns, list[Row]], ...]:
    """The rows of a batch, by kind of row, in the order of `KINDS`."""
    by_kind: dict[Columns, list[Row]] = {columns: [] for columns in KINDS}
    for entry in entries:
        columns, row = _ROWS[type(entry)](entry)
        by_kind[columns].append(row)
    return tuple(by_kind.items())


_ROWS: Final[Mapping[type[Entry], Callable[[Any], tuple[Columns, Row]]]] = {
    Decided: decided_row,
    SetAside: set_aside_row,
    Posted: posted_row,
    Failed: failed_row,
    Settled: settled_row,
    ToppedUp: topped_up_row,
    Batched: batched_row,
    Paired: audited_row,
    Graded: audited_row,
    Declared: audited_row,
    Acted: audited_row,
    Checked: audited_row,
    Outcome: audited_row,
}


def _counts(usage: Usage | None) -> Row:
    if usage is None:
        return _NO_COUNTS
    return (
        usage.input_tokens, usage.cache_write_5m_tokens, usage.cache_write_1h_tokens, usage.cache_read_tokens,
        usage.output_tokens, usage.web_search_requests,
    )  # fmt: skip
