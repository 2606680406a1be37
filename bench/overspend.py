"""How far many agents at once overspend a run's budget of $1: held by Tierwise, and checked before, charged after.

    python bench/overspend.py [--quick] [--agents 1,20,200,1000] [--json FILE]

Each agent makes call after call until it is refused and no call of the run is in flight any more. The total is the
provider's own bill, which shares no code with the gateway. The baseline is the loop that most gateways have: look
at what is spent, call, add what the call cost.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeAlias

import aiohttp
from rich.console import Console
from rich.table import Table

from measuring import arguments, write
from tierwise.cli.child import gateway_process
from tierwise.sandbox.server import Running, running_process

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
HEADERS: Final = {"x-api-key": "any", "anthropic-version": "2026-10-21", "x-tierwise-run-id": "run-1"}

Call: TypeAlias = Callable[[aiohttp.ClientSession, dict[str, Any]], Awaitable[bool]]
"""Makes one call; False where the agent has to stop."""


def main() -> None:
    asked = arguments("Measures how far parallel agents overspend a budget of $1.", _more)
    agents = [int(number) for number in asked.agents.split(",")]
    if asked.quick:
        agents = [number for number in agents if number <= 200]
    rows = [_row(number) for number in agents]
    _show(rows)
    write(asked.json, {"rows": rows})


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--agents", default="1,20,200,1000", help="how many at once, a run each")


def _row(agents: int) -> dict[str, Any]:
    total = _through_the_gateway(agents)
    baseline = _checked_then_charged(agents)
    return {
        "setting": "in process",
        "agents": agents,
        "gateways": 1,
        "limit_usd": float(LIMIT_USD),
        "provider_total_usd": float(total),
        "overspend_usd": float(max(Decimal(0), total - LIMIT_USD)),
        "used_share": float(total / LIMIT_USD),
        "baseline_overspend_usd": float(max(Decimal(0), baseline - LIMIT_USD)),
    }


def _through_the_gateway(agents: int) -> Decimal:
    with tempfile.TemporaryDirectory() as folder, running_process("--latency-ms", "20") as sandbox:
        policy = Path(folder, "tierwise.toml")
        policy.write_text(POLICY, encoding="utf-8")
        ledger = Path(folder, "ledger.sqlite3")
        with gateway_process(
            policy=policy, ledger=ledger, upstream=sandbox.base_url, log_level="error"
        ) as address:
            asyncio.run(_run(address, agents, _until_nothing_is_pending))
        return _bill(sandbox)


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

    with running_process("--latency-ms", "20") as sandbox:
        asyncio.run(_run(sandbox.base_url, agents, call))
        return _bill(sandbox)


async def _run(address: str, agents: int, call: Call) -> None:
    body = {
        "max_tokens": 512,
        "thinking": {"type": "disabled"},
        "messages": [
            {"role": "user", "content": f"Draft the letter. [[sandbox output_tokens={REPLY_TOKENS}]]"}
        ],
    }
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(address, headers=HEADERS, connector=connector) as session:

        async def agent() -> None:
            while await call(session, body):
                pass

        await asyncio.gather(*(agent() for _ in range(agents)))


def _bill(sandbox: Running) -> Decimal:
    return Decimal(sandbox.billing()["total_nanos"]).scaleb(-9)


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table(title=f"a run's budget of ${LIMIT_USD}: hard, in one process", title_justify="left")
    for column in ("agents", "provider's total", "overspend", "used", "baseline's overspend"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            str(row["agents"]),
            f"${row['provider_total_usd']:.4f}",
            f"${row['overspend_usd']:.4f}",
            f"{row['used_share']:.1%}",
            f"${row['baseline_overspend_usd']:.4f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
