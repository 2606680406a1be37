"""A session's ledger as both drivers see it; and none, for a session that records nothing."""

from typing import Protocol

from tierwise.core.ledger import Entry
from tierwise.engine.ledger import SyncLedger


class SessionLedger(SyncLedger, Protocol):
    """Entries from any thread, and from the coroutines of any event loop."""

    async def record_async(self, entry: Entry) -> bool:
        """Hand in an entry and wait, in a coroutine, until it is durable; False when the wait was given up."""
        ...


class LoopSide:
    """A session's ledger, for the driver that waits in coroutines."""

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


class NoLedger:
    """Records nothing, and so is always done."""

    trouble = None

    def put(self, entry: Entry) -> None:
        """Take an entry."""

    def record(self, entry: Entry) -> bool:
        """Take an entry."""
        del entry
        return True

    async def record_async(self, entry: Entry) -> bool:
        """Take an entry."""
        del entry
        return True
