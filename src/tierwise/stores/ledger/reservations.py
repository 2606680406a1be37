"""Reservations as the ledger tells them: what was set aside for a call, and what its ending says that it cost.

A call without an ending, and one whose cost is unknown, have their reservation pending. Balances are a fold over
these, and hold the law `reserved + overrun == pending + posted + released` for each account.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from tierwise.core.budgets import Past
from tierwise.money import Nanos


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


def past(ledger: sqlite3.Connection) -> Iterator[Past]:
    """Yield every reservation, oldest first; `ledger` is as `read_ledger` opens it."""
    for call_id, accounts, amount, cost in ledger.execute(f"{_RESERVATIONS} ORDER BY r.seq"):
        yield Past(call_id=call_id, accounts=_decode(accounts), amount_nanos=amount, cost_nanos=cost)


def account_totals(ledger: sqlite3.Connection) -> tuple[AccountTotals, ...]:
    """Fold the reservations of each account, by key; `ledger` is as `read_ledger` opens it."""
    rows = ledger.execute(_TOTALS).fetchall()
    return tuple(
        AccountTotals(**{name: row[name] for name in AccountTotals.__dataclass_fields__}) for row in rows
    )


_decode = msgspec.json.Decoder(tuple[str, ...]).decode

_RESERVATIONS: Final = """
SELECT r.call_id, r.accounts, r.reserved_nanos, e.cost_nanos
FROM entries AS r
LEFT JOIN entries AS e ON e.call_id = r.call_id AND e.kind IN ('posted', 'failed')
WHERE r.kind = 'set-aside'
"""

_TOTALS: Final = f"""
SELECT
    account.value AS key,
    count(*) AS reservations,
    sum(reserved_nanos) AS reserved_nanos,
    coalesce(sum(reserved_nanos) FILTER (WHERE cost_nanos IS NULL), 0) AS pending_nanos,
    coalesce(sum(cost_nanos), 0) AS posted_nanos,
    coalesce(sum(max(0, reserved_nanos - cost_nanos)), 0) AS released_nanos,
    coalesce(sum(max(0, cost_nanos - reserved_nanos)), 0) AS overrun_nanos
FROM ({_RESERVATIONS}) AS reservation, json_each(reservation.accounts) AS account
GROUP BY account.value ORDER BY account.value
"""  # noqa: S608 — made of this module's own texts
