"""The ledger as the drivers see it: hand in an entry, and wait until it is durable."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Protocol

from tierwise.core.ledger import Entry
from tierwise.stores.ledger.writer import EntryStore, GroupCommit


class AsyncLedger(Protocol):
    """Entries from coroutines of one event loop."""

    @property
    def trouble(self) -> str | None:
        """Why the ledger cannot be written now; None when it can."""
        ...

    def put(self, entry: Entry) -> None:
        """Hand in an entry."""
        ...

    async def record(self, entry: Entry) -> bool:
        """Hand in an entry and wait until it is durable; False when the wait was given up."""
        ...


class SyncLedger(Protocol):
    """Entries from any thread."""

    @property
    def trouble(self) -> str | None:
        """Why the ledger cannot be written now; None when it can."""
        ...

    def put(self, entry: Entry) -> None:
        """Hand in an entry."""
        ...

    def record(self, entry: Entry) -> bool:
        """Hand in an entry and wait until it is durable; False when the wait was given up."""
        ...


class LoopLedger:
    """A group commit whose acknowledgements come to one event loop, one call a batch."""

    def __init__(self, store: EntryStore, loop: asyncio.AbstractEventLoop) -> None:
        """Write to `store`, acknowledge on `loop`."""
        self._loop = loop
        self._commits: GroupCommit[asyncio.Future[bool]] = GroupCommit(store, acknowledge=self._from_writer)

    @property
    def trouble(self) -> str | None:
        """Why the ledger cannot be written now; None when it can."""
        return self._commits.trouble

    def put(self, entry: Entry) -> None:
        """Hand in an entry."""
        self._commits.put(entry)

    async def record(self, entry: Entry) -> bool:
        """Hand in an entry and wait until it is durable; False when the wait was given up."""
        durable = self._loop.create_future()
        self._commits.put(entry, durable)
        return await durable

    def close(self) -> None:
        """Write what is left and close the store."""
        self._commits.close()

    def _from_writer(self, waiters: Sequence[asyncio.Future[bool]], durable: bool) -> None:  # noqa: FBT001 — the writer's call
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_resolve, waiters, durable)


def _resolve(waiters: Sequence[asyncio.Future[bool]], durable: bool) -> None:  # noqa: FBT001 — one call for both outcomes
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(durable)


class _Ticket:
    """What a thread waits on."""

    __slots__ = ("done", "durable")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.durable = False


class ThreadLedger:
    """A group commit that threads wait for."""

    def __init__(self, store: EntryStore) -> None:
        """Write to `store`."""
        self._commits: GroupCommit[_Ticket] = GroupCommit(store, acknowledge=_ring)

    @property
    def trouble(self) -> str | None:
        """Why the ledger cannot be written now; None when it can."""
        return self._commits.trouble

    def put(self, entry: Entry) -> None:
        """Hand in an entry."""
        self._commits.put(entry)

    def record(self, entry: Entry) -> bool:
        """Hand in an entry and wait until it is durable; False when the wait was given up."""
        ticket = _Ticket()
        self._commits.put(entry, ticket)
        ticket.done.wait()
        return ticket.durable

    def close(self) -> None:
        """Write what is left and close the store."""
        self._commits.close()


def _ring(tickets: Sequence[_Ticket], durable: bool) -> None:  # noqa: FBT001 — the writer's call
    for ticket in tickets:
        ticket.durable = durable
        ticket.done.set()
