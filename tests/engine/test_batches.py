"""Batches on their way out, by a clock of the tests' own: what they keep, what they give back, and for how long."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from support.plays import calls
from support.policies import book
from support.processes import BUDGETED, breaches, totals
from tierwise.core.ledger import Batched, Entry
from tierwise.engine.batches import BatchDesk, OpenedBatch
from tierwise.engine.budgets import LocalBudgets, Warnings
from tierwise.engine.desk import Desk
from tierwise.engine.ledger import LoopLedger
from tierwise.engine.upkeep import Upkeep
from tierwise.stores.budgets.memory import MemoryBudgets
from tierwise.stores.conversations import Conversations
from tierwise.stores.ledger.sqlite import open_ledger, read_ledger

DAY_US: Final = 86_400_000_000
FIRST: Final = {"role": "user", "content": "Which firm signed?"}
LATER: Final = [FIRST, {"role": "assistant", "content": "Acme."}, {"role": "user", "content": "When?"}]


@dataclass(slots=True)
class Clock:
    now_us: int = 1_795_000_000_000_000

    def __call__(self) -> int:
        return self.now_us


@dataclass(slots=True)
class Elsewhere:
    """What another gateway knows of conversations."""

    known: str | None
    asked: list[str] = field(default_factory=list[str])

    async def tier(self, key: str) -> str | None:
        self.asked.append(key)
        await asyncio.sleep(0)
        return self.known


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A gateway's engine, without its door."""

    path: Path
    desk: Desk
    conversations: Conversations
    budgets: MemoryBudgets
    ledger: LoopLedger
    batches: BatchDesk
    clock: Clock

    async def open(self, *messages: Sequence[Any], elsewhere: Elsewhere | None = None) -> OpenedBatch:
        """Open a batch of an extraction for each of some conversations."""
        opened = await self.batches.open(a_batch(*messages), {}, key_id="k", conversations=elsewhere)
        assert isinstance(opened, OpenedBatch)
        return opened

    def upkeep(self) -> Upkeep:
        return Upkeep(
            read=lambda: read_ledger(self.path),
            put=self.ledger.put,
            position=-1,
            budgets=self.budgets,
            forgetful=self.budgets,
            desk=self.desk,
            clock=self.clock,
        )


def a_call(messages: Sequence[Any]) -> dict[str, Any]:
    return {"model": "task/extraction", "max_tokens": 400, "messages": messages}


def a_batch(*messages: Sequence[Any]) -> bytes:
    requests = [{"custom_id": f"i{place}", "params": a_call(each)} for place, each in enumerate(messages)]
    return json.dumps({"requests": requests}).encode()


def texts(number: int) -> list[Sequence[Any]]:
    """Conversations of one turn, each its own."""
    return [[{"role": "user", "content": f"Which firm signed contract {each}?"}] for each in range(number)]


@asynccontextmanager
async def a_bench(
    folder: Path,
    *,
    capacity: int = 1000,
    new_id: Callable[[], str] | None = None,
) -> AsyncGenerator[Bench]:
    path, clock = folder / "ledger.sqlite3", Clock()
    numbers = iter(range(1_000_000))
    conversations, budgets = Conversations(capacity=capacity), MemoryBudgets()
    desk = Desk(
        book(BUDGETED),
        conversations=conversations,
        clock=clock,
        new_id=new_id or (lambda: f"c{next(numbers):06}"),
    )
    ledger = LoopLedger(open_ledger(path), asyncio.get_running_loop())
    batches = BatchDesk(
        desk=desk,
        ledger=ledger,
        budgets=LocalBudgets(budgets),
        warnings=Warnings(),
        read=lambda: read_ledger(path),
        clock=clock,
    )
    try:
        yield Bench(
            path=path,
            desk=desk,
            conversations=conversations,
            budgets=budgets,
            ledger=ledger,
            batches=batches,
            clock=clock,
        )
    finally:
        await asyncio.to_thread(ledger.close)


def decided_tiers(batch: OpenedBatch) -> list[str | None]:
    return [each.plan.decision.tier for each in batch.items]


# Conversations


def test_a_batch_of_many_items_pushes_no_conversation_out(tmp_path: Path) -> None:
    async def play() -> tuple[int, str | None]:
        async with a_bench(tmp_path, capacity=3) as bench:
            bench.desk.open(json.dumps(a_call([FIRST])).encode(), {})
            await bench.open(*texts(50), [FIRST])
            reading = bench.desk.read(json.dumps(a_call(LATER)).encode(), {})
            return len(bench.conversations), reading.kept

    assert asyncio.run(play()) == (1, "fast")


def test_an_item_that_goes_on_is_decided_on_the_tier_of_its_conversation(tmp_path: Path) -> None:
    async def play() -> list[str | None]:
        async with a_bench(tmp_path) as bench:
            reading = bench.desk.read(json.dumps(a_call(LATER)).encode(), {})
            assert reading.conversation is not None
            bench.conversations.keep(reading.conversation, "frontier", until_us=bench.clock() + 1_000_000)
            return decided_tiers(await bench.open(LATER, [FIRST]))

    assert asyncio.run(play()) == ["frontier", "fast"]


def test_other_gateways_are_asked_once_for_each_conversation_that_goes_on(tmp_path: Path) -> None:
    elsewhere = Elsewhere("frontier")
    others = [[{**FIRST, "content": f"Contract {place}"}, *LATER[1:]] for place in range(300)]

    async def play() -> list[str | None]:
        async with a_bench(tmp_path) as bench:
            return decided_tiers(await bench.open(LATER, [FIRST], LATER, *others, elsewhere=elsewhere))

    assert asyncio.run(play()) == ["frontier", "fast", *["frontier"] * 301]
    assert len(elsewhere.asked) == len(set(elsewhere.asked)) == 301


def test_what_no_gateway_knows_is_decided_by_its_type(tmp_path: Path) -> None:
    async def play() -> list[str | None]:
        async with a_bench(tmp_path) as bench:
            return decided_tiers(await bench.open(LATER, elsewhere=Elsewhere(None)))

    assert asyncio.run(play()) == ["fast"]


# Turns and failures


def test_a_large_batch_lets_other_calls_have_their_turns(tmp_path: Path) -> None:
    async def play() -> set[int]:
        async with a_bench(tmp_path) as bench:
            opening = asyncio.create_task(bench.open(*texts(1000)))
            seen: set[int] = set()
            while not opening.done():
                seen.add(bench.budgets.open_reservations)
                await asyncio.sleep(0)
            return seen

    seen = asyncio.run(play())

    assert len([granted for granted in seen if 0 < granted < 1000]) >= 10


def test_a_failure_on_the_way_out_sets_nothing_aside(tmp_path: Path) -> None:
    ids = iter(["c1", "c2", "c3"])  # of the items: there is none for the batch

    def new_id() -> str:
        found = next(ids, None)
        if found is None:
            raise ZeroDivisionError
        return found

    async def play() -> int:
        async with a_bench(tmp_path, new_id=new_id) as bench:
            with pytest.raises(ZeroDivisionError):
                await bench.open(*texts(3))
            return bench.budgets.open_reservations

    assert asyncio.run(play()) == 0
    assert totals(tmp_path / "ledger.sqlite3") == (0, 0)


def test_a_caller_that_leaves_while_its_batch_is_read_sets_nothing_aside(tmp_path: Path) -> None:
    async def play() -> int:
        async with a_bench(tmp_path) as bench:
            opening = asyncio.create_task(bench.open(*texts(1000)))
            while not opening.done():
                if bench.budgets.open_reservations:
                    opening.cancel()
                await asyncio.sleep(0)
            assert opening.cancelled()
            return bench.budgets.open_reservations

    assert asyncio.run(play()) == 0


# The thirty days


@pytest.mark.parametrize(("days", "assumed"), [(29, 0), (30, 2), (31, 2)])
def test_items_whose_results_nobody_fetches_are_posted_as_assumed_after_thirty_days(
    tmp_path: Path, days: int, assumed: int
) -> None:
    async def play() -> tuple[int, int]:
        async with a_bench(tmp_path) as bench:
            batch = await bench.open(*texts(2))
            assert await bench.batches.book(batch)
            await bench.batches.taken(batch, b'{"id": "msgbatch_1"}')
            looking = bench.upkeep()
            bench.clock.now_us += days * DAY_US + 1
            looking.round()
            await bench.ledger.record(_something(bench))
            looking.tick()
            looking.close()
            held = bench.budgets.balance("all-lifetime|lifetime")
            return held.posted_nanos, held.pending_nanos

    posted, pending = asyncio.run(play())

    path = tmp_path / "ledger.sqlite3"
    assert [call["basis"] for call in calls(path)].count("assumed") == assumed
    assert (posted, pending) == totals(path)
    assert bool(posted) == bool(assumed) != bool(pending)
    assert breaches(path) == 0


def _something(bench: Bench) -> Entry:
    """An entry whose durability means that of all before it."""
    return Batched(entry_id="other", at_us=bench.clock(), batch_id="other")
