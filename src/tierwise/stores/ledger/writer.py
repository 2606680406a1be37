"""Group commit: one thread writes what has gathered, and acknowledges a batch at once.

Entries that arrive while a batch is written make the next one, so a batch grows with the load and a lone entry
waits for nobody. When the ledger cannot be written, nothing is dropped: the batch is tried again, with what came
meanwhile, until it can, and `trouble` says why. Whoever has waited for `PATIENCE_S` is told that its entry is not
durable yet, and nobody is told later that it is: a reservation is durable within that time, or its call is not sent.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final, Generic, Protocol, TypeVar

from tierwise.core.ledger import Entry
from tierwise.errors import LedgerUnavailable

PATIENCE_S: Final = 5.0
"""How long a waiter waits for a ledger that cannot be written, in seconds."""
RETRY_S: Final = 0.25
LARGEST_BATCH: Final = 512
"""A batch that has so many entries takes in no more."""

W = TypeVar("W")

log = logging.getLogger("tierwise.ledger")


class EntryStore(Protocol):
    """What the writer writes to."""

    path: str

    def write(self, entries: Sequence[Entry]) -> None:
        """Append all or nothing; raise LedgerUnavailable where it cannot."""
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...


class _Handed(Generic[W]):
    """Entries that were handed in together, each with who waits for it."""

    __slots__ = ("entries", "until", "waits")

    def __init__(self, entries: Sequence[tuple[Entry, W | None]], until: float) -> None:
        self.entries = entries
        self.until = until
        self.waits = True
        """Whether nobody was told yet what became of them."""


class GroupCommit(Generic[W]):
    """Takes entries from any thread and writes them in order, in batches."""

    def __init__(self, store: EntryStore, *, acknowledge: Callable[[Sequence[W], bool], None]) -> None:
        """Write to `store`.

        Args:
            store: written to by the writer's thread only, and closed by it.
            acknowledge: called on the writer's thread, once a batch, with its waiters and whether their entries
                are durable.
        """
        self.trouble: str | None = None
        self._ends_at: float | None = None
        self._store = store
        self._acknowledge = acknowledge
        self._queue: SimpleQueue[_Handed[W] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="tierwise-ledger", daemon=True)
        self._thread.start()

    def put(self, entry: Entry, waiter: W | None = None) -> None:
        """Hand in an entry; `waiter` is acknowledged once it is durable, or has waited for too long."""
        self.put_all(((entry, waiter),))

    def put_all(self, entries: Sequence[tuple[Entry, W | None]]) -> None:
        """Hand in several entries, each with its waiter, and wake the writer once for all of them."""
        self._queue.put(_Handed(entries, time.monotonic() + PATIENCE_S))

    def close(self) -> None:
        """Write what is left, close the store, end the thread.

        A store that cannot be written is given `PATIENCE_S`, and what it did not take is told to the log.
        """
        self._ends_at = time.monotonic() + PATIENCE_S
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        going = True
        while going:
            batch: list[_Handed[W]] = []
            going = self._gather(batch, self._queue.get())
            if batch:
                self._write(batch)
        self._store.close()

    def _gather(self, batch: list[_Handed[W]], handed: _Handed[W] | None) -> bool:
        """Add what was handed in and what else is there to a batch; False at the end."""
        size = 0
        with suppress(Empty):
            while handed is not None:
                batch.append(handed)
                size += len(handed.entries)
                if size >= LARGEST_BATCH:
                    return True
                handed = self._queue.get_nowait()
            return False
        return True

    def _write(self, batch: list[_Handed[W]]) -> None:
        """Write a batch, however often that takes, unless the writer is closed and its time is over."""
        while not self._wrote(batch):
            now = time.monotonic()
            self._take_in(batch)
            self._tell_late(batch, now)
            if self._ends_at is not None and self._ends_at <= now:
                self._tell(batch, durable=False)
                lost = sum(len(handed.entries) for handed in batch)
                log.critical("%d entries could not be written before the end", lost)
                return
            time.sleep(RETRY_S)
        self._tell_late(batch, time.monotonic())
        self._tell(batch, durable=True)

    def _wrote(self, batch: list[_Handed[W]]) -> bool:
        try:
            self._store.write([entry for handed in batch for entry, _ in handed.entries])
        except LedgerUnavailable as error:
            if self.trouble is None:
                log.error("%s; calls are refused until it can be written", error)  # noqa: TRY400 — no traceback: the sentence is the news
            self.trouble = str(error)
            return False
        if self.trouble is not None:
            log.warning("the ledger %s can be written again", self._store.path)
            self.trouble = None
        return True

    def _take_in(self, batch: list[_Handed[W]]) -> None:
        """Add to a batch that waits what came meanwhile; the end stays for `_run` to find."""
        with suppress(Empty):
            while True:
                handed = self._queue.get_nowait()
                if handed is None:
                    self._queue.put(None)
                    return
                batch.append(handed)

    def _tell_late(self, batch: list[_Handed[W]], now: float) -> None:
        """Tell those who have waited for too long, whatever became of their entries."""
        self._tell([handed for handed in batch if handed.until <= now], durable=False)

    def _tell(self, batch: Sequence[_Handed[W]], *, durable: bool) -> None:
        """Tell those who were not told yet, all at once."""
        untold = [handed for handed in batch if handed.waits]
        waiters = [waiter for handed in untold for _, waiter in handed.entries if waiter is not None]
        for handed in untold:
            handed.waits = False
        if waiters:
            self._acknowledge(waiters, durable)
