"""Reservations as the ledger tells them: what each account holds, and which calls' costs are still to be known.

A call without an ending, and one whose cost is unknown, have their reservation pending. Balances hold the law
`reserved + overrun == pending + posted + released` for each account.
"""

# ruff: noqa: S608 — the texts are of our own making, and values are parameters

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import msgspec

from tierwise.core.budgets import Balance, OpenReservation, Past
from tierwise.core.ledger import Settled, ToppedUp
from tierwise.money import Nanos
from tierwise.stores.ledger import folds, summary
from tierwise.stores.ledger.folds import AMOUNTS
from tierwise.stores.ledger.query import Reader, Record
from tierwise.stores.ledger.rows import SETTLED, TOPPED_UP, told


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountTotals:
    """What an account's reservations come to."""

    key: str
    reservations: int
    reserved_nanos: Nanos
    pending_nanos: Nanos
    posted_nanos: Nanos
    released_nanos: Nanos
    overrun_nanos: Nanos
    topped_up_nanos: Nanos = 0


def ledger_id(ledger: Reader) -> str:
    """Return the name that a ledger got when it was made: no other has it, wherever it is."""
    (row,) = ledger.rows("SELECT id FROM ledger")
    return row["id"]


def account_totals(ledger: Reader) -> tuple[AccountTotals, ...]:
    """Return what each account's reservations come to, by key."""
    rows = _balances(ledger)
    return tuple(AccountTotals(key=row["account"], **{name: row[name] for name in AMOUNTS}) for row in rows)


def balances(ledger: Reader) -> dict[str, Balance]:
    """Return what each account holds, by its key: what a gateway's budgets begin with."""
    return {row["account"]: Balance(**{name: row[name] for name in _BALANCE}) for row in _balances(ledger)}


def open_reservations(ledger: Reader) -> list[OpenReservation]:
    """Return the reservations of calls whose cost is not known, oldest first."""
    return [_open(row) for row in _open_rows(ledger)]


def overdue(ledger: Reader, before_us: int, *, items_before_us: int | None = None) -> list[OpenReservation]:
    """Return those of them that were set aside before a time, in microseconds since 1970 UTC.

    Args:
        ledger: to read.
        before_us: the time.
        items_before_us: the same for items of a Message Batch that the provider took, whose results may come late;
            None makes no difference between them and other calls.
    """
    of_items = before_us if items_before_us is None else items_before_us
    return [
        _open(row) for row in _open_rows(ledger) if row["at_us"] < (of_items if row["batches"] else before_us)
    ]


def told_since(ledger: Reader, position: int) -> tuple[int, list[Settled | ToppedUp]]:
    """Return what was told of costs and limits after a position, in the order in which it became durable.

    Args:
        ledger: to read.
        position: as this function returns it, or `summary.end`.

    Returns:
        The position of the last of them, to ask after next, and the entries.
    """
    column = ledger.dialect.position
    rows = list(ledger.rows(_TOLD.format(position=column), (position,)))
    return max((row["position"] for row in rows), default=position), [told(row) for row in rows]


def endings(ledger: Reader, call_ids: Iterable[str]) -> dict[str, Nanos | None]:
    """Return the costs of those calls that have ended or were settled; None where a cost is not known."""
    costs: dict[str, Nanos | None] = {}
    remaining = iter(call_ids)
    while some := tuple(islice(remaining, _AT_ONCE)):
        for row in ledger.rows(_ENDINGS.format(places=", ".join("?" * len(some))), some):
            costs[row["call_id"]] = row["cost_nanos"]
    return costs


def past(ledger: Reader) -> Iterator[Past]:
    """Yield every reservation that is in the ledger, oldest first."""
    for row in ledger.rows(_PAST.format(position=ledger.dialect.position)):
        yield Past(
            call_id=row["call_id"],
            accounts=_decode(row["accounts"]),
            amount_nanos=row["reserved_nanos"],
            cost_nanos=row["cost_nanos"],
        )


_BALANCE: Final = tuple(name for name in AMOUNTS if name != "reservations")

_AT_ONCE: Final = 500
"""Calls that one query asks for."""

_decode: Final = msgspec.json.Decoder(tuple[str, ...]).decode


def _balances(ledger: Reader) -> Sequence[Record]:
    with ledger.snapshot():
        tail = folds.balances(ledger.dialect, folds.between(ledger.dialect))
        columns = ", ".join(AMOUNTS)
        query = (
            f"SELECT account, {folds.summed(AMOUNTS)} FROM ("
            f"SELECT account, {columns} FROM balances UNION ALL SELECT account, {columns} FROM ({tail}) AS tail"
            ") AS parts GROUP BY account ORDER BY account"
        )
        return list(ledger.rows(query, (summary.position(ledger), summary.end(ledger))))


def _open_rows(ledger: Reader) -> Sequence[Record]:
    with ledger.snapshot():
        query = _OPEN.format(position=ledger.dialect.position)
        return list(ledger.rows(query, (summary.position(ledger),)))


def _open(row: Record) -> OpenReservation:
    return OpenReservation(
        call_id=row["call_id"],
        accounts=_decode(row["accounts"]),
        amount_nanos=row["reserved_nanos"],
        at_us=row["at_us"],
        ended=row["endings"] > 0,
    )


_OPEN: Final = """
SELECT r.call_id, r.accounts, r.reserved_nanos, r.at_us, (
    SELECT count(*) FROM entries AS e WHERE e.call_id = r.call_id AND e.kind IN ('posted', 'failed')
) AS endings, (
    SELECT count(*) FROM entries AS d JOIN entries AS b ON b.call_id = d.batch_id AND b.kind = 'batched'
    WHERE d.call_id = r.call_id AND d.kind = 'decided'
) AS batches
FROM (
    SELECT call_id FROM open_reservations
    UNION
    SELECT call_id FROM entries WHERE {position} > ? AND kind = 'set-aside'
) AS candidate
JOIN entries AS r ON r.call_id = candidate.call_id AND r.kind = 'set-aside'
WHERE NOT EXISTS (
    SELECT 1 FROM entries AS k
    WHERE k.call_id = r.call_id AND k.kind IN ('posted', 'failed', 'settled') AND k.cost_nanos IS NOT NULL
)
ORDER BY r.{position}
"""

_TOLD_COLUMNS: Final = ", ".join(dict.fromkeys((*SETTLED, *TOPPED_UP)))

_TOLD: Final = f"""
SELECT {{position}} AS position, {_TOLD_COLUMNS}
FROM entries WHERE kind IN ('settled', 'topped-up') AND {{position}} > ? ORDER BY {{position}}
"""

_ENDINGS: Final = """
SELECT call_id, max(cost_nanos) AS cost_nanos FROM entries
WHERE call_id IN ({places}) AND kind IN ('posted', 'failed', 'settled') GROUP BY call_id
"""

_PAST: Final = """
SELECT r.call_id, r.accounts, r.reserved_nanos, coalesce(e.cost_nanos, s.cost_nanos) AS cost_nanos
FROM entries AS r
LEFT JOIN entries AS e ON e.call_id = r.call_id AND e.kind IN ('posted', 'failed')
LEFT JOIN entries AS s ON s.call_id = r.call_id AND s.kind = 'settled'
WHERE r.kind = 'set-aside' ORDER BY r.{position}
"""
