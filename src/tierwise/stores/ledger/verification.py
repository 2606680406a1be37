"""What must hold in a ledger, checked: the file, the lives of its calls, money, and the summary of it all."""

# ruff: noqa: S608 — the texts are of our own making

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

from tierwise.core.budgets import amount_on
from tierwise.stores.ledger import folds, summary
from tierwise.stores.ledger.folds import AMOUNTS, SUMS
from tierwise.stores.ledger.query import Reader
from tierwise.stores.ledger.reservations import balances, open_reservations

SHOWN: Final = 5
"""How many of those that break a law are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One law, and who breaks it."""

    law: str
    breaches: int
    examples: tuple[str, ...] = ()
    """The first of them: calls and pairs by id, accounts by key, or what the database says."""


def verify(ledger: Reader) -> tuple[Finding, ...]:
    """Check every law, up to the first without which the others say nothing.

    A ledger that is being written may be checked too: each law is checked at one moment. Of what was pruned, the sums
    are checked: that money is conserved in them.
    """
    findings: list[Finding] = []
    for law, check in LAWS.items():
        with ledger.snapshot():
            findings.append(_finding(law, check(ledger)))
        if findings[-1].breaches and check in _GROUNDS:
            break
    return tuple(findings)


def _finding(law: str, breaches: list[str]) -> Finding:
    return Finding(law=law, breaches=len(breaches), examples=tuple(islice(breaches, SHOWN)))


def _file(ledger: Reader) -> list[str]:
    if ledger.dialect.name != "sqlite":
        return []
    told = [row["quick_check"] for row in ledger.rows("PRAGMA quick_check")]
    return [] if told == ["ok"] else told


def _calls(query: str) -> Callable[[Reader], list[str]]:
    return lambda ledger: [
        row["call_id"] for row in ledger.rows(query.format(position=ledger.dialect.position))
    ]


_DECIDED: Final = """
SELECT DISTINCT call_id FROM entries AS e
WHERE kind IN ('set-aside', 'posted', 'failed', 'settled') AND NOT EXISTS (
    SELECT 1 FROM entries AS d WHERE d.call_id = e.call_id AND d.kind = 'decided' AND d.{position} < e.{position}
)
"""

_ONE_ENDING: Final = """
SELECT p.call_id FROM entries AS p JOIN entries AS f ON f.call_id = p.call_id AND f.kind = 'failed'
WHERE p.kind = 'posted'
"""

_IN_ORDER: Final = """
SELECT DISTINCT r.call_id FROM entries AS r
JOIN entries AS e ON e.call_id = r.call_id AND e.kind IN ('posted', 'failed', 'settled')
WHERE r.kind = 'set-aside' AND e.{position} < r.{position}
"""

_SETTLED: Final = """
SELECT s.call_id FROM entries AS s JOIN entries AS e ON e.call_id = s.call_id AND e.kind IN ('posted', 'failed')
WHERE s.kind = 'settled' AND (e.cost_nanos IS NOT NULL OR e.{position} > s.{position})
"""

_GRADED: Final = """
SELECT g.call_id FROM entries AS g WHERE g.kind = 'graded' AND NOT EXISTS (
    SELECT 1 FROM entries AS p WHERE p.call_id = g.call_id AND p.kind = 'paired' AND p.{position} < g.{position}
)
"""

_NOT_NEGATIVE: Final = (
    "SELECT DISTINCT call_id FROM entries WHERE cost_nanos < 0 OR at_least_nanos < 0 OR reserved_nanos < 0"
)

_one_ending: Final = _calls(_ONE_ENDING)


def _conserved(ledger: Reader) -> list[str]:
    return [account for account, balance in balances(ledger).items() if not balance.holds]


def _pending(ledger: Reader) -> list[str]:
    pending = {account: balance.pending_nanos for account, balance in balances(ledger).items()}
    for reservation in open_reservations(ledger):
        for account in reservation.accounts:
            pending[account] -= amount_on(account, reservation.amount_nanos)
    return [account for account, left in pending.items() if left]


def _summarized(ledger: Reader) -> list[str]:
    position = summary.position(ledger)
    which = folds.between(ledger.dialect)
    wrong = [
        *ledger.rows(_wrong_totals(folds.totals(ledger.dialect, which)), (0, position)),
        *ledger.rows(_wrong_types(folds.unknown_types(which)), (0, position)),
        *ledger.rows(_wrong_balances(folds.balances(ledger.dialect, which)), (0, position)),
        *ledger.rows(_wrong_open(folds.opened(ledger.dialect, which, until=True)), (0, position, position)),
    ]
    return [" ".join(map(str, row.values())) for row in wrong]


def _wrong_totals(fold: str) -> str:
    return _differing("totals", ("dimension", "hour", "key"), SUMS, fold)


def _wrong_types(fold: str) -> str:
    return _differing("unknown_types", ("hour", "name", "nearest"), ("calls",), fold)


def _wrong_balances(fold: str) -> str:
    return _differing("balances", ("account",), AMOUNTS, fold)


def _differing(table: str, keys: Iterable[str], columns: Iterable[str], fold: str) -> str:
    """The query of the keys whose sums are not the same in a derived table and in a fold."""
    key, column = ", ".join(keys), ", ".join(columns)
    negative = ", ".join(f"-{name}" for name in columns)
    differs = " OR ".join(f"coalesce(sum({name}), 0) <> 0" for name in columns)
    return (
        f"SELECT {key} FROM (SELECT {key}, {column} FROM {table} WHERE pruned = 0 "
        f"UNION ALL SELECT {key}, {negative} FROM ({fold}) AS folded) AS parts GROUP BY {key} HAVING {differs}"
    )


def _wrong_open(opened: str) -> str:
    return (
        "SELECT call_id FROM ("
        f"SELECT call_id FROM open_reservations UNION ALL SELECT call_id FROM ({opened}) AS opened"
        ") AS both_of_them GROUP BY call_id HAVING count(*) <> 2"
    )


LAWS: Final[Mapping[str, Callable[[Reader], list[str]]]] = {
    "the database is whole": _file,
    "every entry belongs to a call that was decided": _calls(_DECIDED),
    "no call has two endings": _one_ending,
    "money is set aside before a call ends": _calls(_IN_ORDER),
    "a call is settled after an ending that did not know its cost": _calls(_SETTLED),
    "every grade belongs to a pair": _calls(_GRADED),
    "no amount is negative": _calls(_NOT_NEGATIVE),
    "money is conserved on every account": _conserved,
    "what is pending on an account is what its open reservations hold": _pending,
    "the summary is what the entries add up to": _summarized,
}
"""By the sentence that says it."""

_GROUNDS: Final = (_file, _one_ending)
"""In a damaged file nothing can be read, and a call with two endings is counted twice."""
