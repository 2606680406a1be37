"""The ledger in PostgreSQL: any number of gateways write it, any number of readers read it.

A batch is one statement and one round trip: its entries go as one JSON text, which the server takes apart, so that
the gateway spends little and waits once. An entry is durable once the server has flushed it to its disk, and sent it
to the standbys that it waits for; with PostgreSQL that is what both durabilities mean.

Nothing is repaired here: whatever the database says becomes a LedgerUnavailable, a connection that failed is let go,
and the next write makes a new one.
"""

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain, count
from typing import Final, LiteralString, TypeVar

import msgspec
import psycopg

from tierwise.core.ledger import Entry
from tierwise.errors import LedgerError, LedgerTooNew, LedgerUnavailable
from tierwise.stores.ledger.postgres_connection import PATIENCE_S, READING, WRITING, Connection, connect
from tierwise.stores.ledger.postgres_schema import (
    CLOSE_GATE,
    CLOSE_GATE_UNTIL_COMMIT,
    MIGRATIONS,
    OPEN_GATE,
    SUMMARY_LOCK,
    migrate,
    version,
)
from tierwise.stores.ledger.query import Dialect, Record
from tierwise.stores.ledger.rows import KINDS, ONCE, Columns, Row, sorted_rows
from tierwise.stores.ledger.summary import summarize

POSTGRES: Final = Dialect(
    name="postgres", position="seq", each="json_array_elements_text({}::json) AS account(value)"
)

SUMMARIZE_AFTER: Final = 5_000
"""How many entries this process writes before the derived tables take in what there is."""

SUMMARY_PATIENCE_S: Final = 120.0
"""How long one statement of a summary may take, in seconds."""

log = logging.getLogger("tierwise.ledger")


class PostgresReader:
    """A ledger, open for reading. One thread at a time."""

    _writing = False
    _settings: LiteralString = READING
    _patience_s: float | None = None

    def __init__(self, address: str, path: str) -> None:
        """Use `read_ledger`."""
        self.path = path
        self._address = address
        self._connection: Connection | None = None
        self._inside = False
        """Whether a transaction is open."""
        self._names = count(1)

    @property
    def dialect(self) -> Dialect:
        """PostgreSQL's."""
        return POSTGRES

    def rows(self, query: str, parameters: Sequence[object] = ()) -> Iterator[Record]:
        """Yield the rows of a query; each `?` stands for a parameter.

        Within a snapshot rows come as they are asked for, so that there may be more than memory holds.

        Raises:
            LedgerUnavailable: the database cannot be read.
        """
        with self._told():
            connection = self._connected()
            if not self._inside:
                yield from connection.execute(_numbered(query), parameters).fetchall()
                return
            with connection.cursor(name=f"rows_{next(self._names)}") as cursor:
                yield from cursor.execute(_numbered(query), parameters)

    @contextmanager
    def snapshot(self) -> Generator[None]:
        """Let all queries within see the ledger at one moment, while others write. May be nested.

        Raises:
            LedgerUnavailable: the database cannot be read.
        """
        if self._inside:
            yield
            return
        with self._within("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"):
            yield

    def check(self) -> None:
        """Make sure that the database is there and holds a ledger of this version.

        Raises:
            LedgerUnavailable: it is not there, or holds none.
            LedgerTooNew: a newer Tierwise wrote it.
        """
        with self._told():
            found = version(self._connected())
        if found > len(MIGRATIONS):
            raise LedgerTooNew(path=self.path, found=found, known=len(MIGRATIONS))
        if found < len(MIGRATIONS):
            raise LedgerUnavailable(
                path=self.path, why="it is not a ledger, or an older one: serve brings it up to date"
            )

    def close(self) -> None:
        """Let go of the database."""
        self._let_go()

    def _connected(self) -> Connection:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        if self._inside:
            raise psycopg.OperationalError("the connection was lost")
        self._connection = connect(self._address, writing=self._writing)
        self._connection.patience_s = PATIENCE_S
        self._connection.execute(self._settings)
        self._connection.patience_s = self._patience_s
        return self._connection

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _within(self, *begin: LiteralString) -> Generator[None]:
        with self._told():
            connection = self._connected()
            try:
                for statement in begin:
                    connection.execute(statement)
            except psycopg.Error:
                self._let_go()
                raise
        self._inside = True
        try:
            yield
            with self._told():
                _commit(connection)
        finally:
            self._inside = False
            if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                self._let_go()  # and with the connection, of what was not committed

    @contextmanager
    def _told(self) -> Generator[None]:
        """Tell what the database says as what it means here."""
        try:
            yield
        except psycopg.Error as error:
            raise LedgerUnavailable(path=self.path, why=_sentence(error)) from error


class PostgresLedger(PostgresReader):
    """A ledger, open for writing too: appends entries, and keeps the derived tables. One thread at a time."""

    _writing = True
    _settings: LiteralString = WRITING
    _patience_s: float | None = PATIENCE_S

    def __init__(self, address: str, path: str) -> None:
        """Use `open_ledger`."""
        super().__init__(address, path)
        self._behind = 0
        """How many entries were written since the derived tables were brought to the end."""
        self._unsure = False
        """Whether the last write may have happened although it failed."""

    def write(self, entries: Sequence[Entry]) -> None:
        """Append entries in one transaction.

        An entry that is there already is an error, for no call has two of a kind, with two exceptions: those of
        which the first counts; and after a write that failed when nobody can say whether the server had
        committed it: whoever was refused hands the same entries in again, and those that are there are the ones.

        Raises:
            LedgerUnavailable: nothing was written, or nobody can know: they are to be written again.
        """
        if not entries:
            return
        new, once = _payloads(entries)
        with self._told():
            connection = self._connected()
            try:
                self._insert(connection, new, once)
            except psycopg.Error as error:
                self._unsure = self._unsure or not isinstance(error, psycopg.IntegrityError)
                self._let_go()
                raise
        self._unsure = False
        self._behind += len(entries)
        if self._behind >= SUMMARIZE_AFTER:
            self.keep_up()

    def keep_up(self) -> None:
        """Bring the derived tables to the end, unless another process is at it.

        Where that fails, it is tried again after the next entries. They are durable all the same, and a reader takes
        in those that the derived tables have not.
        """
        self._behind = 0
        try:
            with self._sole("SELECT pg_try_advisory_lock($1) AS granted") as granted:
                if granted:
                    summarize(self)
        except LedgerUnavailable as error:
            log.warning("%s; its summary is not up to date, and reports take longer", error)

    def run(self, statement: str, parameters: Sequence[object] = ()) -> int:
        """Execute a statement and return how many rows it has changed; each `?` stands for a parameter.

        Raises:
            LedgerUnavailable: nothing was changed.
        """
        with self._told():
            stored = [_storable(value) for value in parameters]
            return self._connected().execute(_numbered(statement), stored).rowcount

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Let what is run within happen whole or not at all, and let nobody else change derived tables meanwhile.

        Entries may be written meanwhile, and are not seen. Up to the last that is seen, all are.

        Raises:
            LedgerUnavailable: nothing was changed.
        """
        if self._inside:
            yield
            return
        with self._sole("SELECT true AS granted, pg_advisory_lock($1)"), self._within(*_AT_THE_GATE):
            connection = self._connected()
            connection.patience_s = SUMMARY_PATIENCE_S
            try:
                yield
            finally:
                connection.patience_s = self._patience_s

    def close(self) -> None:
        """Bring the derived tables to the end, where the server is there, and let go of it."""
        if self._behind and self._connection is not None and not self._connection.closed:
            self.keep_up()
        super().close()

    def _insert(self, connection: Connection, new: str, once: str) -> None:
        statement = _INSERT_WHERE_NEW if self._unsure else _INSERT
        if not once:
            connection.execute(statement, (new,), prepare=True)
            return
        with connection.transaction():
            connection.execute(CLOSE_GATE_UNTIL_COMMIT)
            if new:
                connection.execute(statement, (new,), prepare=True)
            connection.execute(_INSERT_WHERE_NEW, (once,), prepare=True)

    @contextmanager
    def _sole(self, lock: LiteralString) -> Generator[bool]:
        """Hold the lock of those who change derived tables, and tell whether it was granted; it counts.

        It is taken before a transaction begins, which then sees all that its last holder did.
        """
        with self._told():
            row = self._connected().execute(lock, (SUMMARY_LOCK,)).fetchone()
        granted = row is not None and bool(row["granted"])
        try:
            yield granted
        finally:
            if granted and self._connection is not None and not self._connection.closed:
                with self._told():
                    self._connection.execute("SELECT pg_advisory_unlock($1)", (SUMMARY_LOCK,))


def open_ledger(address: str, path: str) -> PostgresLedger:
    """Open a ledger for writing; make its tables, or bring them to this version, where that is needed.

    Args:
        address: as libpq reads it.
        path: the same for people, without a password.

    Raises:
        LedgerUnavailable: it cannot be reached, or is no ledger.
        LedgerTooNew: a newer Tierwise wrote it.
    """
    try:
        with connect(address, writing=True) as connection:
            if connection.info.parameter_status("server_encoding") != "UTF8":
                raise LedgerUnavailable(path=path, why="a ledger needs a database whose encoding is UTF8")
            migrate(connection)
    except psycopg.Error as error:
        raise LedgerUnavailable(path=path, why=_sentence(error)) from error
    return _checked(PostgresLedger(address, path))


def read_ledger(address: str, path: str) -> PostgresReader:
    """Open a ledger for reading only.

    Args:
        address: as libpq reads it.
        path: the same for people, without a password.

    Raises:
        LedgerUnavailable: it cannot be reached, or is no ledger of this version.
        LedgerTooNew: a newer Tierwise wrote it.
    """
    return _checked(PostgresReader(address, path))


_Opened = TypeVar("_Opened", bound=PostgresReader)


def _checked(ledger: _Opened) -> _Opened:
    try:
        ledger.check()
    except LedgerError:
        ledger.close()
        raise
    return ledger


def _commit(connection: Connection) -> None:
    if connection.execute("COMMIT").statusmessage != "COMMIT":
        raise psycopg.OperationalError("a statement failed, and with it the transaction")


def _payloads(entries: Sequence[Entry]) -> tuple[str, str]:
    """JSON of the rows that must be new, and of those of which the first counts; empty where there are none."""
    grouped = [(columns, rows) for columns, rows in sorted_rows(entries) if rows]
    return (
        _payload([each for each in grouped if each[0] not in ONCE]),
        _payload([each for each in grouped if each[0] in ONCE]),
    )


def _payload(grouped: Sequence[tuple[Columns, Sequence[Row]]]) -> str:
    rows = [dict(zip(columns, row, strict=True)) for columns, rows in grouped for row in rows]
    if not rows:
        return ""
    text = _encode(rows)
    if b"\\u0000" in text:
        text = _encode([{name: _storable(value) for name, value in row.items()} for row in rows])
    return text.decode()


def _storable(value: object) -> object:
    """Replace the one character that no text in PostgreSQL has: a caller can send it, and must not stop the ledger."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value


@lru_cache(maxsize=256)
def _numbered(query: str) -> bytes:
    """Write a query's `?` as PostgreSQL does: `$1` and on."""
    first, *others = query.split("?")
    return (first + "".join(f"${number}{part}" for number, part in enumerate(others, start=1))).encode()


def _sentence(error: psycopg.Error) -> str:
    """What the database says, in one line."""
    return " ".join(str(error).split())


_encode: Final = msgspec.json.Encoder().encode

_COLUMNS: Final = ", ".join(dict.fromkeys(chain.from_iterable(KINDS)))
_INSERT: Final = (
    f"INSERT INTO entries ({_COLUMNS}) "  # noqa: S608 — names of our own
    f"SELECT {_COLUMNS} FROM json_populate_recordset(NULL::entries, $1::json)"
).encode()
_INSERT_WHERE_NEW: Final = _INSERT + b" ON CONFLICT (call_id, kind) DO NOTHING"

_AT_THE_GATE: Final = (
    CLOSE_GATE,
    "BEGIN ISOLATION LEVEL REPEATABLE READ",
    OPEN_GATE,
    "SET LOCAL statement_timeout = 0",
)
"""The first query within the transaction makes its snapshot; who writes waits for the gate until then."""
