"""The ledger in one SQLite file, in WAL mode: one connection writes, any number read.

An entry is durable once its transaction is committed: it survives the death of the process at any moment. (The
operating system has the bytes; SQLite's own checkpoints bring them to the disk.) Opened with the durability `power`,
a commit waits until the disk has them. A batch is one statement, so
that a busy event loop gives up the interpreter's lock once a batch and not once an entry.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Final

from tierwise.core.ledger import Decided, Entry, Failed, Posted, SetAside
from tierwise.core.policy import Durability
from tierwise.errors import LedgerTooNew, LedgerUnavailable
from tierwise.stores.ledger.rows import (
    DECIDED,
    ENDING,
    SET_ASIDE,
    Row,
    decided_row,
    ending_row,
    set_aside_row,
)
from tierwise.stores.ledger.schema import MIGRATIONS

_SYNCHRONOUS: Final[dict[Durability, str]] = {"kill": "NORMAL", "power": "FULL"}
"""In WAL mode, FULL syncs the log after each commit: https://www.sqlite.org/pragma.html#pragma_synchronous"""

BUSY_TIMEOUT_S: Final = 2.0
"""How long a write waits for another process's lock before it fails, and is tried again."""

ROWS_A_STATEMENT: Final = 64
"""Largest number of rows in one INSERT; smaller batches use the powers of two below it."""


class SqliteLedger:
    """Appends entries to a file. One thread at a time."""

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        """Use `open_ledger`."""
        self.path = path
        self._connection = connection

    def write(self, entries: Sequence[Entry]) -> None:
        """Append entries in one transaction.

        Raises:
            LedgerUnavailable: nothing was written: the disk is full, another process holds the lock, …
        """
        decided = [decided_row(entry) for entry in entries if isinstance(entry, Decided)]
        set_aside = [set_aside_row(entry) for entry in entries if isinstance(entry, SetAside)]
        endings = [ending_row(entry) for entry in entries if isinstance(entry, Posted | Failed)]
        statements = [
            *_inserts(DECIDED, decided),
            *_inserts(SET_ASIDE, set_aside),
            *_inserts(ENDING, endings),
        ]
        try:
            if len(statements) > 1:
                self._transact(statements)
            else:
                for statement in statements:
                    self._connection.execute(*statement)
        except sqlite3.Error as error:
            raise LedgerUnavailable(path=self.path, why=str(error)) from error

    def close(self) -> None:
        """Close the file; SQLite then brings everything into it."""
        self._connection.close()

    def _transact(self, statements: Sequence[tuple[str, Row]]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements:
                self._connection.execute(*statement)
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


def open_ledger(path: str | Path, *, durability: Durability = "kill") -> SqliteLedger:
    """Open a ledger for writing; make it, or bring it to this version, where it is needed.

    An older file is copied beside itself first.

    Raises:
        LedgerUnavailable: it cannot be opened, or copied, or is no ledger.
        LedgerTooNew: a newer Tierwise wrote it.
    """
    connection = _connect(f"{Path(path).absolute().as_uri()}?mode=rwc", path)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[durability]}")
        _migrate(connection, str(path))
    except (sqlite3.Error, OSError) as error:
        connection.close()
        raise LedgerUnavailable(path=str(path), why=str(error)) from error
    except LedgerTooNew:
        connection.close()
        raise
    return SqliteLedger(connection, str(path))


def read_ledger(path: str | Path) -> sqlite3.Connection:
    """Open a ledger for reading only; rows come as `sqlite3.Row`.

    Raises:
        LedgerUnavailable: there is none, or it is no ledger of this version.
        LedgerTooNew: a newer Tierwise wrote it.
    """
    if not Path(path).is_file():
        raise LedgerUnavailable(path=str(path), why="there is no such file")
    connection = _connect(f"{Path(path).absolute().as_uri()}?mode=ro", path)
    try:
        found = _version(connection)
        if found > len(MIGRATIONS):
            raise LedgerTooNew(path=str(path), found=found, known=len(MIGRATIONS))
        if found < len(MIGRATIONS):
            raise LedgerUnavailable(
                path=str(path), why="it is not a ledger, or an older one: serve brings it up to date"
            )
    except sqlite3.Error as error:
        connection.close()
        raise LedgerUnavailable(path=str(path), why=str(error)) from error
    except (LedgerTooNew, LedgerUnavailable):
        connection.close()
        raise
    connection.row_factory = sqlite3.Row
    return connection


def _connect(uri: str, path: str | Path) -> sqlite3.Connection:
    try:
        return sqlite3.connect(
            uri,
            uri=True,
            isolation_level=None,
            timeout=BUSY_TIMEOUT_S,
            check_same_thread=False,
            cached_statements=64,
        )
    except sqlite3.Error as error:
        raise LedgerUnavailable(path=str(path), why=str(error)) from error


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _migrate(connection: sqlite3.Connection, path: str) -> None:
    found = _version(connection)
    if found > len(MIGRATIONS):
        raise LedgerTooNew(path=path, found=found, known=len(MIGRATIONS))
    if 0 < found < len(MIGRATIONS):
        _back_up(connection, path, found)
    for version in range(found, len(MIGRATIONS)):
        connection.executescript(
            f"BEGIN IMMEDIATE; {MIGRATIONS[version]} PRAGMA user_version = {version + 1}; COMMIT;"
        )


def _back_up(connection: sqlite3.Connection, path: str, version: int) -> None:
    """Copy the file as it is, before it is brought to this version."""
    backup = _new_backup(path, version)
    try:
        with closing(sqlite3.connect(backup)) as copy:
            connection.backup(copy)
    except sqlite3.Error:
        backup.unlink()
        raise


def _new_backup(path: str, version: int) -> Path:
    """Make an empty `NAME.v1.backup`, or `.backup2` and on where that is taken, no more readable than the ledger."""
    mode = Path(path).stat().st_mode & 0o777
    for number in count(1):
        backup = Path(f"{path}.v{version}.backup{number if number > 1 else ''}")
        try:
            backup.touch(mode, exist_ok=False)
        except FileExistsError:
            continue
        return backup
    raise AssertionError


def _inserts(columns: Sequence[str], rows: Sequence[Row]) -> list[tuple[str, Row]]:
    """Statements that insert all rows; their sizes are powers of two, so that few need to be prepared."""
    statements: list[tuple[str, Row]] = []
    done = 0
    while done < len(rows):
        size = min(ROWS_A_STATEMENT, 1 << ((len(rows) - done).bit_length() - 1))
        values = tuple(value for row in rows[done : done + size] for value in row)
        statements.append((_INSERTS[len(columns), size], values))
        done += size
    return statements


def _insert(columns: Sequence[str], rows: int) -> str:
    places = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO entries ({', '.join(columns)}) VALUES {', '.join([places] * rows)}"  # noqa: S608 — names of our own


_SIZES: Final = tuple(1 << power for power in range(ROWS_A_STATEMENT.bit_length()))
_INSERTS: Final = {
    (len(columns), size): _insert(columns, size)
    for columns in (DECIDED, SET_ASIDE, ENDING)
    for size in _SIZES
}
"""By the number of columns, which no two kinds of row share, and of rows."""
