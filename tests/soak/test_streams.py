"""Many streams, half of them cut by their callers: what they used comes back, and each is in the ledger.

Everything that a gateway does beside them is on: a budget counts them, some fail at first and are tried again, and
some are made once more on another tier, to be compared.
"""

import asyncio
import os
import random
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any

import aiohttp
import msgspec
import pytest

from support.policies import TWO_TIERS
from support.waiting import eventually
from tierwise.cli.child import gateway_process
from tierwise.sandbox.server import Running, running
from tierwise.stores.ledger.reservations import account_totals
from tierwise.stores.ledger.sqlite import read_ledger

BODY = {
    "model": "claude-opus-5-5",
    "max_tokens": 4000,
    "stream": True,
}
HEADERS = {"x-api-key": "k", "anthropic-version": "2023-06-01", "x-tierwise-task-type": "synthesis"}
FAILS_ONCE = {"x-sandbox-fault": "status:529,retry-after=0.01,times=1"}
SHADOWED = TWO_TIERS.replace("max_tokens = 8192", "max_tokens = 8192\nshadow = true")
POLICY = f"""{SHADOWED}
[[budgets]]
scope = "all"
limit_usd = "100000"
window = "lifetime"

[audit]
share = 50
most_of_day = 100
sample = 100
"""
WARM_UP = 60
"""How many streams there are at least before the first look. A fifth of a long run fills the ledger's page cache."""
PARTS = 5
STORIES = 500
"""How many conversations there are: what is remembered of each is no leak."""
POOL = 8
"""Threads that read for the event loop: they come when they are needed, and stay."""
AT_ONCE = 40


@dataclass(frozen=True, kw_only=True)
class Footprint:
    in_flight: int
    files: int
    sockets: int
    threads: int
    rss_mib: float


@pytest.mark.parametrize(
    "streams", [pytest.param(300, id="small"), pytest.param(50_000, id="soak", marks=pytest.mark.soak)]
)
def test_streams_with_random_cancellations_leave_nothing_behind(streams: int, tmp_path: Path) -> None:
    policy, ledger = tmp_path / "tierwise.toml", tmp_path / "ledger.sqlite3"
    policy.write_text(POLICY)
    with (
        running(seed=3, event_gap_ms=0.2) as sandbox,
        gateway_process(policy=policy, ledger=ledger, upstream=sandbox.base_url) as address,
    ):
        warm_up = max(WARM_UP, streams // 5)
        asyncio.run(open_streams(address, warm_up, seed=0))
        before = after = settled(lambda: footprint(address))
        print(f"\n{warm_up:>7,} streams before: {before}")
        for part in range(1, PARTS + 1):
            asyncio.run(open_streams(address, streams // PARTS, seed=part))
            after = settled(lambda: footprint(address))
            print(f"{part * streams // PARTS:>7,} streams since: {after}")
        billed = eventually(lambda: billed_by(sandbox, ledger), until=lambda found: found >= 0)

    found = counts(ledger)
    print(f"calls {found}, billed {billed:,} nanodollars")
    assert after.files <= before.files + AT_ONCE  # idle connections to the provider, kept for a while
    assert after.threads <= before.threads + POOL
    assert after.rss_mib <= before.rss_mib * 1.2 + 10
    assert found["asked"] == streams + warm_up
    assert found["open"] == 0
    assert min(found["retried"], found["left"]) > 0
    assert found["compared"] > 0 or streams < 1000  # the audit begins when there is something to spend
    with closing(read_ledger(ledger)) as reader:
        (account,) = (each for each in account_totals(reader) if each.key.startswith("all"))
    assert found["known_nanos"] <= billed <= account.posted_nanos + account.pending_nanos


async def open_streams(base_url: str, count: int, *, seed: int) -> None:
    """Open so many streams, `AT_ONCE` at a time; about half are closed after their first bytes."""
    draws = random.Random(seed)
    at_once = asyncio.Semaphore(AT_ONCE)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:

        async def one(place: int, cut_after: int | None, headers: dict[str, str]) -> None:
            fails = headers is not HEADERS
            story = (
                f"{seed}.{place}" if fails else str(place % STORIES)
            )  # a failure is played once for each text
            asked = {"role": "user", "content": f"Tell story {story}."}
            body = {**BODY, "messages": [asked]}
            async with at_once, session.post(f"{base_url}/v1/messages", json=body, headers=headers) as reply:
                assert reply.status == 200
                if cut_after is None:
                    assert b"message_stop" in await reply.read()
                else:
                    await reply.content.read(cut_after)
                    reply.close()

        cuts = [None if draws.random() < 0.5 else draws.randrange(1, 900) for _ in range(count)]
        fails = [HEADERS | FAILS_ONCE if draws.random() < 0.1 else HEADERS for _ in range(count)]
        await asyncio.gather(*map(one, range(count), cuts, fails))


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
    files = [str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()]
    return Footprint(
        in_flight=health["in_flight"],
        files=len(files),
        sockets=sum(file.startswith("socket:") for file in files),
        threads=len(list(Path(f"/proc/{pid}/task").iterdir())),
        rss_mib=resident / 2**20,
    )


async def _health(base_url: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"{base_url}/tierwise/health") as reply:
        return msgspec.json.decode(await reply.read())


COUNTS = """
    SELECT sum(attempt = 1 AND purpose IS NULL) AS asked, sum(attempt > 1) AS retried,
        sum(purpose IS NOT NULL) AS compared, sum(ending IS NULL) AS open, sum(error = 'caller-left') AS left,
        sum(cost_nanos) AS known_nanos
    FROM calls
"""


def counts(ledger: Path) -> dict[str, int]:
    with closing(read_ledger(ledger)) as reader:
        (row,) = reader.rows(COUNTS)
        return dict(row)


def billed_by(sandbox: Running, ledger: Path) -> int:
    """What the provider billed, once it has noticed the last caller leave and the last comparison is over; else -1."""
    before = sandbox.billing()["total_nanos"]
    sleep(0.3)
    after = sandbox.billing()["total_nanos"]
    return after if after == before and counts(ledger)["open"] == 0 else -1
