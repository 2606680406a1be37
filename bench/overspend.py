"""How far many agents at once overspend a run's budget of $1: held by Tierwise, and checked before, charged after.

    python bench/overspend.py [--quick] [--agents 1,20,200,1000] [--settings "in process,four workers"] [--json FILE]

Each agent makes call after call until it is refused and no call of the run is in flight any more. The total is the
provider's own bill, which shares no code with the gateway. The baseline is the loop that most gateways have: look
at what is spent, call, add what the call cost; one counter for all agents, which flatters it where there are several
processes. Workers share a ledger file, the two gateways a PostgreSQL; the balances of both are in a Valkey.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeAlias

import aiohttp
from rich.console import Console
from rich.table import Table

from gateways import SETTINGS, Servers, Setting, fleet, servers
from measuring import arguments, write
from tierwise.sandbox.server import Running, running_process
from tierwise.stores.ledger.opening import read_ledger
from tierwise.stores.ledger.reservations import account_totals
from tierwise.stores.ledger.verification import verify

LIMIT_USD: Final = Decimal(1)

POLICY: Final = f"""
[tiers.frontier]
model = "claude-opus-4-8"
thinking = "off"

[task_types.drafting]
tier = "frontier"
max_tokens = 512

[task_types.default]
tier = "frontier"
max_tokens = 512

[[budgets]]
scope = "run"
limit_usd = "{LIMIT_USD}"
"""

REPLY_TOKENS: Final = 400
HEADERS: Final = {"x-api-key": "any", "anthropic-version": "2026-10-21"}

QUICK: Final = {"in process": (20, 200), "four workers": (40,), "two gateways": (40,)}

Call: TypeAlias = Callable[[aiohttp.ClientSession, dict[str, Any]], Awaitable[bool]]
"""Makes one call; False where the agent has to stop."""


def main() -> None:
    asked = arguments("Measures how far parallel agents overspend a budget of $1.", _more)
    names = asked.settings.split(",")
    agents = {name: asked.agents or (QUICK[name] if asked.quick else (1, 20, 200, 1000)) for name in names}
    baselines = {number: _checked_then_charged(number) for number in sorted({*sum(agents.values(), ())})}
    with servers() as shared:
        rows = [row for name in names for row in _rows(SETTINGS[name], agents[name], shared)]
    for row in rows:
        row["baseline_overspend_usd"] = _overspend(baselines[row["agents"]])
    _show(rows)
    write(asked.json, {"rows": rows})


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--agents", type=_numbers, help="how many at once, a run each")
    parser.add_argument("--settings", default=",".join(SETTINGS), help="which, by name")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def _rows(setting: Setting, numbers: tuple[int, ...], shared: Servers) -> Iterator[dict[str, Any]]:
    """Yield a row for each number of agents; each has a run of its own."""
    with (
        running_process("--latency-ms", "10") as sandbox,
        fleet(setting, POLICY, upstream=sandbox.base_url, shared=shared) as gateways,
    ):
        for agents in numbers:
            sandbox.reset()
            begun = time.monotonic()
            asyncio.run(_run(gateways.addresses, agents, _until_nothing_is_pending))
            seconds = time.monotonic() - begun
            total = _bill(sandbox)
            yield {
                "setting": setting.name,
                "agents": agents,
                "gateways": setting.processes,
                "limit_usd": float(LIMIT_USD),
                "provider_total_usd": float(total),
                "overspend_usd": _overspend(total),
                "used_share": float(total / LIMIT_USD),
                **_told_by_the_ledger(gateways.ledger, f"run-{agents}"),
                "seconds": seconds,
            }


def _overspend(total: Decimal) -> float:
    return float(max(Decimal(0), total - LIMIT_USD))


def _told_by_the_ledger(path: Path | str, run: str) -> dict[str, Any]:
    """A run's money as the ledger has it, how many processes took its calls, and whether the ledger is sound."""
    with closing(read_ledger(path)) as ledger:
        makers = {row["call_id"][:-8] for row in ledger.rows(_CALLS, (run,))}
        (account,) = (account for account in account_totals(ledger) if f"|{run}|" in account.key)
        sound = not any(finding.breaches for finding in verify(ledger))
    total = Decimal(account.posted_nanos + account.pending_nanos).scaleb(-9)
    return {"served_by": len(makers), "ledger_total_usd": float(total), "ledger_is_sound": sound}


_CALLS: Final = "SELECT call_id FROM entries WHERE kind = 'decided' AND run_id = ?"
"""An id is its process's own but for the last eight digits, which count."""


async def _until_nothing_is_pending(session: aiohttp.ClientSession, body: dict[str, Any]) -> bool:
    """Refused while others are in flight, an agent asks again: what they do not need is released."""
    while True:
        async with session.post("/v1/messages", json={**body, "model": "task/drafting"}) as reply:
            await reply.read()
            if reply.status == 200:
                return True
            if reply.status != 429:
                raise RuntimeError(await reply.text())
            if Decimal(reply.headers["x-tierwise-budget-pending-usd"]) == 0:
                return False
        await asyncio.sleep(0.1)


def _checked_then_charged(agents: int) -> Decimal:
    spent = Decimal(0)

    async def call(session: aiohttp.ClientSession, body: dict[str, Any]) -> bool:
        nonlocal spent
        if spent >= LIMIT_USD:
            return False
        async with session.post("/v1/messages", json={**body, "model": "claude-opus-4-8"}) as reply:
            usage = (await reply.json())["usage"]
        spent += (5 * Decimal(usage["input_tokens"]) + 25 * Decimal(usage["output_tokens"])) / 1_000_000
        return True

    with running_process("--latency-ms", "10") as sandbox:
        asyncio.run(_run([sandbox.base_url], agents, call))
        return _bill(sandbox)


async def _run(addresses: Sequence[str], agents: int, call: Call) -> None:
    """Let agents go on until all have stopped; they take the addresses in turn."""
    body = {
        "max_tokens": 512,
        "thinking": {"type": "disabled"},
        "messages": [
            {"role": "user", "content": f"Draft the letter. [[sandbox output_tokens={REPLY_TOKENS}]]"}
        ],
    }
    headers = {**HEADERS, "x-tierwise-run-id": f"run-{agents}"}

    async def agents_at(address: str, number: int) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(address, headers=headers, connector=connector) as session:

            async def agent() -> None:
                while await call(session, body):
                    pass

            await asyncio.gather(*(agent() for _ in range(number)))

    places = len(addresses)
    numbers = [len(range(place, agents, places)) for place in range(places)]
    await asyncio.gather(*(agents_at(*each) for each in zip(addresses, numbers, strict=True)))


def _bill(sandbox: Running) -> Decimal:
    return Decimal(sandbox.billing()["total_nanos"]).scaleb(-9)


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table(
        title=f"a run's budget of ${LIMIT_USD}: overspent, and by the baseline", title_justify="left"
    )
    table.add_column("setting", no_wrap=True)
    for column in ("agents", "provider's total", "overspend", "used", "baseline", "seconds"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row["setting"],
            str(row["agents"]),
            f"${row['provider_total_usd']:.4f}",
            f"${row['overspend_usd']:.4f}",
            f"{row['used_share']:.1%}",
            f"${row['baseline_overspend_usd']:.4f}",
            f"{row['seconds']:.1f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
