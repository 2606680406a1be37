"""Handing entries in and waiting for them, from coroutines and from threads."""

import asyncio
import threading
from pathlib import Path

import pytest

from support.entries import decided, posted
from support.ledgers import Lock
from support.plays import calls
from tierwise.engine.clock import call_ids, now_us
from tierwise.engine.ledger import LoopLedger, ThreadLedger
from tierwise.stores.ledger import writer
from tierwise.stores.ledger.sqlite import open_ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PATIENCE_S", 0.02)
    monkeypatch.setattr(writer, "RETRY_S", 0.002)


def test_a_coroutine_that_was_told_so_finds_its_entry_in_the_file(path: Path) -> None:
    async def record() -> list[bool]:
        ledger = LoopLedger(open_ledger(path), asyncio.get_running_loop())
        ledger.put(decided("c1"))
        durable = [await ledger.record(posted("c1"))]
        durable.append([call["ending"] for call in calls(path)] == ["posted"])
        await asyncio.to_thread(ledger.close)
        return durable

    assert asyncio.run(record()) == [True, True]


def test_a_thread_that_was_told_so_finds_its_entry_in_the_file(path: Path) -> None:
    ledger = ThreadLedger(open_ledger(path))
    ledger.put(decided("c1"))

    assert ledger.record(posted("c1"))
    assert [call["ending"] for call in calls(path)] == ["posted"]
    ledger.close()


def test_many_coroutines_and_one_that_gives_up_lose_nothing(path: Path) -> None:
    async def record() -> None:
        ledger = LoopLedger(open_ledger(path), asyncio.get_running_loop())
        waiting = [asyncio.create_task(ledger.record(decided(f"c{n}"))) for n in range(300)]
        await asyncio.sleep(0)
        waiting[7].cancel()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [n for n, result in enumerate(results) if result is not True] == [7]
        await asyncio.to_thread(ledger.close)

    asyncio.run(record())

    assert len(calls(path)) == 300


def test_many_threads_are_each_told(path: Path) -> None:
    ledger = ThreadLedger(open_ledger(path))
    told: list[bool] = []

    def record(n: int) -> None:
        told.append(ledger.record(decided(f"c{n}")))

    threads = [threading.Thread(target=record, args=(n,)) for n in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    ledger.close()

    assert told == [True] * 30
    assert len(calls(path)) == 30


def test_a_coroutine_whose_entry_is_not_durable_in_time_is_told_and_the_entry_comes_later(
    path: Path, quick: None
) -> None:
    lock = Lock()

    async def record() -> tuple[bool, str | None]:
        ledger = LoopLedger(lock.opened(path), asyncio.get_running_loop())
        durable = await ledger.record(decided("c1"))
        trouble = ledger.trouble
        lock.free.set()
        await asyncio.to_thread(ledger.close)
        return durable, trouble

    durable, trouble = asyncio.run(record())

    assert not durable
    assert trouble is not None
    assert "locked" in trouble
    assert [call["call_id"] for call in calls(path)] == ["c1"]


def test_a_thread_whose_entry_is_not_durable_in_time_is_told_and_the_entry_comes_later(
    path: Path, quick: None
) -> None:
    lock = Lock()
    ledger = ThreadLedger(lock.opened(path))

    assert not ledger.record(decided("c1"))
    assert ledger.trouble is not None
    lock.free.set()
    assert ledger.record(decided("c2"))
    assert ledger.trouble is None
    ledger.close()
    assert [call["call_id"] for call in calls(path)] == ["c1", "c2"]


def test_coroutines_of_several_loops_and_threads_wait_for_one_ledger(path: Path) -> None:
    ledger = ThreadLedger(open_ledger(path))
    told: list[bool] = []

    async def record(loop: int) -> list[bool]:
        return await asyncio.gather(*(ledger.record_async(decided(f"c{loop}-{n}")) for n in range(20)))

    def run(loop: int) -> None:
        told.extend(asyncio.run(record(loop)))

    threads = [threading.Thread(target=run, args=(loop,)) for loop in range(3)]
    for thread in threads:
        thread.start()
    told.append(ledger.record(decided("a thread's")))
    for thread in threads:
        thread.join(10)
    ledger.close()

    assert told == [True] * 61
    assert len(calls(path)) == 61


def test_a_loop_that_is_closed_does_not_keep_the_others_from_being_told(path: Path, quick: None) -> None:
    lock = Lock()
    ledger = ThreadLedger(lock.opened(path))

    async def give_up() -> None:
        waiting = asyncio.create_task(ledger.record_async(decided("c1")))
        await asyncio.sleep(0)
        waiting.cancel()

    asyncio.run(give_up())
    lock.free.set()

    assert ledger.record(decided("c2"))
    ledger.close()
    assert [call["call_id"] for call in calls(path)] == ["c1", "c2"]


def test_an_entry_that_comes_after_the_end_is_not_waited_for_and_the_log_says_so(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = ThreadLedger(open_ledger(path))
    ledger.close()

    ledger.put(decided("c1"))
    assert not ledger.record(decided("c2"))
    assert not asyncio.run(ledger.record_async(decided("c3")))

    assert ["after the ledger was closed" in record.getMessage() for record in caplog.records] == [True] * 3
    assert calls(path) == []


def test_call_ids_are_unique_and_sorted_by_their_making() -> None:
    first, second = call_ids(), call_ids()
    made = [first() for _ in range(500)]

    assert made == sorted(set(made))
    assert not {second() for _ in range(500)} & set(made)
    assert all(call_id.isalnum() and len(call_id) == 33 for call_id in made)


def test_the_clock_is_in_microseconds_of_this_century() -> None:
    assert 1_700_000_000_000_000 < now_us() < 4_102_444_800_000_000
