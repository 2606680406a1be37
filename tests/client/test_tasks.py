"""A block's task: where it reaches, and where it does not."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

import tierwise
from tierwise.client.tasks import Task, current_task, with_task

T = TypeVar("T")


def in_thread(work: Callable[[], T]) -> T:
    """Run in a thread started by hand."""
    found: list[T] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def test_outside_of_a_block_nothing_is_declared() -> None:
    assert current_task() is None
    assert with_task({"a": "b"}) == {"a": "b"}


def test_a_block_declares_until_its_end_however_that_comes() -> None:
    seen: list[Task | None] = []

    def fail() -> None:
        with tierwise.task("extraction"):
            seen.append(current_task())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert seen == [Task(type="extraction")]
    assert current_task() is None


def test_the_inner_block_wins_and_inherits_the_run_and_the_agent_but_not_the_task_id() -> None:
    with tierwise.task("synthesis", run="run-7", agent="writer", task_id="t-1"):
        with tierwise.task("extraction", agent="reader"):
            assert current_task() == Task(type="extraction", run="run-7", agent="reader")
        assert current_task() == Task(type="synthesis", run="run-7", agent="writer", task_id="t-1")


def test_a_block_of_no_type_leaves_its_calls_undeclared_but_names_their_run() -> None:
    with tierwise.task("synthesis", run="run-7"), tierwise.task(None):
        assert with_task({}) == {"x-tierwise-run-id": "run-7"}


def test_headers_that_a_call_has_stay() -> None:
    with tierwise.task("synthesis", run="run-7"):
        told = with_task({"x-tierwise-task-type": "extraction"})

    assert told == {"x-tierwise-task-type": "extraction", "x-tierwise-run-id": "run-7"}


def test_a_block_decorates_a_function() -> None:
    @tierwise.task("extraction")
    def work() -> Task | None:
        return current_task()

    assert work() == Task(type="extraction")


def test_asyncio_tasks_have_the_block_they_were_started_in_and_change_nobody_elses() -> None:
    async def named(name: str) -> list[Task | None]:
        seen = [current_task()]
        with tierwise.task(name):
            await asyncio.sleep(0)
            seen.append(current_task())
            seen.append(await asyncio.to_thread(current_task))
        return seen

    async def main() -> list[list[Task | None]]:
        with tierwise.task("outer"):
            return list(await asyncio.gather(named("a"), named("b")))

    outer, a, b = (Task(type=name) for name in ("outer", "a", "b"))
    assert asyncio.run(main()) == [[outer, a, a], [outer, b, b]]


def test_a_block_of_the_main_thread_speaks_for_threads_that_have_no_task_of_their_own() -> None:
    def own() -> Task | None:
        with tierwise.task("its-own"):
            return current_task()

    def found(_: int) -> Task | None:
        return current_task()

    with ThreadPoolExecutor(2) as pool, tierwise.task("extraction", run="run-7"):
        pooled = list(pool.map(found, range(8)))
        by_hand = in_thread(current_task)
        declared = in_thread(own)
        excepted = in_thread(lambda: _within(None))

    assert set(pooled) == {by_hand} == {Task(type="extraction", run="run-7")}
    assert declared == Task(type="its-own", run="run-7")
    assert excepted == Task(type=None, run="run-7")
    assert in_thread(current_task) is None


def _within(name: str | None) -> Task | None:
    with tierwise.task(name):
        return current_task()


def test_a_block_in_another_thread_speaks_for_nobody_else() -> None:
    def spawn() -> Task | None:
        with tierwise.task("extraction"):
            return in_thread(current_task)

    assert in_thread(spawn) is None


def test_a_block_in_an_event_loop_speaks_for_nobody_else() -> None:
    async def spawn() -> Task | None:
        with tierwise.task("extraction"):
            return in_thread(current_task)

    assert asyncio.run(spawn()) is None


def test_a_function_that_is_bound_has_its_task_in_any_thread() -> None:
    def spawn() -> list[Task | None]:
        with ThreadPoolExecutor(2) as pool:
            with tierwise.task("extraction"):
                bound = tierwise.in_task(current_task)
            return [each.result() for each in [pool.submit(bound), pool.submit(current_task)]]

    assert in_thread(spawn) == [Task(type="extraction"), None]
