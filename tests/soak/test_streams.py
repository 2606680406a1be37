"""Many streams, half of them cut by their callers: what they used comes back, and each is in the ledger."""

import asyncio
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any

import aiohttp
import msgspec
import pytest

from tierwise.cli.child import gateway_process
from tierwise.config import starter_policy
from tierwise.sandbox.server import running
from tierwise.stores.ledger.sqlite import read_ledger

BODY = {
    "model": "claude-opus-5-5",
    "max_tokens": 4000,
    "stream": True,
    "messages": [{"role": "user", "content": "Tell a story."}],
}
HEADERS = {"x-api-key": "k", "anthropic-version": "2023-06-01", "x-tierwise-task-type": "summarization"}
WARM_UP = 60
AT_ONCE = 40


@dataclass(frozen=True, kw_only=True)
class Footprint:
    in_flight: int
    files: int
    rss_mib: float


@pytest.mark.parametrize(
    "streams", [pytest.param(300, id="small"), pytest.param(50_000, id="soak", marks=pytest.mark.soak)]
)
def test_streams_with_random_cancellations_leave_nothing_behind(streams: int, tmp_path: Path) -> None:
    policy, ledger = tmp_path / "tierwise.toml", tmp_path / "ledger.sqlite3"
    policy.write_text(starter_policy())
    with (
        running(seed=3, event_gap_ms=0.2) as sandbox,
        gateway_process(policy=policy, ledger=ledger, upstream=sandbox.base_url) as address,
    ):
        asyncio.run(open_streams(address, WARM_UP, seed=1))
        before = settled(lambda: footprint(address))
        asyncio.run(open_streams(address, streams, seed=2))
        after = settled(lambda: footprint(address))

    print(f"\n{streams:,} streams: {before} before, {after} after")
    assert after.files <= before.files + AT_ONCE  # idle connections to the provider, kept for a while
    assert after.rss_mib <= before.rss_mib * 1.2 + 10
    ended = endings(ledger)
    assert sum(ended.values()) == streams + WARM_UP
    assert set(ended) == {"posted", "failed"}


async def open_streams(base_url: str, count: int, *, seed: int) -> None:
    """Open so many streams, `AT_ONCE` at a time; about half are closed after their first bytes."""
    draws = random.Random(seed)
    at_once = asyncio.Semaphore(AT_ONCE)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:

        async def one(cut_after: int | None) -> None:
            async with at_once, session.post(f"{base_url}/v1/messages", json=BODY, headers=HEADERS) as reply:
                assert reply.status == 200
                if cut_after is None:
                    assert b"message_stop" in await reply.read()
                else:
                    await reply.content.read(cut_after)
                    reply.close()

        cuts = [None if draws.random() < 0.5 else draws.randrange(1, 900) for _ in range(count)]
        await asyncio.gather(*map(one, cuts))


def settled(look: Callable[[], Footprint]) -> Footprint:
    """The footprint once no call is in flight."""
    found = look()
    for _ in range(200):
        if found.in_flight == 0:
            return found
        sleep(0.05)
        found = look()
    raise AssertionError(found)


def footprint(base_url: str) -> Footprint:
    health = asyncio.run(_health(base_url))
    pid = health["pid"]
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return Footprint(
        in_flight=health["in_flight"],
        files=len(list(Path(f"/proc/{pid}/fd").iterdir())),
        rss_mib=resident / 2**20,
    )


async def _health(base_url: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"{base_url}/tierwise/health") as reply:
        return msgspec.json.decode(await reply.read())


def endings(ledger: Path) -> dict[str, int]:
    connection = read_ledger(ledger)
    try:
        rows = connection.rows("SELECT ending, count(*) AS calls FROM calls GROUP BY 1")
        return {row["ending"]: row["calls"] for row in rows}
    finally:
        connection.close()
