"""Plays: one call driven to its end by a real driver, over a provider in memory and a real ledger in a file."""

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from support.policies import book
from support.transcripts import MemorySyncUpstream, MemoryUpstream, Script, Transcript
from tierwise.config import Book
from tierwise.core.changes import Change
from tierwise.core.exchange import Answer
from tierwise.core.ledger import Decided, Entry, SetAside
from tierwise.engine.budgets import BudgetStore
from tierwise.engine.desk import Desk, Opened
from tierwise.engine.ledger import LoopLedger, ThreadLedger
from tierwise.engine.relay import RelayDriver
from tierwise.engine.relay_sync import SyncRelayDriver
from tierwise.errors import CallerGone
from tierwise.stores.budgets.memory import MemoryBudgets
from tierwise.stores.conversations import Conversations
from tierwise.stores.ledger.sqlite import open_ledger, read_ledger
from tierwise.stores.ledger.writer import EntryStore
from tierwise.upstream.port import Headers, Outgoing
from tierwise.wire.requests import rewrite

Driver: TypeAlias = Literal["coroutine", "thread"]

READ_US: Final = 1_795_000_000_000_000
"""When a play's request is read; each later look at the clock is a millisecond later."""

BODY: Final[Mapping[str, Any]] = {
    "model": "task/extraction",
    "max_tokens": 4096,
    "messages": [{"role": "user", "content": "Which firm signed?"}],
}


@dataclass(slots=True, kw_only=True)
class Taken:
    """What the caller was handed, in order."""

    status: int | None = None
    parts: list[bytes] = field(default_factory=list[bytes])
    finished: bool = False
    broken: bool = False
    answered: Answer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """How a play went."""

    taken: Taken
    notes: list[str]
    """What happened, in order: entries handed in and durable, the request sent, the caller served."""
    requests: list[Outgoing]
    closed: list[bool]
    """Of each reply, whether the driver closed it."""
    cancelled: bool
    """Whether the driver passed a cancellation on."""
    call: dict[str, Any]
    """The call's row in the ledger once it is closed."""
    opened: Opened


def play(
    driver: Driver,
    provider: Transcript | Script,
    ledger_path: Path,
    *,
    body: Mapping[str, Any] = BODY,
    policy: Book | None = None,
    leaves_after: int | None = None,
    stops: bool = False,
    store: Callable[[Path], EntryStore] = open_ledger,
    then: Callable[[], None] = lambda: None,
    budgets: BudgetStore | None = None,
) -> Played:
    """Play one call.

    Args:
        driver: whose.
        provider: what it does.
        ledger_path: where a ledger is made.
        body: the request.
        policy: the one in force; None takes two tiers.
        leaves_after: how many parts of the body the caller takes before it leaves; None stays.
        stops: whether the gateway's end cancels the call where the provider hangs; else the caller leaves there.
        store: opens the ledger.
        then: called once the call is done, before the ledger is closed.
        budgets: the accounts; None takes empty ones.
    """
    tick = count(READ_US, 1000).__next__
    desk = Desk(policy or book(), conversations=Conversations(), clock=tick, new_id=lambda: "c1")
    opened = desk.open(json.dumps(body).encode(), {})
    accounts = budgets or MemoryBudgets()
    if driver == "coroutine":
        return asyncio.run(
            _in_coroutine(opened, provider, ledger_path, tick, leaves_after, stops, store, then, accounts)
        )
    return _in_thread(opened, provider, ledger_path, tick, leaves_after, store, then, accounts)


async def _in_coroutine(
    opened: Opened,
    provider: Transcript | Script,
    path: Path,
    tick: Callable[[], int],
    leaves_after: int | None,
    stops: bool,
    store: Callable[[Path], EntryStore],
    then: Callable[[], None],
    budgets: BudgetStore,
) -> Played:
    notes: list[str] = []
    upstream = MemoryUpstream(provider, notes)
    ledger = LoopLedger(store(path), asyncio.get_running_loop())
    caller = _Caller(notes, path, leaves_after)
    driver = RelayDriver(
        opened.exchange,
        outgoing=_outgoing(opened),
        upstream=upstream,
        ledger=_NotedLedger(ledger, notes),
        budgets=budgets,
        caller=caller,
        clock=tick,
    )
    running = asyncio.create_task(driver.run())
    hanging = asyncio.create_task(upstream.hanging.wait())
    await asyncio.wait({running, hanging}, return_when=asyncio.FIRST_COMPLETED)
    if not running.done():
        caller.gone = not stops
        running.cancel()
    hanging.cancel()
    (ended,) = await asyncio.gather(running, return_exceptions=True)
    if ended is not None and not isinstance(ended, asyncio.CancelledError):
        raise ended
    then()
    await asyncio.to_thread(ledger.close)
    return Played(
        taken=caller.taken,
        notes=notes,
        requests=upstream.requests,
        closed=[reply.closed for reply in upstream.replies],
        cancelled=ended is not None,
        call=only_call(path),
        opened=opened,
    )


def _in_thread(
    opened: Opened,
    provider: Transcript | Script,
    path: Path,
    tick: Callable[[], int],
    leaves_after: int | None,
    store: Callable[[Path], EntryStore],
    then: Callable[[], None],
    budgets: BudgetStore,
) -> Played:
    notes: list[str] = []
    upstream = MemorySyncUpstream(provider, notes)
    ledger = ThreadLedger(store(path))
    caller = _SyncCaller(notes, path, leaves_after)
    driver = SyncRelayDriver(
        opened.exchange,
        outgoing=_outgoing(opened),
        upstream=upstream,
        ledger=_NotedSyncLedger(ledger, notes),
        budgets=budgets,
        caller=caller,
        clock=tick,
    )
    driver.run()
    then()
    ledger.close()
    return Played(
        taken=caller.taken,
        notes=notes,
        requests=upstream.requests,
        closed=[reply.closed for reply in upstream.replies],
        cancelled=False,
        call=only_call(path),
        opened=opened,
    )


def calls(path: Path, where: str = "true") -> list[dict[str, Any]]:
    """The ledger's calls, oldest first."""
    with closing(read_ledger(path)) as ledger:
        rows = ledger.execute(f"SELECT * FROM calls WHERE {where} ORDER BY call_id").fetchall()
    return [dict(row) for row in rows]


def only_call(path: Path) -> dict[str, Any]:
    """The only call of a ledger."""
    (call,) = calls(path)
    return call


def _outgoing(opened: Opened) -> Callable[[tuple[Change, ...]], Outgoing]:
    return lambda changes: Outgoing(
        method="POST", target="/v1/messages", headers=(), body=rewrite(opened.body, changes)
    )


def _kind(entry: Entry) -> str:
    match entry:
        case Decided():
            return "decision"
        case SetAside():
            return "reservation"
        case _:
            return "ending"


class _NotedLedger:
    def __init__(self, ledger: LoopLedger, notes: list[str]) -> None:
        self._ledger = ledger
        self._notes = notes

    @property
    def trouble(self) -> str | None:
        return self._ledger.trouble

    def put(self, entry: Entry) -> None:
        self._notes.append(f"{_kind(entry)} handed in")
        self._ledger.put(entry)

    async def record(self, entry: Entry) -> bool:
        self._notes.append(f"{_kind(entry)} handed in")
        durable = await self._ledger.record(entry)
        self._notes.append(f"{_kind(entry)} {'durable' if durable else 'not durable yet'}")
        return durable


class _NotedSyncLedger:
    def __init__(self, ledger: ThreadLedger, notes: list[str]) -> None:
        self._ledger = ledger
        self._notes = notes

    @property
    def trouble(self) -> str | None:
        return self._ledger.trouble

    def put(self, entry: Entry) -> None:
        self._notes.append(f"{_kind(entry)} handed in")
        self._ledger.put(entry)

    def record(self, entry: Entry) -> bool:
        self._notes.append(f"{_kind(entry)} handed in")
        durable = self._ledger.record(entry)
        self._notes.append(f"{_kind(entry)} {'durable' if durable else 'not durable yet'}")
        return durable


class _Notebook:
    """What both callers note down."""

    def __init__(self, notes: list[str], path: Path, leaves_after: int | None) -> None:
        self.taken = Taken()
        self._notes = notes
        self._path = path
        self._leaves_after = leaves_after

    @property
    def _leaves_now(self) -> bool:
        return len(self.taken.parts) == self._leaves_after

    def begin(self, status: int, headers: Headers) -> None:
        self.taken.status = status

    def take(self, chunk: bytes) -> None:
        self.taken.parts.append(chunk)
        self._notes.append("part taken")

    def take_last(self, chunk: bytes) -> None:
        """The last part, with what another reader of the ledger sees at this moment."""
        self.taken.parts.append(chunk)
        self.taken.finished = True
        ending = [call["ending"] for call in calls(self._path)]
        self._notes.append(f"last part taken, ledger has {ending}")

    def take_break(self) -> None:
        self.taken.broken = True
        self._notes.append("broken off")

    def take_answer(self, answer: Answer) -> None:
        self.taken.answered = answer
        self._notes.append(f"answered {answer.code}")


class _Caller(_Notebook):
    gone = False

    async def send(self, chunk: bytes) -> None:
        if self._leaves_now:
            self.gone = True
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        await asyncio.sleep(0)
        self.take(chunk)

    async def finish(self, chunk: bytes) -> None:
        self.take_last(chunk)

    async def break_off(self) -> None:
        self.take_break()

    async def answer(self, answer: Answer) -> None:
        self.take_answer(answer)


class _SyncCaller(_Notebook):
    def begin(self, status: int, headers: Headers) -> None:
        self._go_if_due()
        super().begin(status, headers)

    def send(self, chunk: bytes) -> None:
        self._go_if_due()
        self.take(chunk)

    def finish(self, chunk: bytes) -> None:
        self._go_if_due()
        self.take_last(chunk)

    def break_off(self) -> None:
        self._go_if_due()
        self.take_break()

    def answer(self, answer: Answer) -> None:
        self._go_if_due()
        self.take_answer(answer)

    def _go_if_due(self) -> None:
        if self._leaves_now:
            raise CallerGone
