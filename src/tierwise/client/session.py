"""A session: what the calls of a program share, as those of a gateway share its parts.

It is closed at the program's end: streams that are open are ended, and what is left is written. A forked process does
not have its parent's session; it opens its own.
"""

import asyncio
import atexit
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self, runtime_checkable
from weakref import WeakKeyDictionary, WeakSet

from tierwise.client.auditing import Again, Ear, SessionAudit
from tierwise.client.ledger import LoopSide, NoLedger, SessionLedger
from tierwise.client.paths import Kind, provider_path
from tierwise.client.streams import Streams
from tierwise.client.tasks import with_task
from tierwise.core.budgets import Crossing
from tierwise.core.policy import Policy
from tierwise.engine.balances import Balances, SharedConversations, hold_balances, upkeep_of
from tierwise.engine.budgets import AsyncBudgets, LocalBudgets, Warnings
from tierwise.engine.clock import call_ids, now_us
from tierwise.engine.desk import Desk, Opened, Reading
from tierwise.engine.doors import counted_body, is_openais, why_refused
from tierwise.engine.headers import attempt_number, credential_id, readable_headers
from tierwise.engine.ledger import ThreadLedger
from tierwise.engine.router import Router
from tierwise.errors import MalformedRequest, NeedsLedger
from tierwise.stores.budgets.memory import MemoryBudgets
from tierwise.stores.conversations import Conversations
from tierwise.stores.ledger.lock import budgets_held
from tierwise.stores.ledger.opening import is_shared, open_ledger
from tierwise.upstream.port import Headers
from tierwise.wire.errors import OwnReply, own_reply

DEFAULT_LEDGER: Final = "tierwise.sqlite3"
"""The one that `tierwise serve` writes to."""


class Session:
    """A policy at work in this process: its ledger, its budgets, and what goes on beside the calls."""

    def __init__(
        self,
        router: Router,
        *,
        ledger: Path | str | None = DEFAULT_LEDGER,
        warn: Callable[[Crossing], None] | None = None,
    ) -> None:
        """Open the ledger and take up the balances.

        Args:
            router: the policy and its prices.
            ledger: a file, or a database's address; None records nothing, and holds no budget.
            warn: told, besides the log, of accounts that come near their limits.

        Raises:
            NeedsLedger: the policy has hard budgets, and `ledger` is None.
            LedgerError: the ledger cannot be opened, or another process holds its budgets.
            BudgetStoreError: the store that the policy names for its budgets is not set up to hold money.
        """
        book = router.book
        if ledger is None and _is_hard(book.policy):
            raise NeedsLedger
        self._new_id = call_ids()
        self.desk = Desk(book, conversations=Conversations(), clock=now_us, new_id=self._new_id)
        self.audit: SessionAudit | None = None
        """Compares calls in the background; None where no type is shadowed, or nothing is recorded."""
        self.warnings = Warnings(warn)
        self._pid = os.getpid()
        self._sides: WeakKeyDictionary[asyncio.AbstractEventLoop, Side] = WeakKeyDictionary()
        self._closed = False
        with ExitStack() as opened:
            self._open(opened, ledger, book.policy)
            self.streams = Streams()
            opened.callback(self.streams.close)
            self._close = opened.pop_all().close
        atexit.register(self.close)
        _made.add(self)

    def _open(self, opened: ExitStack, where: Path | str | None, policy: Policy) -> None:
        """Open everything, to be closed in the opposite order."""
        if where is None:
            self.ledger: SessionLedger = NoLedger()
            self.balances = _without_ledger()
            return
        if policy.has_budgets and policy.budget_store is None:
            opened.enter_context(budgets_held(where))
        ledger = self.ledger = ThreadLedger(open_ledger(where, durability=policy.durability))
        opened.callback(ledger.close)
        self.balances = hold_balances(where, store=policy.budget_store)
        opened.callback(self.balances.close)
        upkeep = upkeep_of(self.balances, where, desk=self.desk, put=ledger.put, clock=now_us)
        upkeep.start()
        opened.callback(upkeep.close)
        if any(contract.shadow for contract in policy.contracts.values()):
            self.audit = SessionAudit(
                desk=self.desk, ledger=ledger, balances=self.balances, where=where, new_id=self._new_id
            )
            opened.callback(self.audit.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def is_open(self) -> bool:
        """Whether calls can be made: it is not closed, and this is the process that opened it."""
        return not self._closed and os.getpid() == self._pid

    def close(self) -> None:
        """End open streams, write what is left, let go of the ledger and its budgets. A second time does nothing.

        In a coroutine, `aclose` does this: the streams of an event loop can end while it runs, not while it waits here.
        """
        if not self.is_open:
            return
        self._closed = True
        atexit.unregister(self.close)
        self._close()

    async def aclose(self) -> None:
        """Do as `close`, in a coroutine."""
        await asyncio.to_thread(self.close)

    def begin(self, raw: bytes, headers: Headers) -> "Begun | OwnReply":
        """Read and begin a call, or answer it.

        Args:
            raw: the body.
            headers: as the call has them, names in lower case.
        """
        reading = self._read(raw, headers)
        if isinstance(reading, OwnReply):
            return reading
        kept = None
        store = self.balances.store
        if reading.is_strange and reading.conversation is not None and isinstance(store, _KnowsTiers):
            kept = store.tier(reading.conversation)
        return self._begun(reading, headers, kept)

    async def begin_async(self, raw: bytes, headers: Headers) -> "Begun | OwnReply":
        """Read and begin a call, or answer it, in a coroutine."""
        reading = self._read(raw, headers)
        if isinstance(reading, OwnReply):
            return reading
        kept = None
        conversations = self.side().conversations
        if reading.is_strange and reading.conversation is not None and conversations is not None:
            kept = await conversations.tier(reading.conversation)
        return self._begun(reading, headers, kept)

    def aside(self, kind: Kind, path: str, raw: bytes, headers: Headers) -> bytes | OwnReply:
        """Answer a request that is refused; of one that has tokens counted, return the body for the decided model."""
        path = provider_path(path)
        refused = why_refused(path, in_process=True) if kind is Kind.REFUSED else None
        if refused is not None:
            return own_reply("not-supported", refused, family="openai" if is_openais(path) else "anthropic")
        try:
            return counted_body(self.desk, raw, with_task(readable_headers(headers)))
        except MalformedRequest as error:
            return own_reply("malformed", str(error))

    def side(self) -> "Side":
        """Return what the coroutines of the running event loop share."""
        loop = asyncio.get_running_loop()
        side = self._sides.get(loop)
        if side is None:
            side = self._sides[loop] = Side(self.ledger, self.balances)
        return side

    def refusal(self) -> OwnReply | None:
        """Why no call can be made now, as an answer; None where one can."""
        if not self.is_open:
            return own_reply("internal", CLOSED if self._closed else FORKED)
        trouble = self.ledger.trouble
        if trouble is not None:
            return own_reply("ledger", f"Tierwise cannot record calls now and sends none: {trouble}")
        return None

    def ear(self, begun: "Begun", again: Again | None) -> Ear | None:
        """Draw whether a call that is about to be made is to be heard by the audit; None where it is not.

        Args:
            begun: the call.
            again: makes the audit's request; None where nobody knows where calls go.
        """
        if self.audit is None or again is None or begun.number > 1:
            return None
        return self.audit.listen(
            begun.reading, begun.opened, key_id=begun.key_id, again=again, headers=begun.headers
        )

    def _begun(self, reading: Reading, headers: Headers, kept: str | None) -> "Begun":
        key_id, number = credential_id(headers), attempt_number(headers)
        opened = self.desk.begin(reading, key_id=key_id, kept=kept, number=number)
        return Begun(reading=reading, opened=opened, headers=headers, key_id=key_id, number=number)

    def _read(self, raw: bytes, headers: Headers) -> Reading | OwnReply:
        refusal = self.refusal()
        if refusal is not None:
            return refusal
        try:
            return self.desk.read(raw, with_task(readable_headers(headers)))
        except MalformedRequest as error:
            return own_reply("malformed", str(error))


CLOSED: Final = "The session of Tierwise that this client belongs to is closed: calls are no longer made."
FORKED: Final = (
    "This process was forked after its session of Tierwise was opened, and has no ledger: make the client, and its "
    "middleware or transport, after the fork."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A call that is about to be made."""

    reading: Reading
    opened: Opened
    headers: Headers
    """As far as they are known, names in lower case."""
    key_id: str
    number: int
    """Which attempt of its client's it is, from 1."""


class Side:
    """What the coroutines of one event loop share."""

    def __init__(self, ledger: SessionLedger, balances: Balances) -> None:
        """Make the running loop's side."""
        self.ledger = LoopSide(ledger)
        self.budgets: AsyncBudgets = balances.for_loop()
        self.conversations: SharedConversations | None = balances.conversations()


def session_of(router: Router | Session, ledger: Path | str | None) -> Session:
    """Return a session, or the one that this process has for a router and a ledger; open it where there is none yet.

    Raises what `Session` raises.
    """
    if isinstance(router, Session):
        return router
    key = (router, _place(ledger))
    with _opening:
        session = _open_sessions.get(key)
        if session is None or not session.is_open:
            session = _open_sessions[key] = Session(router, ledger=ledger)
        return session


def open_sessions() -> list[Session]:
    """Return the sessions that are open in this process."""
    return [session for session in list(_made) if session.is_open]


_made: Final[WeakSet[Session]] = WeakSet()
_opening: Final = threading.Lock()
_open_sessions: Final[dict[tuple[Router, str | None], Session]] = {}


def _place(ledger: Path | str | None) -> str | None:
    return None if ledger is None else str(ledger) if is_shared(ledger) else str(Path(ledger).resolve())


def _is_hard(policy: Policy) -> bool:
    contracts = policy.contracts.values()
    return any(
        budget.hard
        for budgets in (policy.budgets, *(each.budgets for each in contracts))
        for budget in budgets
    )


def _without_ledger() -> Balances:
    """Balances that begin with this process and end with it, for budgets that only warn."""
    held = MemoryBudgets()
    return Balances(store=held, for_loop=lambda: LocalBudgets(held), position=0, forgetful=held)


@runtime_checkable
class _KnowsTiers(Protocol):
    """Balances that several processes share, and the tiers of their conversations."""

    def tier(self, key: str) -> str | None: ...
