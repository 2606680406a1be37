"""The ledger as the drivers see it: hand in an entry, and wait until it is durable."""

import asyncio
import logging
import threading
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Protocol

from tierwise.core.ledger import Entry
from tierwise.stores.ledger.writer import EntryStore, GroupCommit

log: Final = logging.getLogger("tierwise.ledger")


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
    """A group commit for the coroutines of one event loop.

    Entries go to the writer together, those of one turn of the loop, and acknowledgements come back so: a busy loop
    wakes the writer, and is woken, once for many calls.
    """

    def __init__(self, store: EntryStore, loop: asyncio.AbstractEventLoop) -> None:
        """Write to `store`, acknowledge on `loop`."""
        self._loop = loop
        self._commits: GroupCommit[asyncio.Future[bool]] = GroupCommit(store, acknowledge=self._from_writer)
        self._turn: list[tuple[Entry, asyncio.Future[bool] | None]] = []
        """The entries of this turn of the loop."""

    @property
    def trouble(self) -> str | None:
        """Why the ledger cannot be written now; None when it can."""
        return self._commits.trouble

    def put(self, entry: Entry) -> None:
        """Hand in an entry."""
        self._hand_in(entry, None)

    async def record(self, entry: Entry) -> bool:
        """Hand in an entry and wait until it is durable; False when the wait was given up."""
        durable: asyncio.Future[bool] = self._loop.create_future()
        self._hand_in(entry, durable)
        return await durable

    def close(self) -> None:
        """Write what is left and close the store: from any thread, once nothing more is handed in."""
        self._end_turn()
        self._commits.close()

    def _hand_in(self, entry: Entry, waiter: asyncio.Future[bool] | None) -> None:
        if not self._turn:
            self._loop.call_soon(self._end_turn)
        self._turn.append((entry, waiter))

    def _end_turn(self) -> None:
        turn, self._turn = self._turn, []
        if turn:
            self._commits.put_all(turn)

    def _from_writer(self, waiters: Sequence[asyncio.Future[bool]], durable: bool) -> None:  # noqa: FBT001 — the writer's call
        _tell(self._loop, waiters, durable=durable)


class _Ticket:
    """What a thread waits on."""

    __slots__ = ("done", "durable")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.durable = False


class ThreadLedger:
    """A group commit that threads wait for, and coroutines of any event loop.

    Its end may come while calls are made: an entry that comes later is lost, and the log says so.
    """

    def __init__(self, store: EntryStore) -> None:
        """Write to `store`."""
        self._commits: GroupCommit[_Ticket | asyncio.Future[bool]] = GroupCommit(
            store, acknowledge=_acknowledge
        )
        self._closing = threading.RLock()  # not Lock: a finalizer, in the middle of a put, may end a call
        self._closed = False

    @property
    def trouble(self) -> str | None:
        """Why the ledger cannot be written now; None when it can."""
        return self._commits.trouble

    def put(self, entry: Entry) -> None:
        """Hand in an entry."""
        self._hand_in(entry, None)

    def record(self, entry: Entry) -> bool:
        """Hand in an entry and wait until it is durable; False when the wait was given up."""
        ticket = _Ticket()
        if self._hand_in(entry, ticket):
            ticket.done.wait()
        return ticket.durable

    async def record_async(self, entry: Entry) -> bool:
        """Hand in an entry and wait, in a coroutine, until it is durable; False when the wait was given up."""
        durable = asyncio.get_running_loop().create_future()
        return self._hand_in(entry, durable) and await durable

    def close(self) -> None:
        """Write what is left and close the store."""
        with self._closing:
            self._closed = True
        self._commits.close()

    def _hand_in(self, entry: Entry, waiter: _Ticket | asyncio.Future[bool] | None) -> bool:
        with self._closing:
            if not self._closed:
                self._commits.put(entry, waiter)
                return True
        log.error("an entry came after the ledger was closed, and is not in it: %r", entry)
        return False


def _acknowledge(waiters: Sequence[_Ticket | asyncio.Future[bool]], durable: bool) -> None:  # noqa: FBT001 — the writer's call
    """Ring for each thread; tell each event loop of all its coroutines in one call."""
    loops: defaultdict[asyncio.AbstractEventLoop, list[asyncio.Future[bool]]] = defaultdict(list)
    for waiter in waiters:
        if isinstance(waiter, _Ticket):
            waiter.durable = durable
            waiter.done.set()
        else:
            loops[waiter.get_loop()].append(waiter)
    for loop, futures in loops.items():
        _tell(loop, futures, durable=durable)


def _tell(loop: asyncio.AbstractEventLoop, waiters: Sequence[asyncio.Future[bool]], *, durable: bool) -> None:
    with suppress(RuntimeError):  # the loop is closed, and nobody waits
        loop.call_soon_threadsafe(_resolve, waiters, durable)


def _resolve(waiters: Sequence[asyncio.Future[bool]], durable: bool) -> None:  # noqa: FBT001 — one call for both outcomes
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(durable)
