"""What `kill -9` of the gateway loses: every call that the provider billed has to be in the ledger.

    python bench/kill.py [--quick] [--kills 200,40,40] [--settings "in process,four workers,two gateways"] [--json FILE]

A load of streamed and whole calls is served, the busiest process that takes calls is killed at a random moment, and
started again, over and over: the only gateway; one of four workers, which the others outlive; one of two gateways.
Then the provider's own record of billed calls is compared with the ledger, call by call, and its total with the
ledger's: the known costs, and the reservations that are kept.
"""

import argparse
import asyncio
import itertools
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import aiohttp
from rich.console import Console
from rich.progress import track
from rich.table import Table

from gateways import SETTINGS, Fleet, Servers, Setting, fleet, servers
from measuring import arguments, write
from tierwise.sandbox.server import Running, running_process
from tierwise.stores.ledger.opening import read_ledger
from tierwise.stores.ledger.reservations import past
from tierwise.stores.ledger.verification import verify

POLICY: Final = """
[tiers.frontier]
model = "claude-opus-4-8"
thinking = "off"

[task_types.default]
tier = "frontier"
max_tokens = 512

[[budgets]]
scope = "run"
limit_usd = "100000"
"""

KILLS: Final = {"in process": 200, "four workers": 40, "two gateways": 40}
QUICK: Final = {"in process": 6, "four workers": 4, "two gateways": 2}
FRESH_AFTER: Final = 4
"""Kills of workers before all are started anew: the longer a row of early deaths, the later comes the next worker."""
AT_ONCE: Final = 16
OUTLIVED_S: Final = 0.1
"""How long calls go on after a kill, in seconds."""
KEY: Final = {"x-api-key": "any", "anthropic-version": "2026-10-21"}


def main() -> None:
    asked = arguments("Kills gateways under load, and looks for what is missing.", _more)
    names = asked.settings.split(",")
    kills = dict(zip(names, map(int, asked.kills.split(",")), strict=True)) if asked.kills else KILLS
    if asked.quick:
        kills = {name: min(number, QUICK[name]) for name, number in kills.items()}
    with servers() as shared:
        rows = [_row(SETTINGS[name], kills[name], shared) for name in names]
    _show(rows)
    write(asked.json, {"rows": rows})


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kills", help="how many in each setting")
    parser.add_argument("--settings", default=",".join(SETTINGS), help="which, by name")


def _row(setting: Setting, kills: int, shared: Servers) -> dict[str, Any]:
    with (
        running_process("--latency-ms", "15") as sandbox,
        fleet(setting, POLICY, upstream=sandbox.base_url, shared=shared) as gateways,
    ):
        billed = _killed_again_and_again(gateways, sandbox, kills)
        gateways.stop()
        return {
            "setting": setting.name,
            "gateways": setting.processes,
            "kills": kills,
            **_compared(gateways, sandbox, billed),
        }


def _killed_again_and_again(gateways: Fleet, sandbox: Running, kills: int) -> set[str]:
    """Return the numbers of the calls that the provider billed."""
    numbers = itertools.count(1)
    billed: set[str] = set()
    draw = random.Random(7)
    for killed in track(range(kills), description=gateways.setting.name, transient=True):
        if gateways.setting.workers > 1 and killed and killed % FRESH_AFTER == 0:
            gateways.stop()
        gateways.start()
        asyncio.run(_load(gateways, numbers, draw))
        latest = sandbox.calls(limit=5_000)  # the sandbox remembers a limited number
        billed |= {call["sent"]["headers"]["x-bench-call"] for call in latest if call["billed"]}
    return billed


async def _load(gateways: Fleet, numbers: Iterator[int], draw: random.Random) -> None:
    """Call without a pause while one that takes calls is killed, and a little longer."""
    is_over = False

    async def caller(session: aiohttp.ClientSession) -> None:
        while not is_over:
            with suppress(aiohttp.ClientError):
                await _call(session, next(numbers))
                continue
            await asyncio.sleep(0.02)

    sessions = [aiohttp.ClientSession(address, headers=KEY) for address in gateways.addresses]
    callers = [asyncio.create_task(caller(sessions[n % len(sessions)])) for n in range(AT_ONCE)]
    await asyncio.sleep(draw.uniform(0.05, 0.4))
    os.kill(_busiest(_takers(gateways)), signal.SIGKILL)
    await asyncio.sleep(OUTLIVED_S)
    is_over = True
    await asyncio.gather(*callers)
    for session in sessions:
        await session.close()


def _takers(gateways: Fleet) -> list[int]:
    while not (pids := gateways.takers()):
        time.sleep(0.05)
    return pids


def _busiest(pids: list[int]) -> int:
    """The one with the most open descriptors: connections fall on workers as they come, and one may have none."""
    return max(pids, key=lambda pid: sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()))


async def _call(session: aiohttp.ClientSession, number: int) -> None:
    headers = {"x-tierwise-task-id": str(number), "x-bench-call": str(number)}
    async with session.post("/v1/messages", json=_body(number), headers=headers) as reply:
        await reply.read()


def _body(number: int) -> dict[str, Any]:
    text = f"Call {number}. [[sandbox output_tokens={20 + number % 200}]]"
    return {
        "model": "task/any",
        "max_tokens": 512,
        "stream": number % 2 == 0,
        "messages": [{"role": "user", "content": text}],
    }


def _compared(gateways: Fleet, sandbox: Running, billed: set[str]) -> dict[str, Any]:
    with closing(read_ledger(gateways.ledger)) as ledger:
        known = {row["task_id"] for row in ledger.rows("SELECT task_id FROM calls")}
        reservations = list(past(ledger))
        sound = not any(finding.breaches for finding in verify(ledger))
    kept = [each.amount_nanos for each in reservations if each.cost_nanos is None]
    ours = sum(kept) + sum(each.cost_nanos for each in reservations if each.cost_nanos is not None)
    return {
        "billed_calls": len(billed),
        "missing_calls": len(billed - known),
        "kept_reservations": len(kept),
        "provider_total_usd": _usd(sandbox.billing()["total_nanos"]),
        "ledger_total_usd": _usd(ours),
        "ledger_is_sound": sound,
    }


def _usd(nanos: int) -> float:
    return float(Decimal(nanos).scaleb(-9))


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table(title="killed under load", title_justify="left")
    table.add_column("setting", no_wrap=True)
    for column in ("kills", "billed calls", "missing", "kept", "provider's total", "ledger's"):
        table.add_column(column, justify="right")
    for row in rows:
        counts = (row[name] for name in ("kills", "billed_calls", "missing_calls", "kept_reservations"))
        totals = (f"${row[name]:.4f}" for name in ("provider_total_usd", "ledger_total_usd"))
        table.add_row(row["setting"], *map(str, counts), *totals)
    Console().print(table)


if __name__ == "__main__":
    main()
