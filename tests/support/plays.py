"""Plays: one call driven to its end by a real driver, over a provider in memory and a real ledger in a file."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from support.policies import book
from support.transcripts import MemorySyncUpstream, MemoryUpstream, Script, Transcript
from tierwise.config import Book
from tierwise.core.attempts import TryAgain
from tierwise.core.budgets import Crossing
from tierwise.core.changes import Change
from tierwise.core.effects import Answer
from tierwise.core.ledger import Decided, Entry, SetAside
from tierwise.engine.budgets import BudgetStore, LocalBudgets, Warnings
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
from tierwise.wire.requests import counting_body, rewrite

Driver: TypeAlias = Literal["coroutine", "thread"]

READ_US: Final = 1_795_000_000_000_000
"""When a play's request is read; each later look at the clock is a millisecond later."""

COUNTING: Final = "/v1/messages/count_tokens"

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
    crossings: list[Crossing]
    """What was warned of."""
    tier_kept: str | None
    """The tier that its conversation has afterwards."""
    again: TryAgain | None
    """The attempt that is to be made."""


@dataclass(slots=True)
class Clock:
    """A millisecond passes with each look at it, and what a test lets pass."""

    now_us: int = READ_US - 1000

    def __call__(self) -> int:
        self.now_us += 1000
        return self.now_us

    def sleep(self, seconds: float) -> None:
        self.now_us += round(seconds * 1_000_000)


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
    during_wait: Callable[[], None] = lambda: None,
    leaves_waiting: bool = False,
    hangs_on: bool = False,
    call_id: str = "c1",
    tries_again: bool = False,
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
        during_wait: called each time the call waits for money, which takes the play no time.
        leaves_waiting: whether the caller leaves while its call waits for money: for coroutines only.
        hangs_on: whether the call is not cancelled where the provider hangs: the driver gives it up.
        call_id: names the call.
        tries_again: whether another attempt would be made where one is to be.
    """
    clock = Clock()
    conversations = Conversations()
    desk = Desk(policy or book(), conversations=conversations, clock=clock, new_id=lambda: call_id)
    reading = desk.read(json.dumps(body).encode(), {})
    scene = _Scene(
        opened=desk.begin(reading, tries_again=tries_again),
        conversations=conversations,
        conversation=reading.conversation or "",
        provider=provider,
        path=ledger_path,
        clock=clock,
        leaves_after=leaves_after,
        stops=stops,
        store=store,
        then=then,
        budgets=budgets or MemoryBudgets(),
        during_wait=during_wait,
        leaves_waiting=leaves_waiting,
        hangs_on=hangs_on,
    )
    return asyncio.run(_in_coroutine(scene)) if driver == "coroutine" else _in_thread(scene)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scene:
    """What both drivers are given."""

    opened: Opened
    conversations: Conversations
    conversation: str
    provider: Transcript | Script
    path: Path
    clock: Clock
    leaves_after: int | None
    stops: bool
    store: Callable[[Path], EntryStore]
    then: Callable[[], None]
    budgets: BudgetStore
    during_wait: Callable[[], None]
    leaves_waiting: bool
    hangs_on: bool
    notes: list[str] = field(default_factory=list[str])
    crossings: list[Crossing] = field(default_factory=list[Crossing])

    def pass_time(self, seconds: float) -> None:
        self.notes.append("waits")
        self.during_wait()
        self.clock.sleep(min(seconds, 0.25))

    def played(
        self,
        taken: Taken,
        requests: list[Outgoing],
        closed: list[bool],
        *,
        again: TryAgain | None,
        cancelled: bool = False,
    ) -> Played:
        return Played(
            taken=taken,
            notes=self.notes,
            requests=requests,
            closed=closed,
            cancelled=cancelled,
            call=only_call(self.path),
            opened=self.opened,
            crossings=self.crossings,
            again=again,
            tier_kept=self.conversations.tier(self.conversation, at_us=READ_US),
        )


class _PatientBudgets(LocalBudgets):
    """Balances whose waits pass on the play's clock alone."""

    def __init__(self, scene: _Scene, caller: "_Caller") -> None:
        super().__init__(scene.budgets)
        self._scene = scene
        self._caller = caller

    async def wait(self, timeout_s: float) -> None:
        self._scene.pass_time(timeout_s)
        if self._scene.leaves_waiting:
            self._caller.leave()
        await asyncio.sleep(0)


async def _in_coroutine(scene: _Scene) -> Played:
    notes = scene.notes
    upstream = MemoryUpstream(scene.provider, notes)
    ledger = LoopLedger(scene.store(scene.path), asyncio.get_running_loop())
    caller = _Caller(notes, scene.path, scene.leaves_after)
    driver = RelayDriver(
        scene.opened,
        outgoing=_outgoing(scene.opened),
        counting=_counting(scene.opened),
        upstream=upstream,
        ledger=_NotedLedger(ledger, notes),
        budgets=_PatientBudgets(scene, caller),
        warnings=Warnings(scene.crossings.append),
        caller=caller,
        clock=scene.clock,
    )
    running = asyncio.create_task(driver.run())
    hanging = asyncio.create_task(upstream.hanging.wait())
    await asyncio.wait({running, hanging}, return_when=asyncio.FIRST_COMPLETED)
    if not running.done() and not scene.hangs_on:
        caller.gone = not scene.stops
        running.cancel()
    hanging.cancel()
    (ended,) = await asyncio.gather(running, return_exceptions=True)
    if ended is not None and not isinstance(ended, asyncio.CancelledError):
        raise ended
    scene.then()
    await asyncio.to_thread(ledger.close)
    closed = [reply.closed for reply in upstream.replies]
    return scene.played(
        caller.taken, upstream.requests, closed, again=driver.again, cancelled=ended is not None
    )


def _in_thread(scene: _Scene) -> Played:
    notes = scene.notes
    upstream = MemorySyncUpstream(scene.provider, notes)
    ledger = ThreadLedger(scene.store(scene.path))
    caller = _SyncCaller(notes, scene.path, scene.leaves_after)
    driver = SyncRelayDriver(
        scene.opened,
        outgoing=_outgoing(scene.opened),
        counting=_counting(scene.opened),
        upstream=upstream,
        ledger=_NotedSyncLedger(ledger, notes),
        budgets=scene.budgets,
        warnings=Warnings(scene.crossings.append),
        caller=caller,
        clock=scene.clock,
        sleep=scene.pass_time,
    )
    driver.run()
    scene.then()
    ledger.close()
    closed = [reply.closed for reply in upstream.replies]
    return scene.played(caller.taken, upstream.requests, closed, again=driver.again)


class _HastyBudgets(LocalBudgets):
    """Balances whose waits pass on the play's clock, and on the world's only for a moment."""

    def __init__(self, store: BudgetStore, clock: Clock) -> None:
        super().__init__(store)
        self._clock = clock

    async def wait(self, timeout_s: float) -> None:
        self._clock.sleep(min(timeout_s, 0.25))
        await super().wait(0.0001)


def play_together(
    provider: Script,
    ledger_path: Path,
    *,
    policy: Book,
    budgets: BudgetStore,
    leave_after: Sequence[int | None],
) -> list[Taken]:
    """Play calls of one body together, in one event loop: of each, after how many parts its caller leaves."""
    return asyncio.run(_together(provider, ledger_path, policy, budgets, leave_after))


async def _together(
    provider: Script, path: Path, policy: Book, store: BudgetStore, leave_after: Sequence[int | None]
) -> list[Taken]:
    clock, numbers, notes = Clock(), count(), list[str]()
    desk = Desk(policy, conversations=Conversations(), clock=clock, new_id=lambda: f"c{next(numbers)}")
    ledger = LoopLedger(open_ledger(path), asyncio.get_running_loop())
    budgets = _HastyBudgets(store, clock)
    callers = [_Caller(notes, path, leaves_after) for leaves_after in leave_after]

    async def run(caller: _Caller) -> None:
        opened = desk.open(json.dumps(BODY).encode(), {})
        await RelayDriver(
            opened,
            outgoing=_outgoing(opened),
            counting=_counting(opened),
            upstream=MemoryUpstream(provider),
            ledger=ledger,
            budgets=budgets,
            warnings=Warnings(),
            caller=caller,
            clock=clock,
        ).run()

    await asyncio.gather(*(run(caller) for caller in callers))
    await asyncio.to_thread(ledger.close)
    return [caller.taken for caller in callers]


def calls(path: Path, where: str = "true") -> list[dict[str, Any]]:
    """The ledger's calls, oldest first."""
    with closing(read_ledger(path)) as ledger:
        return [dict(row) for row in ledger.rows(f"SELECT * FROM calls WHERE {where} ORDER BY call_id")]


def only_call(path: Path) -> dict[str, Any]:
    """The only call of a ledger."""
    (call,) = calls(path)
    return call


def _outgoing(opened: Opened) -> Callable[[tuple[Change, ...]], Outgoing]:
    return lambda changes: Outgoing(
        method="POST", target="/v1/messages", headers=(), body=rewrite(opened.body, changes)
    )


def _counting(opened: Opened) -> Callable[[tuple[Change, ...]], Outgoing]:
    return lambda changes: Outgoing(
        method="POST", target=COUNTING, headers=(), body=counting_body(opened.body, changes)
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

    def leave(self) -> None:
        self.gone = True
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async def send(self, chunk: bytes) -> None:
        if self._leaves_now:
            self.leave()
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
