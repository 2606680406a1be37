"""Streams that are on their way: however they are dropped, and whoever closes their session, their calls are ended."""

import asyncio
import gc
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

import httpx2
import pytest

import tierwise
from support.clients import Door, OpenDoor, budgeted
from support.waiting import eventually
from tierwise.client.streams import Streams
from tierwise.core.budgets import AccountRef, Claim
from tierwise.sandbox.server import Running

STALLING: Final[dict[str, Any]] = {
    "model": "task/extraction",
    "max_tokens": 500,
    "messages": [{"role": "user", "content": "Hi"}],
    "stream": True,
    "extra_headers": {"x-sandbox-fault": "stall-after:4,seconds=20"},
}


class Collecting(tuple[AccountRef, ...]):
    """Accounts of a claim, while whose looking up the garbage collector runs."""

    __slots__ = ()

    def __iter__(self) -> Iterator[AccountRef]:
        gc.collect()
        return super().__iter__()


def drop_in_a_cycle(client: Any) -> None:
    """Begin a stream and drop it where only the garbage collector finds it."""
    events = client.messages.create(**STALLING)
    next(iter(events))
    cycle: list[Any] = [events]
    cycle.append(cycle)


def test_a_stream_that_the_collector_finds_in_the_middle_of_a_step_of_the_budgets_is_left(
    open_door: OpenDoor,
) -> None:
    door = open_door(budgeted("1.00"))
    claim = Claim(call_id="another", accounts=Collecting(), amount_nanos=1, least_nanos=1)
    with door.client() as client, tierwise.task(None, run="run-1"):
        gc.disable()
        try:
            drop_in_a_cycle(client)
            step = threading.Thread(target=door.session.balances.store.reserve, args=(claim,), daemon=True)
            step.start()
            step.join(20)
        finally:
            gc.enable()

        assert not step.is_alive()
        (recorded,) = door.settled()
    assert (recorded["error"], recorded["cost_nanos"]) == ("caller-left", None)
    assert recorded["at_least_nanos"] > 0


def test_a_stream_that_was_read_to_its_end_is_not_left_when_it_is_dropped(door: Door) -> None:
    with door.client() as client:
        events = client.messages.create(**{**STALLING, "extra_headers": {}})
        assert [event.type for event in events][-1] == "message_stop"
        del events
        gc.collect()

    assert [call["ending"] for call in door.calls()] == ["posted"]


def test_a_stream_whose_session_was_closed_does_not_look_whole(door: Door) -> None:
    with door.client() as client:
        events = client.messages.create(**STALLING)
        next(iter(events))
        door.session.close()

        with pytest.raises(httpx2.StreamClosed):
            list(events)


def test_closing_a_session_in_a_coroutine_ends_the_streams_of_its_loop(door: Door, sandbox: Running) -> None:
    async def leave_open() -> None:
        async with door.async_client() as client, door.session:
            events = await client.messages.create(**STALLING)
            await anext(aiter(events))
            await door.session.aclose()

            with pytest.raises(httpx2.StreamClosed):
                assert [event async for event in events]

    asyncio.run(leave_open())

    (recorded,) = door.calls()
    assert (recorded["error"], recorded["fault"]) == ("caller-left", "caller")
    (billed,) = eventually(sandbox.calls, until=lambda found: len(found) == 1)
    assert billed["ending"] == "left"


def test_closing_a_session_where_its_streams_loop_waits_gives_them_up(door: Door) -> None:
    async def leave_open() -> None:
        async with door.async_client() as client:
            events = await client.messages.create(**STALLING)
            await anext(aiter(events))
            door.session.close()

            with pytest.raises(httpx2.StreamClosed):
                assert [event async for event in events]

    asyncio.run(leave_open())

    (recorded,) = door.calls()
    assert recorded["ending"] is None  # as for a program that was killed


class Unwilling:
    """A call that cannot be left."""

    def leave(self) -> None:
        raise RuntimeError


class Willing:
    """A call that can."""

    def __init__(self) -> None:
        self.left = threading.Event()

    def leave(self) -> None:
        self.left.set()


def test_a_call_that_cannot_be_ended_does_not_keep_the_others_from_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    unwilling, left, open_still = Unwilling(), Willing(), Willing()
    with closing(Streams()) as streams:
        for call in (unwilling, left, open_still):
            streams.hold(call)
        streams.end(unwilling)
        streams.end(left)
        assert left.left.wait(20)
        assert not open_still.left.is_set()

    assert open_still.left.is_set()
    assert [record.getMessage() for record in caplog.records] == ["a stream could not be ended"]
