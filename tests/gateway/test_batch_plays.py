"""Message Batches over a provider in memory: replies that repeat, results that break off, callers that leave."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from support.asgi import KEYED, Got, call, gateway_in_memory
from support.ledgers import Lock
from support.plays import calls
from support.policies import book
from support.processes import BUDGETED, breaches, totals
from support.transcripts import JSON, MemoryUpstream, Script, Transcript, message
from tierwise.gateway.app import Gateway
from tierwise.gateway.asgi import LARGEST_BATCH, LARGEST_BODY
from tierwise.stores.budgets.memory import MemoryBudgets
from tierwise.stores.ledger import writer

MADE: Final = Transcript(headers=JSON, chunks=(b'{"id": "msgbatch_1"}',))
COST_NANOS: Final = 100_000
"""Of one succeeded item: 1,000 tokens in and 200 out of the fast tier, at half price."""


def item(custom_id: str) -> dict[str, Any]:
    params = {"model": "task/extraction", "max_tokens": 400, "messages": [{"role": "user", "content": "Hi"}]}
    return {"custom_id": custom_id, "params": params}


def line(custom_id: str) -> bytes:
    """A succeeded item's line of results."""
    result = {"type": "succeeded", "message": json.loads(message())}
    return json.dumps({"custom_id": custom_id, "result": result}).encode() + b"\n"


def a_provider(*results: Transcript) -> Script:
    """Takes each batch under one id, and answers with one of the results after the other."""
    fetched = iter(results)
    return lambda asked: MADE if asked.method == "POST" else next(fetched)


async def make(app: Gateway, *custom_ids: str, headers: Sequence[tuple[bytes, bytes]] = KEYED) -> Got:
    body = json.dumps({"requests": [item(custom_id) for custom_id in custom_ids]}).encode()
    return await call(app, "POST", "/v1/messages/batches", body=body, headers=headers)


async def fetch(app: Gateway, **options: Any) -> Got:
    return await call(app, "GET", "/v1/messages/batches/msgbatch_1/results", **options)


def costs(ledger: Path) -> dict[str, int | None]:
    return {each["custom_id"]: each["cost_nanos"] for each in calls(ledger)}


def test_a_batch_that_the_provider_answers_with_an_earlier_one_is_paid_once(tmp_path: Path) -> None:
    async def play() -> None:
        results = Transcript(headers=JSON, chunks=(line("a"),))
        upstream = MemoryUpstream(a_provider(results, results))
        async with gateway_in_memory(tmp_path / "l.sqlite3", upstream, policy=book(BUDGETED)) as app:
            for _ in range(2):
                assert (await make(app, "a", headers=[*KEYED, (b"idempotency-key", b"k")])).status == 200
            for _ in range(2):
                assert (await fetch(app)).status == 200
        assert not [each for each in upstream.requests if b"idempotency-key" in dict(each.headers)]

    asyncio.run(play())

    recorded = [(each["ending"], each["error"], each["cost_nanos"]) for each in calls(tmp_path / "l.sqlite3")]
    assert recorded == [("posted", None, COST_NANOS), ("failed", "repeated", 0)]
    assert totals(tmp_path / "l.sqlite3") == (COST_NANOS, 0)
    assert breaches(tmp_path / "l.sqlite3") == 0


def test_a_caller_that_leaves_amid_the_results_loses_no_ending_that_was_read(tmp_path: Path) -> None:
    async def play() -> None:
        results = Transcript(
            headers=JSON, chunks=(line("a") + line("b"), line("c")), hangs="after the chunks"
        )
        upstream = MemoryUpstream(a_provider(results))
        async with gateway_in_memory(tmp_path / "l.sqlite3", upstream, policy=book(BUDGETED)) as app:
            await make(app, "a", "b", "c", "d")
            fetching = asyncio.create_task(fetch(app))
            await upstream.hanging.wait()
            fetching.cancel()
            await asyncio.wait({fetching})

    asyncio.run(play())

    known = {"a": COST_NANOS, "b": COST_NANOS, "c": COST_NANOS, "d": None}
    assert costs(tmp_path / "l.sqlite3") == known
    assert totals(tmp_path / "l.sqlite3")[0] == 3 * COST_NANOS
    assert breaches(tmp_path / "l.sqlite3") == 0


def test_an_unknown_id_beside_known_ones_passes_and_is_not_recorded(tmp_path: Path) -> None:
    results = Transcript(headers=JSON, chunks=(line("a") + line("stranger") + line("b"), b"{not a line\n"))

    async def play() -> bytes:
        async with gateway_in_memory(
            tmp_path / "l.sqlite3", a_provider(results), policy=book(BUDGETED)
        ) as app:
            await make(app, "a", "b")
            return (await fetch(app)).body

    assert asyncio.run(play()) == b"".join(results.chunks)
    assert costs(tmp_path / "l.sqlite3") == {"a": COST_NANOS, "b": COST_NANOS}
    assert totals(tmp_path / "l.sqlite3") == (2 * COST_NANOS, 0)


def test_results_that_are_fetched_twice_while_the_ledger_cannot_be_written_are_booked_once_when_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PATIENCE_S", 0.05)
    lock, results = Lock(), Transcript(headers=JSON, chunks=(line("a"), line("b")))
    path = tmp_path / "l.sqlite3"

    async def play() -> list[Got]:
        upstream = MemoryUpstream(a_provider(results, results))
        async with gateway_in_memory(path, upstream, policy=book(BUDGETED), store=lock.opened) as app:
            lock.free.set()
            await make(app, "a", "b")
            lock.free.clear()
            got = await asyncio.gather(fetch(app), fetch(app))
            assert costs(path) == {"a": None, "b": None}
            refused = await make(app, "c")
            lock.free.set()
            return [*got, refused]

    first, second, refused = asyncio.run(play())

    assert first.body == second.body == b"".join(results.chunks)
    assert (first.ended, second.ended, refused.status) == (True, True, 503)
    assert costs(path) == {"a": COST_NANOS, "b": COST_NANOS}
    assert totals(path) == (2 * COST_NANOS, 0)
    assert breaches(path) == 0


def test_two_fetches_at_once_give_back_what_was_set_aside_once(tmp_path: Path) -> None:
    results = Transcript(headers=JSON, chunks=tuple(line(f"i{number}") for number in range(40)))
    budgets, path = MemoryBudgets(), tmp_path / "l.sqlite3"

    async def play() -> None:
        upstream = MemoryUpstream(a_provider(results, results))
        async with gateway_in_memory(path, upstream, policy=book(BUDGETED), budgets=budgets) as app:
            await make(app, *(f"i{number}" for number in range(40)))
            await asyncio.gather(fetch(app), fetch(app))

    asyncio.run(play())

    held = budgets.balance("all-lifetime|lifetime")
    assert (held.posted_nanos, held.pending_nanos) == totals(path) == (40 * COST_NANOS, 0)
    assert held.holds
    assert breaches(path) == 0


@pytest.mark.parametrize(
    ("method", "path", "length", "status"),
    [
        ("POST", "/v1/messages/batches", LARGEST_BATCH, 200),
        ("POST", "/v1/messages/batches", LARGEST_BATCH + 1, 413),
        ("POST", "/v1/messages/batches/msgbatch_1/cancel", LARGEST_BODY, 200),
        ("POST", "/v1/messages/batches/msgbatch_1/cancel", LARGEST_BODY + 1, 413),
        ("DELETE", "/v1/messages/batches/msgbatch_1", LARGEST_BODY + 1, 413),
        ("GET", "/v1/messages/batches", LARGEST_BODY + 1, 413),
        ("PUT", "/v1/messages/batches", LARGEST_BODY + 1, 413),
    ],
)
def test_only_the_request_that_makes_a_batch_may_be_as_large_as_one(
    tmp_path: Path, method: str, path: str, length: int, status: int
) -> None:
    body = json.dumps({"requests": [item("a")]}).encode()
    headers = (*KEYED, (b"content-length", b"%d" % length))

    async def play() -> Got:
        async with gateway_in_memory(tmp_path / "l.sqlite3", MADE) as app:
            return await call(app, method, path, body=body, headers=headers)

    assert asyncio.run(play()).status == status


def test_what_is_not_said_to_be_too_large_is_read_no_further_than_the_limit(tmp_path: Path) -> None:
    def parts() -> Iterator[bytes]:
        yield from (b" " * 2**20 for _ in range(99))

    async def play() -> Got:
        async with gateway_in_memory(tmp_path / "l.sqlite3", MADE) as app:
            return await call(app, "POST", "/v1/messages/batches/msgbatch_1/cancel", body=parts())

    got = asyncio.run(play())

    assert (got.status, got.pulled) == (413, 33)
