"""A ledger that another process holds."""

import threading
from collections.abc import Sequence
from pathlib import Path

from tierwise.core.ledger import Entry
from tierwise.errors import LedgerUnavailable
from tierwise.stores.ledger.sqlite import SqliteLedger, open_ledger


class Lock:
    """The other process's lock."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.met = threading.Event()
        """Set once the ledger has met the lock."""

    def opened(self, path: Path) -> "LockedLedger":
        """Open a ledger that is under the lock."""
        return LockedLedger(path, self)


class LockedLedger:
    """Cannot be written until its lock is free."""

    def __init__(self, path: Path, lock: Lock) -> None:
        self._ledger: SqliteLedger = open_ledger(path)
        self._lock = lock
        self.path = str(path)

    def write(self, entries: Sequence[Entry]) -> None:
        if not self._lock.free.is_set():
            self._lock.met.set()
            raise LedgerUnavailable(path=self.path, why="database is locked")
        self._ledger.write(entries)

    def close(self) -> None:
        self._ledger.close()
