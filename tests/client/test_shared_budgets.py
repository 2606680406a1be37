"""Budgets that several programs share, held by a Valkey: here, two sessions on one ledger."""

import asyncio
from pathlib import Path
from typing import Any

import anthropic

import tierwise
from support.clients import Door, budgeted, router_of
from support.valkey import a_valkey
from tierwise.sandbox.server import Running

ASKED: dict[str, Any] = {
    "model": "task/synthesis",
    "max_tokens": 4000,
    "messages": [{"role": "user", "content": "Which is right? [[sandbox output_tokens=3000]]"}],
}


async def ask(door: Door) -> str:
    async with door.async_client() as client:
        try:
            await client.messages.create(**ASKED)
        except anthropic.RateLimitError:
            return "short"
        return "answered"


def test_what_one_program_spends_another_does_not_have_in_whichever_loop_it_asks(
    tmp_path: Path, sandbox: Running
) -> None:
    with a_valkey() as valkey:
        router = router_of(tmp_path, f'budget_store = "{valkey.address.text}"\n{budgeted("0.20")}')
        ledger = tmp_path / "ledger.sqlite3"
        with (
            tierwise.Session(router, ledger=ledger) as first,
            tierwise.Session(router, ledger=ledger) as second,
            tierwise.task(None, run="run-1"),
        ):
            doors = [
                Door(session=session, by="middleware", base_url=sandbox.base_url, ledger_path=ledger)
                for session in (first, second)
            ]
            answers = [asyncio.run(ask(doors[place % 2])) for place in range(6)]

    assert answers[:2] == ["answered", "answered"]
    assert answers[-1] == "short"
    assert sandbox.billing()["total_nanos"] <= 200_000_000
