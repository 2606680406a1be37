"""A call's connection: who may leave it when, and what the ledger then says."""

import asyncio
import json
from pathlib import Path

import pytest

from support.asgi import Caller, Got, call, gateway_in_memory, post, until
from support.ledgers import Lock
from support.plays import calls, only_call
from support.transcripts import BLOCK, EVENTS, START, STREAM, MemoryUpstream, Transcript, message
from tierwise.errors import UpstreamDropped, UpstreamTimeout
from tierwise.upstream.port import Outgoing

MESSAGE = {"model": "task/extraction", "max_tokens": 4096, "messages": [{"role": "user", "content": "Hi"}]}
RAW = json.dumps(MESSAGE).encode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


def leave_at(part: int, path: Path, provider: MemoryUpstream) -> Got:
    """Make a call and leave it at a part of the answer."""

    async def talk() -> Got:
        async with gateway_in_memory(path, provider) as app:

            def leave(got: Got) -> None:
                if len(got.parts) == part:
                    caller.leave()

            caller = Caller(app, "POST", "/v1/messages", body=RAW, on_part=leave)
            return await caller.run()

    return asyncio.run(talk())


def test_a_caller_that_leaves_a_stream_closes_the_providers(path: Path) -> None:
    provider = MemoryUpstream(Transcript(headers=EVENTS, chunks=STREAM[:3], hangs="after the chunks"))
    got = leave_at(2, path, provider)

    assert (got.parts, got.ended) == ([*STREAM[:2]], False)
    assert provider.replies[0].closed
    recorded = only_call(path)
    assert (recorded["fault"], recorded["error"], recorded["cost_nanos"]) == ("caller", "caller-left", None)
    assert recorded["at_least_nanos"] == 1000 * 100 + 1 * 500


def test_a_caller_that_leaves_before_the_reply_begins_is_recorded(path: Path) -> None:
    async def talk() -> Got:
        provider = MemoryUpstream(Transcript(hangs="before the reply"))
        async with gateway_in_memory(path, provider) as app:
            caller = Caller(app, "POST", "/v1/messages", body=RAW)
            running = asyncio.create_task(caller.run())
            await provider.hanging.wait()
            caller.leave()
            return await running

    assert asyncio.run(talk()).status == 0
    recorded = only_call(path)
    assert (recorded["fault"], recorded["error"]) == ("caller", "caller-left")
    assert (recorded["cost_nanos"], recorded["at_least_nanos"]) == (None, None)


def test_a_caller_that_leaves_with_the_last_byte_has_had_a_whole_call(path: Path) -> None:
    got = leave_at(len(STREAM), path, MemoryUpstream(Transcript(headers=EVENTS, chunks=STREAM)))

    assert (got.body, got.ended) == (b"".join(STREAM), True)
    assert only_call(path)["ending"] == "posted"


def test_a_caller_that_leaves_while_the_end_is_on_its_way_changes_nothing(path: Path) -> None:
    got = leave_at(0, path, MemoryUpstream(Transcript(chunks=(message(),))))

    assert (got.status, got.ended) == (200, False)
    assert only_call(path)["ending"] == "posted"


def test_a_cancelled_request_is_the_gateways_doing(path: Path) -> None:
    async def talk() -> bool:
        provider = MemoryUpstream(Transcript(headers=EVENTS, chunks=(START, BLOCK), hangs="after the chunks"))
        async with gateway_in_memory(path, provider) as app:
            running = asyncio.create_task(post(app, MESSAGE))
            await provider.hanging.wait()
            running.cancel()
            await asyncio.wait({running})
            return running.cancelled()

    assert asyncio.run(talk())
    recorded = only_call(path)
    assert (recorded["fault"], recorded["error"]) == ("gateway", "gateway-stopped")


@pytest.mark.parametrize("why", [UpstreamDropped(why="reset"), UpstreamTimeout(why="silence")])
def test_a_reply_that_breaks_before_its_first_byte_is_answered_for(
    path: Path, why: UpstreamTimeout | UpstreamDropped
) -> None:
    async def talk() -> Got:
        async with gateway_in_memory(path, Transcript(chunks=(message()[:9],), breaks=why)) as app:
            return await post(app, MESSAGE)

    got = asyncio.run(talk())

    assert (got.status, got.ended) == (502, True)
    assert got.header(b"content-type") == b"application/json"
    assert got.json()["error"]["message"] == "The provider's reply broke off."


def test_a_stream_that_breaks_has_no_end(path: Path) -> None:
    async def talk() -> Got:
        provider = Transcript(headers=EVENTS, chunks=STREAM[:3], breaks=UpstreamDropped(why="reset"))
        async with gateway_in_memory(path, provider) as app:
            return await post(app, MESSAGE)

    got = asyncio.run(talk())

    assert (got.status, got.parts, got.ended) == (200, [*STREAM[:3]], False)


def test_calls_are_refused_while_the_ledger_cannot_be_written_and_taken_again_after(path: Path) -> None:
    lock = Lock()

    async def talk() -> tuple[list[int], list[str | None]]:
        provider = MemoryUpstream(Transcript(chunks=(message(),)))
        async with gateway_in_memory(path, provider, store=lock.opened) as app:
            first = asyncio.create_task(post(app, MESSAGE))
            during = await until(503, lambda: post(app, b"{"))
            health = await call(app, "GET", "/tierwise/health")
            sent = len(provider.requests)
            lock.free.set()
            statuses = [during.status, health.status, (await first).status]
            await until(200, lambda: call(app, "GET", "/tierwise/health"))
            statuses.append((await post(app, MESSAGE)).status)
            return [*statuses, sent], [during.json()["error"]["message"], health.json()["status"]]

    statuses, said = asyncio.run(talk())

    assert statuses == [503, 503, 200, 200, 1]
    assert said[0] is not None
    assert "database is locked" in said[0]
    assert said[1] == "failing"
    assert [recorded["ending"] for recorded in calls(path)] == ["posted", "posted"]


def test_many_calls_at_once_are_each_answered_with_their_own_reply(path: Path) -> None:
    def echo(request: Outgoing) -> Transcript:
        text = json.loads(request.body)["messages"][0]["content"]
        return Transcript(chunks=(message(stop_reason=text),))

    async def talk() -> list[str]:
        async with gateway_in_memory(path, echo) as app:
            bodies = [{**MESSAGE, "messages": [{"role": "user", "content": f"n{n}"}]} for n in range(200)]
            answers = await asyncio.gather(*(post(app, body) for body in bodies))
            return [got.json()["stop_reason"] for got in answers]

    assert asyncio.run(talk()) == [f"n{n}" for n in range(200)]
    recorded = calls(path)
    assert {row["stop_reason"] for row in recorded} == {f"n{n}" for n in range(200)}
    assert sum(row["cost_nanos"] for row in recorded) == 200 * 200_000
