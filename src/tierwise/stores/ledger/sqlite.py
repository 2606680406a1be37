"""The ledger in one SQLite file, in WAL mode: one connection writes, any number read.

An entry is durable once its transaction is committed: it survives the death of the process at any moment. (The
operating system has the bytes; SQLite's own checkpoints bring them to the disk.) Opened with the durability `power`,
a commit waits until the disk has them. Many rows are one statement, so that a busy event loop gives up the
interpreter's lock once for them and not once an entry.

The derived tables follow the entries by `SUMMARIZE_AFTER` at the most, while the ledger can be written at all.
"""

# ruff: noqa: S608 — names of our own

import logging
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tierwise.core.ledger import Entry
from tierwise.core.policy import Durability
from tierwise.errors import LedgerTooNew, LedgerUnavailable
from tierwise.stores.ledger.migration import migrate, version_of
from tierwise.stores.ledger.query import Dialect, Record
from tierwise.stores.ledger.rows import KINDS, ONCE, Columns, Row, sorted_rows
from tierwise.stores.ledger.schema import MIGRATIONS
from tierwise.stores.ledger.summary import summarize

SQLITE: Final = Dialect(name="sqlite", position="seq", each="json_each({}) AS account")

_SYNCHRONOUS: Final[dict[Durability, str]] = {"kill": "NORMAL", "power": "FULL"}
"""In WAL mode, FULL syncs the log after each commit: https://www.sqlite.org/pragma.html#pragma_synchronous"""

BUSY_TIMEOUT_S: Final = 2.0
"""How long a write waits for another process's lock before it fails, and is tried again."""

ROWS_A_STATEMENT: Final = 64
"""Largest number of rows in one INSERT; smaller batches use the powers of two below it."""

SUMMARIZE_AFTER: Final = 2_000
"""How many entries are written before the derived tables take them in: few, because the next ones wait for it."""

_CACHE_KIB: Final = 16_384
"""Of the connection that writes: holds the pages of the entries that the derived tables take in next."""

log = logging.getLogger("tierwise.ledger")


class SqliteReader:
    """A ledger, open for reading. One thread at a time."""

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        """Use `read_ledger`."""
        self.path = path
        self._connection = connection

    @property
    def dialect(self) -> Dialect:
        """SQLite's."""
        return SQLITE

    def rows(self, query: str, parameters: Sequence[object] = ()) -> Iterator[Record]:
        """Yield the rows of a query; each `?` stands for a parameter.

        Raises:
            LedgerUnavailable: the file cannot be read.
        """
        with self._told():
            cursor = self._connection.execute(query, tuple(parameters))
            names = [column[0] for column in cursor.description]
            for row in cursor:
                yield dict(zip(names, row, strict=True))

    @contextmanager
    def snapshot(self) -> Generator[None]:
        """Let all queries within see the ledger at one moment, while others write. May be nested.

        Raises:
            LedgerUnavailable: the file cannot be read.
        """
        with self._within("BEGIN"):
            yield

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def _within(self, begin: str) -> Generator[None]:
        if self._connection.in_transaction:
            yield
            return
        with self._told():
            self._connection.execute(begin)
        try:
            yield
            with self._told():
                self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    @contextmanager
    def _told(self) -> Generator[None]:
        """Tell what SQLite says as what it means here."""
        try:
            yield
        except sqlite3.Error as error:
            raise LedgerUnavailable(path=self.path, why=str(error)) from error


class SqliteLedger(SqliteReader):
    """A ledger, open for writing too: appends entries, and keeps the derived tables. One thread at a time."""

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        """Use `open_ledger`."""
        super().__init__(connection, path)
        self._behind = 0
        """How many entries were written since the derived tables were brought to the end."""

    def write(self, entries: Sequence[Entry]) -> None:
        """Append entries in one transaction.

        Raises:
            LedgerUnavailable: nothing was written: the disk is full, another process holds the lock, …
        """
        statements = [
            statement for columns, rows in sorted_rows(entries) for statement in _inserts(columns, rows)
        ]
        with self._told():
            if len(statements) > 1:
                self._transact(statements)
            else:
                for statement in statements:
                    self._connection.execute(*statement)
        self._behind += len(entries)
        if self._behind >= SUMMARIZE_AFTER:
            self.keep_up()

    def keep_up(self) -> None:
        """Bring the derived tables to the end; where that fails, it is tried again after the next entries.

        The entries are durable all the same, and a reader takes in those that the derived tables have not.
        """
        self._behind = 0
        try:
            summarize(self)
        except LedgerUnavailable as error:
            log.warning("%s; its summary is not up to date, and reports take longer", error)

    def run(self, statement: str, parameters: Sequence[object] = ()) -> int:
        """Execute a statement and return how many rows it has changed; each `?` stands for a parameter.

        Raises:
            LedgerUnavailable: nothing was changed.
        """
        with self._told():
            return self._connection.execute(statement, tuple(parameters)).rowcount

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Let what is run within happen whole or not at all, and let nobody write meanwhile.

        Raises:
            LedgerUnavailable: nothing was changed.
        """
        with self._within("BEGIN IMMEDIATE"):
            yield

    def close(self) -> None:
        """Bring the derived tables to the end and close the file; SQLite then brings everything into it."""
        if self._behind:
            self.keep_up()
        super().close()

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
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        migrated = migrate(connection, str(path))
    except (sqlite3.Error, OSError) as error:
        connection.close()
        raise LedgerUnavailable(path=str(path), why=str(error)) from error
    except LedgerTooNew:
        connection.close()
        raise
    ledger = SqliteLedger(connection, str(path))
    if migrated:
        ledger.keep_up()
    return ledger


def read_ledger(path: str | Path) -> SqliteReader:
    """Open a ledger for reading only.

    Raises:
        LedgerUnavailable: there is none, or it is no ledger of this version.
        LedgerTooNew: a newer Tierwise wrote it.
    """
    if not Path(path).is_file():
        raise LedgerUnavailable(path=str(path), why="there is no such file")
    connection = _connect(f"{Path(path).absolute().as_uri()}?mode=ro", path)
    try:
        found = version_of(connection)
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
    return SqliteReader(connection, str(path))


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


def _inserts(columns: Columns, rows: Sequence[Row]) -> list[tuple[str, Row]]:
    """Statements that insert all rows; their sizes are powers of two, so that few need to be prepared."""
    statements: list[tuple[str, Row]] = []
    done = 0
    while done < len(rows):
        size = min(ROWS_A_STATEMENT, 1 << ((len(rows) - done).bit_length() - 1))
        values = tuple(value for row in rows[done : done + size] for value in row)
        statements.append((_INSERTS[columns, size], values))
        done += size
    return statements


def _insert(columns: Columns, rows: int) -> str:
    places = ", ".join([f"({', '.join('?' * len(columns))})"] * rows)
    again = " ON CONFLICT DO NOTHING" if columns in ONCE else ""
    return f"INSERT INTO entries ({', '.join(columns)}) VALUES {places}{again}"


_SIZES: Final = tuple(1 << power for power in range(ROWS_A_STATEMENT.bit_length()))
_INSERTS: Final = {(columns, size): _insert(columns, size) for columns in KINDS for size in _SIZES}
"""By the columns of a kind of row, and the number of rows."""
