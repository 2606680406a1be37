"""A ledger that another process holds."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from tierwise.core.ledger import Entry
from tierwise.errors import LedgerUnavailable
from tierwise.stores.ledger.sqlite import SqliteLedger, open_ledger


class LockedLedger:
    """Cannot be written until `free` is set."""

    def __init__(self, path: Path, free: threading.Event) -> None:
        self._ledger: SqliteLedger = open_ledger(path)
        self._free = free
        self.path = str(path)

    def write(self, entries: Sequence[Entry]) -> None:
        if not self._free.is_set():
            raise LedgerUnavailable(path=self.path, why="database is locked")
        self._ledger.write(entries)

    def close(self) -> None:
        self._ledger.close()


def locked(free: threading.Event) -> Callable[[Path], LockedLedger]:
    """What opens such ledgers."""
    return lambda path: LockedLedger(path, free)
