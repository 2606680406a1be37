"""Message Batches over a provider in memory: replies that repeat, results that break off, callers that leave."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from support.asgi import KEYED, Got, call, gateway_in_memory
from support.plays import calls
from support.policies import book
from support.processes import BUDGETED, breaches, totals
from support.transcripts import JSON, MemoryUpstream, Script, Transcript, message
from tierwise.gateway.app import Gateway

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
