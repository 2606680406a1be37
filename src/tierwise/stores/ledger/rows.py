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

DECIDED: Final[Columns] = (
    "call_id", "kind", "at_us", "task_type", "declared", "unknown_type", "nearest_type", "task_id", "run_id", "agent",
    "key_id", "requested_model", "tier", "decided_model", "acts", "stream", "max_tokens_asked", "max_tokens_sent",
    "policy_version", "selection_probability", "reasons", "changes", "purpose", "attempt", "first_call_id", "batch_id",
    "custom_id",
)  # fmt: skip
SET_ASIDE: Final[Columns] = (
    "call_id", "kind", "at_us", "reserved_nanos", "accounts", "prompt_bytes", "prompt_kind",
)  # fmt: skip
ENDING: Final[Columns] = (
    "call_id", "kind", "at_us", "served_model", "stop_reason", "input_tokens", "cache_write_5m_tokens",
    "cache_write_1h_tokens", "cache_read_tokens", "output_tokens", "web_search_requests", "thinking_tokens",
    "cost_nanos", "at_least_nanos", "price_version", "at_frontier_nanos", "as_asked_nanos", "as_decided_nanos",
    "until_sent_us", "until_first_byte_us", "until_end_us", "request_id", "fault", "error", "status",
)  # fmt: skip
ITEM_ENDING: Final[Columns] = (*ENDING, "batch_id")
"""Of an item of a Message Batch, once its result was fetched."""
SETTLED: Final[Columns] = ("call_id", "kind", "at_us", "cost_nanos", "basis", "note")
TOPPED_UP: Final[Columns] = ("call_id", "kind", "at_us", "account", "amount_nanos", "who", "why")
BATCHED: Final[Columns] = ("call_id", "kind", "at_us", "batch_id")
"""In these two, the call's place holds the entry's own id."""

AUDITED: Final[Columns] = ("call_id", "kind", "at_us", "data")
"""The call's place holds the id of the pair, the line, the act, the count or the outcome; `data` is the whole entry as
JSON."""

KINDS: Final[tuple[Columns, ...]] = (
    DECIDED, SET_ASIDE, ENDING, ITEM_ENDING, SETTLED, TOPPED_UP, BATCHED, AUDITED,
)  # fmt: skip
"""The columns of every kind of row."""

ONCE: Final = (ITEM_ENDING, SETTLED, TOPPED_UP, AUDITED)
"""Of these the first of an id is kept, and another is ignored: whoever tells them may tell them again."""

_encode = msgspec.json.Encoder().encode
_NO_COUNTS: Final = (None,) * 6


def decided_row(entry: Decided) -> Row:
    """The values of the columns `DECIDED`."""
    return (
        entry.call_id, "decided", entry.at_us, entry.task_type, entry.declared, entry.unknown_type, entry.nearest_type,
        entry.task_id, entry.run_id, entry.agent, entry.key_id, entry.requested_model, entry.tier, entry.decided_model,
        entry.acts, entry.stream, entry.max_tokens_asked, entry.max_tokens_sent, entry.policy_version,
        entry.selection_probability, _encode(entry.reasons).decode(), _encode(entry.changes).decode(), entry.purpose,
        entry.attempt, entry.first_call_id, entry.batch_id, entry.custom_id,
    )  # fmt: skip


def set_aside_row(entry: SetAside) -> Row:
    """The values of the columns `SET_ASIDE`."""
    accounts = _encode(entry.accounts).decode()
    return (
        entry.call_id, "set-aside", entry.at_us, entry.reserved_nanos, accounts, entry.prompt_bytes, entry.prompt_kind,
    )  # fmt: skip


def ending_row(entry: Posted | Failed) -> Row:
    """The values of the columns `ENDING`."""
    stop_reason = thinking_tokens = at_least_nanos = None
    baselines: Row = (None, None, None)
    failure: Row = (None, None, None)
    match entry:
        case Posted():
            kind, stop_reason, thinking_tokens = "posted", entry.stop_reason, entry.thinking_tokens
            baselines = (entry.at_frontier_nanos, entry.as_asked_nanos, entry.as_decided_nanos)
        case Failed():
            kind, at_least_nanos = "failed", entry.at_least_nanos
            failure = (entry.fault, entry.error, entry.status)
    timings = entry.timings
    return (
        entry.call_id, kind, entry.at_us, entry.served_model, stop_reason, *_counts(entry.usage),
        thinking_tokens, entry.cost_nanos, at_least_nanos, entry.price_version, *baselines,
        timings.until_sent_us, timings.until_first_byte_us, timings.until_end_us, entry.request_id, *failure,
    )  # fmt: skip


def item_ending_row(entry: Posted | Failed) -> Row:
    """The values of the columns `ITEM_ENDING`."""
    return (*ending_row(entry), entry.batch_id)


def settled_row(entry: Settled) -> Row:
    """The values of the columns `SETTLED`."""
    return (entry.call_id, "settled", entry.at_us, entry.cost_nanos, entry.basis, entry.note)


def topped_up_row(entry: ToppedUp) -> Row:
    """The values of the columns `TOPPED_UP`."""
    return (
        entry.entry_id, "topped-up", entry.at_us, entry.account, entry.amount_nanos, entry.who, entry.why,
    )  # fmt: skip


def batched_row(entry: Batched) -> Row:
    """The values of the columns `BATCHED`."""
    return (entry.entry_id, "batched", entry.at_us, entry.batch_id)


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


def audited_row(entry: Audited | Outcome) -> Row:
    """The values of the columns `AUDITED`."""
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
    return (own_id, kind, entry.at_us, _encode(entry).decode())


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
    """The rows of a batch, by kind of row, in the order in which the entries of one call come."""
    by_kind: dict[Columns, list[Row]] = {columns: [] for columns in KINDS}
    for entry in entries:
        columns, row = _ROWS[type(entry)]
        if isinstance(entry, Posted | Failed) and entry.batch_id is not None:
            by_kind[ITEM_ENDING].append(item_ending_row(entry))
        else:
            by_kind[columns].append(row(entry))
    return tuple(by_kind.items())


_ROWS: Final[Mapping[type[Entry], tuple[Columns, Callable[[Any], Row]]]] = {
    Decided: (DECIDED, decided_row),
    SetAside: (SET_ASIDE, set_aside_row),
    Posted: (ENDING, ending_row),
    Failed: (ENDING, ending_row),
    Settled: (SETTLED, settled_row),
    ToppedUp: (TOPPED_UP, topped_up_row),
    Batched: (BATCHED, batched_row),
    Paired: (AUDITED, audited_row),
    Graded: (AUDITED, audited_row),
    Declared: (AUDITED, audited_row),
    Acted: (AUDITED, audited_row),
    Checked: (AUDITED, audited_row),
    Outcome: (AUDITED, audited_row),
}


def _counts(usage: Usage | None) -> Row:
    if usage is None:
        return _NO_COUNTS
    return (
        usage.input_tokens, usage.cache_write_5m_tokens, usage.cache_write_1h_tokens, usage.cache_read_tokens,
        usage.output_tokens, usage.web_search_requests,
    )  # fmt: skip
