"""Retention: old calls' entries are deleted, and what they add up to stays.

A call is deleted whole, when every entry of it is older than a day's beginning and nothing can be told of it any more:
its cost is known, or it has neither an ending nor a reservation, so that it was lost with its gateway. A call of
unknown cost stays until it is settled, and an item of a Message Batch for as long as its result may still come. Top-ups
stay, and so do the audit's evidence and the provider's ids of batches; outcomes go when they are as old. Reports,
balances and the laws of `verification` hold the same before and after, but a deleted call's report is by whole days,
and nothing explains it.
"""

# ruff: noqa: S608 — the texts are of our own making, and values are parameters

from dataclasses import dataclass
from typing import Final

from tierwise.stores.ledger import summary
from tierwise.stores.ledger.batches import ITEMS_FOR_S
from tierwise.stores.ledger.folds import OF_PRUNED
from tierwise.stores.ledger.query import Reader, Writer

BATCH: Final = 500
"""Calls that one transaction deletes: a gateway's entries wait for it."""

_DAY_US: Final = 86_400_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What was deleted."""

    before_us: int
    """The beginning of the day up to which it was, in microseconds since 1970 UTC."""
    calls: int
    entries: int


def prune(ledger: Writer, before_us: int, *, batch: int = BATCH) -> Pruned:
    """Delete the entries of calls that are closed and older than a time.

    A gateway may go on writing meanwhile; the work is done in short transactions, and may be repeated.

    Args:
        ledger: to prune.
        before_us: in microseconds since 1970 UTC, rounded down to the beginning of its day; a call that is in flight
            and not under a budget must not be older, unless it is an item of a batch, whose result may come for
            `ITEMS_FOR_S`.
        batch: how many calls one transaction deletes.

    Raises:
        LedgerUnavailable: the ledger cannot be written; what was deleted before stays deleted.
    """
    before_us = before_us // _DAY_US * _DAY_US
    summary.summarize(ledger)
    calls = entries = 0
    reached: tuple[int, int] | None = (-1, 0)
    while reached is not None:
        reached, some_calls, some_entries = _prune_batch(ledger, before_us, reached, batch)
        calls += some_calls
        entries += some_entries
    entries += _prune_outcomes(ledger, before_us)
    summary.drop_empty(ledger)
    return Pruned(before_us=before_us, calls=calls, entries=entries)


def closed_before(ledger: Reader, before_us: int) -> int:
    """Return how many calls `prune` would delete."""
    before_us = before_us // _DAY_US * _DAY_US
    query = f"SELECT count(*) AS calls FROM ({_closed(ledger)}) AS closed"
    with ledger.snapshot():
        (row,) = ledger.rows(query, (before_us, -1, 0, before_us, summary.end(ledger), before_us))
    return row["calls"]


def _prune_batch(
    ledger: Writer, before_us: int, after: tuple[int, int], batch: int
) -> tuple[tuple[int, int] | None, int, int]:
    """Delete the next calls; return where the batch ended, None at the end, and how many calls and entries it had."""
    column = ledger.dialect.position
    with ledger.transaction():
        summary.summarize(ledger)
        query = f"{_closed(ledger)} ORDER BY d.at_us, d.{column} LIMIT ?"
        found = list(
            ledger.rows(query, (before_us, *after, before_us, summary.end(ledger), before_us, batch))
        )
        if not found:
            return None, 0, 0
        for row in found:
            ledger.run("INSERT INTO pruning (call_id) VALUES (?)", (row["call_id"],))
        summary.set_apart(ledger, OF_PRUNED)
        entries = ledger.run("DELETE FROM entries WHERE call_id IN (SELECT call_id FROM pruning)")
        ledger.run("DELETE FROM pruning")
    return (found[-1]["at_us"], found[-1]["position"]), len(found), entries


def _prune_outcomes(ledger: Writer, before_us: int) -> int:
    """Delete the outcomes that were told before a time; return how many there were. They add nothing to any sum."""
    with ledger.transaction():
        ledger.run(
            f"INSERT INTO pruning (call_id) SELECT call_id FROM entries "
            f"WHERE kind = 'outcome' AND at_us < ? AND {ledger.dialect.position} <> ?",
            (before_us, summary.end(ledger)),
        )
        outcomes = ledger.run(
            "DELETE FROM entries WHERE kind = 'outcome' AND call_id IN (SELECT call_id FROM pruning)"
        )
        ledger.run("DELETE FROM pruning")
    return outcomes


def _closed(ledger: Reader) -> str:
    return _CLOSED.format(position=ledger.dialect.position, items_for_us=ITEMS_FOR_S * 1_000_000)


_CLOSED: Final = """
SELECT d.call_id, d.at_us, d.{position} AS position FROM entries AS d
WHERE d.kind = 'decided' AND d.at_us < ? AND (d.at_us, d.{position}) > (?, ?)
AND NOT EXISTS (
    SELECT 1 FROM entries AS n WHERE n.call_id = d.call_id AND (n.at_us >= ? OR n.{position} = ?)
)
AND (
    EXISTS (
        SELECT 1 FROM entries AS k
        WHERE k.call_id = d.call_id AND k.kind IN ('posted', 'failed', 'settled') AND k.cost_nanos IS NOT NULL
    )
    OR NOT EXISTS (
        SELECT 1 FROM entries AS o WHERE o.call_id = d.call_id AND o.kind IN ('set-aside', 'posted', 'failed')
    )
    AND NOT EXISTS (
        SELECT 1 FROM entries AS b
        WHERE b.call_id = d.batch_id AND b.kind = 'batched' AND d.at_us + {items_for_us} > ?
    )
)
"""
"""The last entry's call stays: SQLite gives a position again when no greater one is left."""
