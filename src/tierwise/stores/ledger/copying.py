"""Copying a ledger into another, of either kind: all entries in order, what was pruned, and a check of the sums.

It is one transaction of the destination: whatever stops it leaves the destination empty, and it can be begun again.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice
from typing import Final, TypeAlias

from tierwise.errors import LedgerUnavailable
from tierwise.stores.ledger.query import Reader, Record, Writer
from tierwise.stores.ledger.reports import DIMENSIONS, report
from tierwise.stores.ledger.reservations import account_totals, open_reservations
from tierwise.stores.ledger.rows import KINDS
from tierwise.stores.ledger.summary import summarize

Progress: TypeAlias = Callable[[int, int], None]
"""Told how many entries are copied, and of how many."""

ROWS_A_STATEMENT: Final = 64


def copy_ledger(source: Reader, destination: Writer, *, progress: Progress) -> int:
    """Copy a ledger as it is at one moment, and return how many entries it has.

    What is written to the source meanwhile is not copied: stop its gateways first. The destination's sums are held
    against the source's before anything counts.

    Args:
        source: to read.
        destination: a new ledger.
        progress: told after each statement.

    Raises:
        LedgerUnavailable: one of them cannot be used, the destination has entries already, or does not come to the
            same; it is then as it was.
    """
    with source.snapshot(), destination.transaction():
        if _count(destination) or any(destination.rows("SELECT 1 AS one FROM totals LIMIT 1")):
            raise LedgerUnavailable(
                path=destination.path, why="it has entries already: copy into a new ledger"
            )
        total = _count(source)
        _copy_entries(source, destination, lambda done: progress(done, total))
        _copy_pruned(source, destination)
        summarize(destination)
        if differing := _differing(source, destination):
            raise LedgerUnavailable(
                path=destination.path, why=f"the copy does not come to the same: {', '.join(differing)}"
            )
    return total


def _copy_entries(source: Reader, destination: Writer, copied: Callable[[int], None]) -> None:
    rows = source.rows(f"SELECT {', '.join(_ENTRY)} FROM entries ORDER BY {source.dialect.position}")  # noqa: S608 — names of our own
    done = 0
    for some in _some(rows):
        _insert(destination, "entries", _ENTRY, some)
        done += len(some)
        copied(done)


def _copy_pruned(source: Reader, destination: Writer) -> None:
    """Copy the sums of deleted entries, which nobody can add up again."""
    for table in _SUMS:
        for some in _some(source.rows(f"SELECT * FROM {table} WHERE pruned = 1")):  # noqa: S608 — a name of our own
            _insert(destination, table, tuple(some[0]), some)


def _insert(destination: Writer, table: str, columns: Sequence[str], rows: Sequence[Record]) -> None:
    places = ", ".join([f"({', '.join('?' * len(columns))})"] * len(rows))
    destination.run(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES {places}",  # noqa: S608 — names of our own
        [row[column] for row in rows for column in columns],
    )


def _differing(source: Reader, destination: Reader) -> list[str]:
    """Name what is not the same in both."""
    checks: dict[str, Callable[[Reader], object]] = {
        "the number of entries": _count,
        **{f"the report by {by}": lambda ledger, by=by: report(ledger, by=by) for by in DIMENSIONS},
        "the balances": account_totals,
        "the open reservations": open_reservations,
    }
    return [name for name, check in checks.items() if check(source) != check(destination)]


def _count(ledger: Reader) -> int:
    (row,) = ledger.rows("SELECT count(*) AS entries FROM entries")
    return row["entries"]


def _some(rows: Iterable[Record]) -> Iterable[list[Record]]:
    remaining = iter(rows)
    while some := list(islice(remaining, ROWS_A_STATEMENT)):
        yield some


_SUMS: Final = ("totals", "unknown_types", "balances")
_ENTRY: Final = tuple(dict.fromkeys(chain.from_iterable(KINDS)))
