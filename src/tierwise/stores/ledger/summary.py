"""The summary: derived tables that hold the folds of all entries up to a position, so that nobody reads them again.

Whoever reads adds the folds of the entries after the position, written by the same functions: what is read is the
same wherever the position is. The tables follow the entries in steps, each one transaction.

A row with `pruned = 0` is what entries that are there add up to; with `pruned = 1`, what deleted ones did.
"""

# ruff: noqa: S608 — the texts are of our own making, and values are parameters

from collections.abc import Iterable, Sequence
from typing import Final

from tierwise.stores.ledger import folds
from tierwise.stores.ledger.folds import AMOUNTS, SUMS, Which
from tierwise.stores.ledger.query import Dialect, Reader, Writer

STEP: Final = 20_000
"""How many entries one transaction takes in at the most."""


def summarize(ledger: Writer, *, step: int = STEP) -> None:
    """Bring the derived tables to the end, `step` entries a transaction.

    Raises:
        LedgerUnavailable: the ledger cannot be written; the steps before stay.
    """
    while _take_in(ledger, step):
        pass


def position(ledger: Reader) -> int:
    """Return up to where the derived tables hold the entries."""
    (row,) = ledger.rows("SELECT position FROM summary")
    return row["position"]


def end(ledger: Reader) -> int:
    """Return the position of the last entry; 0 where there is none."""
    (row,) = ledger.rows(f"SELECT coalesce(max({ledger.dialect.position}), 0) AS position FROM entries")
    return row["position"]


def add(ledger: Writer, which: Which, parameters: Sequence[object] = ()) -> None:
    """Add what some entries come to; within a transaction.

    Args:
        ledger: its derived tables.
        which: the entries.
        parameters: of `which`.
    """
    _add(ledger, which, parameters, sign="", hour="hour", pruned=0)


def set_apart(ledger: Writer, which: Which) -> None:
    """Move what some entries come to from the rows of entries that are there to those of deleted ones.

    There, totals have one row for a day, at its first hour. Within a transaction, before the entries are deleted.
    """
    _add(ledger, which, (), sign="-", hour="hour", pruned=0)
    _add(ledger, which, (), sign="", hour="hour / 24 * 24", pruned=1)


def drop_empty(ledger: Writer) -> None:
    """Delete the rows that nothing is left in."""
    for table, columns in (("totals", SUMS), ("unknown_types", ("calls",)), ("balances", AMOUNTS)):
        nothing = " AND ".join(f"coalesce({column}, 0) = 0" for column in columns)
        ledger.run(f"DELETE FROM {table} WHERE pruned = 0 AND {nothing}")


def _add(
    ledger: Writer, which: Which, parameters: Sequence[object], *, sign: str, hour: str, pruned: int
) -> None:
    dialect = ledger.dialect
    ledger.run(_adding_totals(dialect, which, sign, hour, pruned), parameters)
    ledger.run(_adding_unknown_types(which, sign, hour, pruned), parameters)
    ledger.run(_adding_balances(dialect, which, sign, pruned), parameters)


def _adding_totals(dialect: Dialect, which: Which, sign: str, hour: str, pruned: int) -> str:
    signed = ", ".join(f"{sign}sum({column})" for column in SUMS)
    return (
        f"INSERT INTO totals (dimension, hour, key, pruned, {', '.join(SUMS)}) "
        f"SELECT dimension, {hour}, key, {pruned}, {signed} FROM ({folds.totals(dialect, which)}) AS folded "
        f"WHERE true GROUP BY dimension, {hour}, key "
        f"ON CONFLICT (dimension, hour, key, pruned) DO UPDATE SET {_added('totals', SUMS)}"
    )


def _adding_unknown_types(which: Which, sign: str, hour: str, pruned: int) -> str:
    return (
        "INSERT INTO unknown_types (hour, name, nearest, pruned, calls, last_us) "
        f"SELECT {hour}, name, nearest, {pruned}, {sign}sum(calls), max(last_us) "
        f"FROM ({folds.unknown_types(which)}) AS folded WHERE true GROUP BY {hour}, name, nearest "
        "ON CONFLICT (hour, name, nearest, pruned) DO UPDATE SET calls = unknown_types.calls + excluded.calls, "
        "last_us = CASE WHEN excluded.last_us > unknown_types.last_us THEN excluded.last_us "
        "ELSE unknown_types.last_us END"
    )


def _adding_balances(dialect: Dialect, which: Which, sign: str, pruned: int) -> str:
    signed = ", ".join(f"{sign}{column}" for column in AMOUNTS)
    return (
        f"INSERT INTO balances (account, pruned, {', '.join(AMOUNTS)}) "
        f"SELECT account, {pruned}, {signed} FROM ({folds.balances(dialect, which)}) AS folded WHERE true "
        f"ON CONFLICT (account, pruned) DO UPDATE SET {_added('balances', AMOUNTS)}"
    )


def _take_in(ledger: Writer, step: int) -> bool:
    """Take in the next entries, and return whether there were as many as there may be in a step."""
    with ledger.transaction():
        begin = position(ledger)
        last = _last_of_step(ledger, begin, step)
        if last is None:
            return False
        which = folds.between(ledger.dialect)
        add(ledger, which, (begin, last))
        opened = folds.opened(ledger.dialect, which, until=True)
        ledger.run(f"INSERT INTO open_reservations (call_id) {opened}", (begin, last, last))
        ledger.run(f"DELETE FROM open_reservations WHERE call_id IN ({folds.closed(which)})", (begin, last))
        ledger.run("UPDATE summary SET position = ?", (last,))
    return True


def _last_of_step(ledger: Writer, begin: int, step: int) -> int | None:
    column = ledger.dialect.position
    (row,) = ledger.rows(
        f"SELECT max({column}) AS last FROM "
        f"(SELECT {column} FROM entries WHERE {column} > ? ORDER BY {column} LIMIT ?) AS step",
        (begin, step),
    )
    return row["last"]


def _added(table: str, columns: Iterable[str]) -> str:
    """Assignments that add; where one of both is unknown, the other stands."""
    return ", ".join(
        f"{column} = coalesce({table}.{column} + excluded.{column}, {table}.{column}, excluded.{column})"
        for column in columns
    )
