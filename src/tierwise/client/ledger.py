"""A session's ledger: one writer, for threads and for the coroutines of any event loop."""

import asyncio
import logging
import threading
from collections.abc import Sequence
from typing import Final

from tierwise.core.ledger import Entry
from tierwise.stores.ledger.writer import EntryStore, GroupCommit

log: Final = logging.getLogger("tierwise.ledger")


class _Ticket:
    """What a thread or a coroutine waits on."""

    __slots__ = ("done", "durable", "future")

    def __init__(self, future: asyncio.Future[bool] | None) -> None:
        self.future = future
        self.done = threading.Event() if future is None else None
        self.durable = False


class SessionLedger:
    """A group commit that anything may wait for; without a store it records nothing."""

    def __init__(self, store: EntryStore | None) -> None:
        """Write to `store`."""
        self._commits = None if store is None else GroupCommit[_Ticket](store, acknowledge=_tell)
        self._closing = threading.RLock()
        self._closed = False

    @property
    def trouble(self) -> str | None:
        """Why the ledger cannot be written now; None when it can."""
        return None if self._commits is None else self._commits.trouble

    def put(self, entry: Entry) -> None:
        """Hand in an entry."""
        self._hand_in(entry, None)

    def record(self, entry: Entry) -> bool:
        """Hand in an entry and wait until it is durable; False when the wait was given up."""
        if self._commits is None:
            return True
        ticket = _Ticket(None)
        if ticket.done is not None and self._hand_in(entry, ticket):
            ticket.done.wait()
        return ticket.durable

    async def record_async(self, entry: Entry) -> bool:
        """Hand in an entry and wait, in a coroutine, until it is durable; False when the wait was given up."""
        if self._commits is None:
            return True
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        return self._hand_in(entry, _Ticket(future)) and await future

    def close(self) -> None:
        """Write what is left and close the store; an entry that comes later is lost, and the log says so."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        if self._commits is not None:
            self._commits.close()

    def _hand_in(self, entry: Entry, ticket: _Ticket | None) -> bool:
        if self._commits is None:
            return True
        with self._closing:
            if not self._closed:
                self._commits.put(entry, ticket)
                return True
        log.error("an entry came after the session was closed, and is not in the ledger: %r", entry)
        return False


class LoopSide:
    """A session's ledger for coroutines."""

    def __init__(self, ledger: SessionLedger) -> None:
        """Write to `ledger`."""
        self._ledger = ledger

    @property
    def trouble(self) -> str | None:
        """Why the ledger cannot be written now; None when it can."""
        return self._ledger.trouble

    def put(self, entry: Entry) -> None:
        """Hand in an entry."""
        self._ledger.put(entry)

    async def record(self, entry: Entry) -> bool:
        """Hand in an entry and wait until it is durable; False when the wait was given up."""
        return await self._ledger.record_async(entry)


def _tell(tickets: Sequence[_Ticket], durable: bool) -> None:  # noqa: FBT001 — the writer's call
    """Ring for each thread; tell each event loop of all its coroutines in one call."""
    loops: dict[asyncio.AbstractEventLoop, list[asyncio.Future[bool]]] = {}
    for ticket in tickets:
        if ticket.future is not None:
            loops.setdefault(ticket.future.get_loop(), []).append(ticket.future)
        elif ticket.done is not None:
            ticket.durable = durable
            ticket.done.set()
    for loop, futures in loops.items():
        try:
            loop.call_soon_threadsafe(_resolve, futures, durable)
        except RuntimeError:  # the loop is closed, and nobody waits
            continue


def _resolve(futures: Sequence[asyncio.Future[bool]], durable: bool) -> None:  # noqa: FBT001 — one call for both outcomes
    for future in futures:
        if not future.done():
            future.set_result(durable)
