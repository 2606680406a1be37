"""What `kill -9` of the gateway loses: every call that the provider billed has to be in the ledger.

    python bench/kill.py [--quick] [--kills 200] [--json FILE]

A gateway serves a load of streamed and whole calls, is killed at a random moment, and started again on the same
ledger, over and over. Then the provider's own record of billed calls is compared with the ledger, call by call, and
its total with the ledger's: the known costs, and the reservations that are kept.
"""

import argparse
import asyncio
import itertools
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import aiohttp
from rich.console import Console
from rich.progress import track

from measuring import arguments, write
from tierwise.sandbox.server import Running, running_process
from tierwise.stores.ledger.reservations import past
from tierwise.stores.ledger.sqlite import read_ledger

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

AT_ONCE: Final = 16
KEY: Final = {"x-api-key": "any", "anthropic-version": "2026-10-21"}


def main() -> None:
    asked = arguments("Kills the gateway under load, and looks for what is missing.", _more)
    kills = min(asked.kills, 20) if asked.quick else asked.kills
    with tempfile.TemporaryDirectory() as folder, running_process("--latency-ms", "15") as sandbox:
        ledger = Path(folder, "ledger.sqlite3")
        billed = _killed_again_and_again(Path(folder), ledger, sandbox, kills)
        figures = {"kills": kills, **_compared(ledger, sandbox, billed)}
    for name, figure in figures.items():
        Console().print(f"{name:<22} {figure}")
    write(asked.json, figures)


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kills", type=int, default=200)


def _killed_again_and_again(folder: Path, ledger: Path, sandbox: Running, kills: int) -> set[str]:
    """Return the numbers of the calls that the provider billed."""
    policy = folder / "tierwise.toml"
    policy.write_text(POLICY, encoding="utf-8")
    numbers = itertools.count(1)
    billed: set[str] = set()
    draw = random.Random(7)
    for _ in track(range(kills), description="killing", transient=True):
        with _gateway(policy, ledger, sandbox.base_url) as (address, process):
            asyncio.run(_load(address, process, numbers, draw.uniform(0.05, 0.4)))
        latest = sandbox.calls(limit=5_000)  # the sandbox remembers a limited number
        billed |= {call["sent"]["headers"]["x-bench-call"] for call in latest if call["billed"]}
    return billed


@contextmanager
def _gateway(policy: Path, ledger: Path, upstream: str) -> Generator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "tierwise", "serve", "--port", "0", "--quiet", "--log-level", "error"]
    command += ["--policy", str(policy), "--ledger", str(ledger), "--upstream", upstream]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process


async def _load(
    address: str, process: subprocess.Popen[str], numbers: Iterator[int], killed_after_s: float
) -> None:
    """Call without a pause until the gateway is killed, and then until everybody has noticed."""

    async def caller(session: aiohttp.ClientSession) -> None:
        with suppress(aiohttp.ClientError):
            for number in numbers:
                body = _body(number)
                headers = {"x-tierwise-task-id": str(number), "x-bench-call": str(number)}
                async with session.post("/v1/messages", json=body, headers=headers) as reply:
                    await reply.read()

    async with aiohttp.ClientSession(address, headers=KEY) as session:
        callers = [asyncio.create_task(caller(session)) for _ in range(AT_ONCE)]
        await asyncio.sleep(killed_after_s)
        process.send_signal(signal.SIGKILL)
        await asyncio.gather(*callers)


def _body(number: int) -> dict[str, Any]:
    text = f"Call {number}. [[sandbox output_tokens={20 + number % 200}]]"
    return {
        "model": "task/any",
        "max_tokens": 512,
        "stream": number % 2 == 0,
        "messages": [{"role": "user", "content": text}],
    }


def _compared(path: Path, sandbox: Running, billed: set[str]) -> dict[str, Any]:
    with closing(read_ledger(path)) as ledger:
        known = {row["task_id"] for row in ledger.execute("SELECT task_id FROM calls")}
        reservations = list(past(ledger))
    kept = [each.amount_nanos for each in reservations if each.cost_nanos is None]
    ours = sum(kept) + sum(each.cost_nanos for each in reservations if each.cost_nanos is not None)
    return {
        "billed_calls": len(billed),
        "missing_calls": len(billed - known),
        "kept_reservations": len(kept),
        "provider_total_usd": _usd(sandbox.billing()["total_nanos"]),
        "ledger_total_usd": _usd(ours),
    }


def _usd(nanos: int) -> float:
    return float(Decimal(nanos).scaleb(-9))


if __name__ == "__main__":
    main()
