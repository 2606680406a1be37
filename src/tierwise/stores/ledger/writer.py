"""Group commit: one thread writes what has gathered, and acknowledges a batch at once.

Entries that arrive while a batch is written make the next one, so a batch grows with the load and a lone entry
waits for nobody. When the ledger cannot be written, nothing is dropped: the batch is tried again until it can, and
`trouble` says why; whoever waits is told after `PATIENCE_S` that its entry is not durable yet.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Final, Generic, Protocol, TypeVar

from tierwise.core.ledger import Entry
from tierwise.errors import LedgerUnavailable

PATIENCE_S: Final = 5.0
"""How long a waiter waits for a ledger that cannot be written, in seconds."""
RETRY_S: Final = 0.25
LARGEST_BATCH: Final = 512

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
        self._closing = False
        self._store = store
        self._acknowledge = acknowledge
        self._queue: SimpleQueue[tuple[Entry, W | None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="tierwise-ledger", daemon=True)
        self._thread.start()

    def put(self, entry: Entry, waiter: W | None = None) -> None:
        """Hand in an entry; `waiter` is acknowledged once it is durable."""
        self._queue.put((entry, waiter))

    def close(self) -> None:
        """Write what is left, close the store, end the thread.

        A store that cannot be written is given `PATIENCE_S`, and what it did not take is told to the log.
        """
        self._closing = True
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        going = True
        while going:
            batch, going = self._gather()
            if batch:
                self._write(batch)
        self._store.close()

    def _gather(self) -> tuple[list[tuple[Entry, W | None]], bool]:
        """Wait for an entry, then take what is there; False at the end."""
        batch: list[tuple[Entry, W | None]] = []
        item = self._queue.get()
        try:
            while item is not None:
                batch.append(item)
                if len(batch) == LARGEST_BATCH:
                    return batch, True
                item = self._queue.get_nowait()
        except Empty:
            return batch, True
        return batch, False

    def _write(self, batch: list[tuple[Entry, W | None]]) -> None:
        entries = [entry for entry, _ in batch]
        waiters = [waiter for _, waiter in batch if waiter is not None]
        give_up_at = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._store.write(entries)
            except LedgerUnavailable as error:
                if self.trouble is None:
                    log.error("%s; calls are refused until it can be written", error)  # noqa: TRY400 — no traceback: the sentence is the news
                self.trouble = str(error)
            else:
                break
            if time.monotonic() >= give_up_at:
                if waiters:
                    self._acknowledge(waiters, False)  # noqa: FBT003
                    waiters = []
                if self._closing:
                    log.critical("%d entries could not be written before the end", len(entries))
                    return
            time.sleep(RETRY_S)
        if self.trouble is not None:
            log.warning("the ledger %s can be written again", self._store.path)
            self.trouble = None
        if waiters:
            self._acknowledge(waiters, True)  # noqa: FBT003
