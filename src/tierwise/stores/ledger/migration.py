"""Bringing a ledger's file to this version, and copying it: before that, and whenever somebody asks.

A copy is made by SQLite itself, whole and of one moment, while others go on writing.
"""

import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path

from tierwise.errors import LedgerTooNew, LedgerUnavailable
from tierwise.stores.ledger.schema import MIGRATIONS


def version_of(connection: sqlite3.Connection) -> int:
    """Return how many migrations a file has."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, path: str) -> bool:
    """Bring a file to this version, and return whether it was an older ledger; that is copied beside itself first.

    Several processes may do so at once.

    Raises:
        LedgerTooNew: a newer Tierwise wrote it.
        sqlite3.Error, OSError: it cannot be changed, or copied.
    """
    found = version_of(connection)
    if found > len(MIGRATIONS):
        raise LedgerTooNew(path=path, found=found, known=len(MIGRATIONS))
    old = 0 < found < len(MIGRATIONS)
    if old:
        _copy(connection, _new_backup(path, found))
    for version in range(found, len(MIGRATIONS)):
        _take_step(connection, version)
    return old


def back_up(path: str | Path, destination: str | Path) -> None:
    """Copy a ledger as it is at one moment, while a gateway may go on writing.

    The copy is no more readable than the ledger, and never replaces a file.

    Raises:
        LedgerUnavailable: there is no such ledger, the destination exists, or it cannot be written.
    """
    if not Path(path).is_file():
        raise LedgerUnavailable(path=str(path), why="there is no such file")
    try:
        Path(destination).touch(_mode(path), exist_ok=False)
        with closing(sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)) as connection:
            _copy(connection, Path(destination))
    except FileExistsError as error:
        raise LedgerUnavailable(path=str(destination), why="it exists, and is not replaced") from error
    except (OSError, sqlite3.Error) as error:
        raise LedgerUnavailable(path=str(destination), why=str(error)) from error


def _take_step(connection: sqlite3.Connection, version: int) -> None:
    """Apply one migration, unless another process has done so by now."""
    try:
        connection.executescript(
            f"BEGIN IMMEDIATE; {MIGRATIONS[version]} PRAGMA user_version = {version + 1}; COMMIT;"
        )
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if version_of(connection) <= version:
            raise


def _copy(connection: sqlite3.Connection, destination: Path) -> None:
    """Copy the file as it is into an empty one, which is taken away again where that fails."""
    try:
        with closing(sqlite3.connect(destination)) as copy:
            connection.backup(copy)
    except sqlite3.Error:
        destination.unlink()
        raise


def _new_backup(path: str, version: int) -> Path:
    """Make an empty `NAME.v1.backup`, or `.backup2` and on where that is taken, no more readable than the ledger."""
    for number in count(1):
        backup = Path(f"{path}.v{version}.backup{number if number > 1 else ''}")
        try:
            backup.touch(_mode(path), exist_ok=False)
        except FileExistsError:
            continue
        return backup
    raise AssertionError


def _mode(path: str | Path) -> int:
    return Path(path).stat().st_mode & 0o777
