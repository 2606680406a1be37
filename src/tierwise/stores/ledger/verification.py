"""What must hold in a ledger, checked: the file, the lives of its calls, the conservation of money.

Money is folded twice, by SQL and by the store of balances, and the two must agree.
"""

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

from tierwise.core.budgets import Balance
from tierwise.stores.budgets.memory import MemoryBudgets
from tierwise.stores.ledger.reservations import AccountTotals, account_totals, past

SHOWN: Final = 5
"""How many of those that break a law are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One law, and who breaks it."""

    law: str
    breaches: int
    examples: tuple[str, ...] = ()
    """The first of them: calls by id, accounts by key, or what the database says."""


def verify(ledger: sqlite3.Connection) -> tuple[Finding, ...]:
    """Check every law, up to the first without which the others say nothing.

    `ledger` is as `read_ledger` opens it. A ledger that is being written may be checked too.
    """
    findings: list[Finding] = []
    for law, check in LAWS.items():
        findings.append(_finding(law, check(ledger)))
        if findings[-1].breaches and check in _GROUNDS:
            break
    return tuple(findings)


def _finding(law: str, breaches: list[str]) -> Finding:
    return Finding(law=law, breaches=len(breaches), examples=tuple(islice(breaches, SHOWN)))


def _file(ledger: sqlite3.Connection) -> list[str]:
    told = [row[0] for row in ledger.execute("PRAGMA quick_check")]
    return [] if told == ["ok"] else told


def _calls(query: str) -> Callable[[sqlite3.Connection], list[str]]:
    return lambda ledger: [row[0] for row in ledger.execute(query)]


_DECIDED: Final = """
SELECT DISTINCT call_id FROM entries AS e WHERE kind <> 'decided'
AND NOT EXISTS (SELECT 1 FROM entries AS d WHERE d.call_id = e.call_id AND d.kind = 'decided')
"""

_ONE_ENDING: Final = """
SELECT p.call_id FROM entries AS p JOIN entries AS f ON f.call_id = p.call_id AND f.kind = 'failed'
WHERE p.kind = 'posted'
"""

_IN_ORDER: Final = """
SELECT r.call_id FROM entries AS r JOIN entries AS e ON e.call_id = r.call_id AND e.kind IN ('posted', 'failed')
WHERE r.kind = 'set-aside' AND e.seq < r.seq
"""

_NOT_NEGATIVE: Final = (
    "SELECT call_id FROM entries WHERE min(coalesce(cost_nanos, 0), coalesce(reserved_nanos, 0)) < 0"
)


_one_ending: Final = _calls(_ONE_ENDING)


def _agreed(ledger: sqlite3.Connection) -> list[str]:
    budgets = MemoryBudgets()
    budgets.resume(past(ledger))
    balances = [(totals.key, _balance(totals)) for totals in account_totals(ledger)]
    return [key for key, balance in balances if not balance.holds or balance != budgets.balance(key)]


def _balance(totals: AccountTotals) -> Balance:
    return Balance(
        reserved_nanos=totals.reserved_nanos,
        pending_nanos=totals.pending_nanos,
        posted_nanos=totals.posted_nanos,
        released_nanos=totals.released_nanos,
        overrun_nanos=totals.overrun_nanos,
    )


LAWS: Final[Mapping[str, Callable[[sqlite3.Connection], list[str]]]] = {
    "the database is whole": _file,
    "every entry belongs to a call that was decided": _calls(_DECIDED),
    "no call has two endings": _one_ending,
    "money is set aside before a call ends": _calls(_IN_ORDER),
    "no amount is negative": _calls(_NOT_NEGATIVE),
    "money is conserved on every account, and both folds agree": _agreed,
}
"""By the sentence that says it."""

_GROUNDS: Final = (_file, _one_ending)
"""In a damaged file nothing can be read, and a call with two endings is counted twice."""
