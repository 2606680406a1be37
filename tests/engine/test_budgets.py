"""Waiting for money in turn, and warnings of what comes near its limit."""

import asyncio
import logging
from dataclasses import replace
from typing import Any

import pytest

from tierwise.core.budgets import AccountRef, Claim, Crossing, Denied, Lost, Reserved, Shrunk
from tierwise.core.policy import Budget
from tierwise.engine import budgets
from tierwise.engine.budgets import LocalBudgets, Turns, Warnings, describe
from tierwise.money import usd
from tierwise.stores.budgets.memory import MemoryBudgets

LONG = 60.0


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks again by itself."""
    monkeypatch.setattr(budgets, "LOOKS_AGAIN_S", LONG)


async def settled() -> None:
    """Let everything happen that can."""
    for _ in range(5):
        await asyncio.sleep(0)


class Queue:
    """Callers that wait, and in which order they came through."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.through: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def joined(self, *names: str) -> None:
        for name in names:
            self.tasks[name] = asyncio.create_task(self._wait(name))
        await settled()

    async def _wait(self, name: str) -> None:
        await self.turns.wait(LONG)
        self.through.append(name)

    async def ended(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


@pytest.mark.usefixtures("patient")
def test_whoever_waits_longest_is_woken_first_one_at_a_time() -> None:
    async def scene() -> list[list[str]]:
        queue, seen = Queue(), list[list[str]]()
        await queue.joined("a", "b", "c")
        for _ in range(3):
            queue.turns.next()
            await settled()
            seen.append([*queue.through])
        return seen

    assert asyncio.run(scene()) == [["a"], ["a", "b"], ["a", "b", "c"]]


@pytest.mark.usefixtures("patient")
def test_a_turn_that_comes_while_nobody_waits_is_nobodys() -> None:
    async def scene() -> list[str]:
        queue = Queue()
        queue.turns.next()
        await queue.joined("a")
        through = [*queue.through]
        await queue.ended()
        return through

    assert asyncio.run(scene()) == []


@pytest.mark.usefixtures("patient")
def test_whoever_leaves_the_queue_takes_no_turn() -> None:
    async def scene() -> list[str]:
        queue = Queue()
        await queue.joined("a", "b")
        queue.tasks["a"].cancel()
        await settled()
        queue.turns.next()
        await settled()
        return queue.through

    assert asyncio.run(scene()) == ["b"]


@pytest.mark.usefixtures("patient")
def test_a_turn_that_comes_as_its_caller_leaves_is_the_next_ones() -> None:
    async def scene() -> list[str]:
        queue = Queue()
        await queue.joined("a", "b")
        queue.turns.next()
        queue.tasks["a"].cancel()
        await settled()
        return queue.through

    assert asyncio.run(scene()) == ["b"]


def test_a_wait_ends_when_its_time_is_over() -> None:
    async def scene() -> None:
        turns = Turns()
        await turns.wait(0)
        await turns.wait(0.001)

    asyncio.run(scene())


def test_whoever_waits_looks_again_before_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "LOOKS_AGAIN_S", 0.001)

    asyncio.run(Turns().wait(LONG))


@pytest.mark.usefixtures("patient")
def test_waits_that_are_over_take_no_place_in_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "LONGEST_QUEUE", 2)

    async def scene() -> list[str]:
        queue = Queue()
        for _ in range(5):
            await queue.turns.wait(0)
        await queue.joined("a")
        queue.turns.next()
        await settled()
        return queue.through

    assert asyncio.run(scene()) == ["a"]


@pytest.mark.usefixtures("patient")
def test_one_call_too_many_has_no_turn_and_still_lets_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "LONGEST_QUEUE", 2)

    async def scene() -> tuple[list[str], bool]:
        queue = Queue()
        await queue.joined("a", "b", "c")
        for _ in range(3):
            queue.turns.next()
            await settled()
        waits_on = not queue.tasks["c"].done()
        through = [*queue.through]
        await queue.ended()
        return through, waits_on

    assert asyncio.run(scene()) == (["a", "b"], True)


# Balances of this process.


def a_claim(call_id: str, amount: int, *, limit: int = 100) -> Claim:
    budget = Budget(name="b", scope="all", limit=limit)
    account = AccountRef(key="b|lifetime", budget=budget, value="", ends_us=None)
    return Claim(call_id=call_id, accounts=(account,), amount_nanos=amount, least_nanos=amount)


class Watched(Turns):
    """Turns that remember how often somebody was to be woken."""

    def __init__(self) -> None:
        super().__init__()
        self.wakes = 0

    def next(self) -> None:
        self.wakes += 1
        super().next()


def test_a_grant_and_a_settlement_each_wake_the_next_and_a_denial_wakes_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns, wakes = Watched(), list[int]()
    monkeypatch.setattr(budgets, "Turns", lambda: turns)

    async def scene() -> None:
        local = LocalBudgets(MemoryBudgets())
        assert isinstance(await local.reserve(a_claim("one", 60)), Reserved)
        wakes.append(turns.wakes)
        assert isinstance(await local.reserve(a_claim("two", 60)), Denied)
        wakes.append(turns.wakes)
        local.settle("one", 10)
        wakes.append(turns.wakes)

    asyncio.run(scene())

    assert wakes == [1, 1, 2]


@pytest.mark.usefixtures("patient")
def test_money_that_comes_back_reaches_everyone_who_waits_for_it_in_turn() -> None:
    async def scene() -> list[str]:
        local, granted = LocalBudgets(MemoryBudgets()), list[str]()

        async def call(name: str) -> None:
            while isinstance(await local.reserve(a_claim(name, 30)), Denied):
                await local.wait(LONG)
            granted.append(name)

        await local.reserve(a_claim("first", 100))
        waiting = [asyncio.create_task(call(name)) for name in ("a", "b", "c", "d")]
        await settled()
        assert granted == []
        local.settle("first", 0)
        await asyncio.gather(*waiting[:3])
        await settled()
        waiting[3].cancel()
        return granted

    assert asyncio.run(scene()) == ["a", "b", "c"]


# Warnings.


def a_crossing(**terms: Any) -> Crossing:
    budget = replace(Budget(name="run-lifetime", scope="run", limit=usd("25")), **terms)
    account = AccountRef(key="k", budget=budget, value="run-7", ends_us=None)
    return Crossing(account=account, percent=80, used_nanos=20_010_000_000)


def test_a_warning_is_told_to_the_log_and_to_whoever_is_to_know(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Crossing] = []
    one, two = a_crossing(), a_crossing(name="other")

    with caplog.at_level(logging.WARNING, "tierwise.budgets"):
        Warnings(told.append).tell(Reserved(amount_nanos=1, crossings=(one,)))
        Warnings(told.append).tell(Shrunk(amount_nanos=1, crossings=(two,)))
        Warnings().tell(Reserved(amount_nanos=1, crossings=(one,)))

    assert told == [one, two]
    assert [record.getMessage() for record in caplog.records] == [describe(each) for each in (one, two, one)]


def test_what_was_not_granted_warns_of_nothing(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Crossing] = []
    account = a_crossing().account

    Warnings(told.append).tell(Lost(why="no route"))
    Warnings(told.append).tell(Denied(account=account, posted_nanos=0, pending_nanos=0, asked_nanos=1))

    assert (told, caplog.records) == ([], [])


@pytest.mark.parametrize(
    ("crossing", "sentence"),
    [
        (a_crossing(), "budget run-lifetime, run run-7: 80 % of $25.00 is used ($20.01)"),
        (a_crossing(name="all", scope="all"), "budget all: 80 % of $25.00 is used ($20.01)"),
        (
            Crossing(
                account=a_crossing(counts="calls", limit=5, name="calls").account, percent=80, used_nanos=4
            ),
            "budget calls, run run-7: 80 % of 5 calls is used (4 calls)",
        ),
        (
            Crossing(
                account=AccountRef(key="k", budget=a_crossing().account.budget, value="", ends_us=None),
                percent=95,
                used_nanos=usd("24"),
            ),
            "budget run-lifetime, run (none): 95 % of $25.00 is used ($24.00)",
        ),
    ],
)
def test_a_warning_says_whose_budget_it_is_and_how_much_of_it_is_used(
    crossing: Crossing, sentence: str
) -> None:
    assert describe(crossing) == sentence
