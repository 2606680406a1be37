"""Many streams of OpenAI's clients, half of them cut by their callers: nothing is left behind, and money adds up.

Chat Completions and Responses take turns, some with functions; a budget counts them, and some fail at first and are
tried again.
"""

import asyncio
import os
import random
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any, Final

import aiohttp
import msgspec
import pytest

from support.policies import TWO_TIERS, with_openai
from support.waiting import eventually
from tierwise.cli.child import gateway_process
from tierwise.sandbox.server import Running, running
from tierwise.stores.ledger.reservations import account_totals
from tierwise.stores.ledger.sqlite import read_ledger

BUDGET: Final = '[[budgets]]\nscope = "all"\nlimit_usd = "100000"\nwindow = "lifetime"\n'
HEADERS: Final = {"authorization": "Bearer k"}
FAILS_ONCE: Final = {"x-sandbox-fault": "status:503,retry-after=0.01,times=1"}
FUNCTION: Final = {
    "name": "look",
    "parameters": {"type": "object", "properties": {"key": {"type": "string"}}},
}
WARM_UP: Final = 60
PARTS: Final = 5
STORIES: Final = 500
AT_ONCE: Final = 40
POOL: Final = 8
"""Threads that read for the event loop: they come when they are needed, and stay."""


@dataclass(frozen=True, kw_only=True)
class Footprint:
    in_flight: int
    files: int
    threads: int
    rss_mib: float


@pytest.mark.parametrize(
    "streams", [pytest.param(300, id="small"), pytest.param(5_000, id="soak", marks=pytest.mark.soak)]
)
def test_streams_of_openais_clients_with_random_cancellations_leave_nothing_behind(
    streams: int, tmp_path: Path
) -> None:
    policy, ledger = tmp_path / "tierwise.toml", tmp_path / "ledger.sqlite3"
    warm_up = max(WARM_UP, streams // 5)
    with running(seed=3, event_gap_ms=0.2) as sandbox:
        policy.write_text(with_openai(TWO_TIERS + BUDGET, f"{sandbox.base_url}/v1"))
        with gateway_process(policy=policy, ledger=ledger, upstream=sandbox.base_url) as address:
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
    assert (found["asked"], found["open"]) == (streams + warm_up, 0)
    assert min(found["retried"], found["left"]) > 0
    with closing(read_ledger(ledger)) as reader:
        (account,) = (each for each in account_totals(reader) if each.key.startswith("all"))
    assert found["known_nanos"] <= billed <= account.posted_nanos + account.pending_nanos


async def open_streams(base_url: str, count: int, *, seed: int) -> None:
    """Open so many streams, `AT_ONCE` at a time; about half are closed after their first bytes."""
    draws = random.Random(seed)
    at_once = asyncio.Semaphore(AT_ONCE)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:

        async def one(place: int, cut_after: int | None, fails: bool) -> None:
            text = f"Tell story {f'{seed}.{place}' if fails else place % STORIES}."  # each text fails once
            path, body, end = asked(place, text)
            headers = HEADERS | FAILS_ONCE if fails else HEADERS
            async with at_once, session.post(base_url + path, json=body, headers=headers) as reply:
                assert reply.status == 200
                if cut_after is None:
                    assert end in await reply.read()
                else:
                    await reply.content.read(cut_after)
                    reply.close()

        cuts = [None if draws.random() < 0.5 else draws.randrange(1, 900) for _ in range(count)]
        fails = [draws.random() < 0.1 for _ in range(count)]
        await asyncio.gather(*map(one, range(count), cuts, fails))


def asked(place: int, text: str) -> tuple[str, dict[str, Any], bytes]:
    """The path and the body of a call, and what its stream ends with."""
    body: dict[str, Any] = {"model": "task/synthesis" if place % 3 else "task/extraction", "stream": True}
    with_function = place % 5 == 0
    if place % 2:
        tools = {"tools": [{"type": "function", **FUNCTION}]} if with_function else {}
        return "/v1/responses", {**body, **tools, "input": text}, b"response.completed"
    tools = {"tools": [{"type": "function", "function": FUNCTION}]} if with_function else {}
    messages = [{"role": "user", "content": text}]
    return "/v1/chat/completions", {**body, **tools, "messages": messages}, b"[DONE]"


def settled(look: Callable[[], Footprint]) -> Footprint:
    """The footprint once no call is in flight."""
    return eventually(look, until=lambda found: found.in_flight == 0)


def footprint(base_url: str) -> Footprint:
    health = asyncio.run(_health(base_url))
    process = Path(f"/proc/{health['pid']}")
    resident = int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return Footprint(
        in_flight=health["in_flight"],
        files=len(list((process / "fd").iterdir())),
        threads=len(list((process / "task").iterdir())),
        rss_mib=resident / 2**20,
    )


async def _health(base_url: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"{base_url}/tierwise/health") as reply:
        return msgspec.json.decode(await reply.read())


COUNTS: Final = """
    SELECT sum(attempt = 1) AS asked, sum(attempt > 1) AS retried, sum(ending IS NULL) AS open,
        sum(error = 'caller-left') AS left, sum(cost_nanos) AS known_nanos
    FROM calls
"""


def counts(ledger: Path) -> dict[str, int]:
    with closing(read_ledger(ledger)) as reader:
        (row,) = reader.rows(COUNTS)
        return dict(row)


def billed_by(sandbox: Running, ledger: Path) -> int:
    """What the server billed, once it has noticed the last caller leave; else -1."""
    before = sandbox.openai_billing()["total_nanos"]
    sleep(0.3)
    after = sandbox.openai_billing()["total_nanos"]
    return after if after == before and counts(ledger)["open"] == 0 else -1
