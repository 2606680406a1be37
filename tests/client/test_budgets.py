"""Budgets inside the program: refused once and cleanly, never overspent, kept over a restart and a kill."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import anthropic
import pytest

import tierwise
from support.clients import Door, OpenDoor, budgeted, router_of
from support.waiting import eventually
from tierwise.errors import LedgerInUse, NeedsLedger
from tierwise.money import usd
from tierwise.sandbox.server import Running

ASKED: Final[dict[str, Any]] = {
    "model": "task/synthesis",
    "max_tokens": 4000,
    "messages": [{"role": "user", "content": "Which is right? [[sandbox output_tokens=3000]]"}],
}


def test_a_short_budget_is_the_sdks_own_exception_after_one_request(
    open_door: OpenDoor, sandbox: Running
) -> None:
    door = open_door(budgeted("0.10"))
    with tierwise.task(None, run="run-1"), door.client(max_retries=3) as client:
        client.messages.create(**ASKED)
        with pytest.raises(anthropic.RateLimitError, match="run-lifetime of run run-1 is short") as raised:
            client.messages.create(**ASKED)

    assert raised.value.type == "billing_error"
    told = raised.value.response.headers
    assert (told["x-should-retry"], told["x-tierwise-error"]) == ("false", "budget")
    assert Decimal(told["x-tierwise-budget-limit-usd"]) == Decimal("0.10")
    assert [call["ending"] for call in door.calls()] == ["posted", "failed"]
    assert len(sandbox.calls()) == 1


def test_a_short_budget_refuses_a_stream_and_an_async_call_too(open_door: OpenDoor) -> None:
    door = open_door(budgeted("0.001"))

    async def ask() -> None:
        async with door.async_client() as client:
            await client.messages.create(**ASKED, stream=True)

    with door.client() as client, pytest.raises(anthropic.RateLimitError):
        client.messages.create(**ASKED, stream=True)
    with pytest.raises(anthropic.RateLimitError):
        asyncio.run(ask())


def outcomes(door: Door, many: int) -> Sequence[bool]:
    """Make calls from many threads at once; whether each was let through."""

    with door.client() as client:

        def ask(place: int) -> bool:
            try:
                asked = {**ASKED, "stream": True} if place % 3 == 0 else ASKED
                events = client.messages.create(**asked)
                if place % 3 == 0:
                    list(events)
            except anthropic.RateLimitError:
                return False
            return True

        with tierwise.task(None, run="run-1"), ThreadPoolExecutor(20) as pool:
            return list(pool.map(ask, range(many)))


def test_twenty_threads_do_not_overspend_a_budget_and_use_it(open_door: OpenDoor, sandbox: Running) -> None:
    door = open_door(budgeted("1.00"))

    passed = outcomes(door, 60)

    spent = sandbox.billing()["total_nanos"]
    assert usd("0.80") < spent <= usd("1.00")
    assert {True, False} == set(passed)
    assert door.totals() == dict.fromkeys(door.totals(), (0, spent))
    assert len(door.totals()) == 1


def test_many_coroutines_do_not_overspend_a_budget(open_door: OpenDoor, sandbox: Running) -> None:
    door = open_door(budgeted("0.50"))

    async def run() -> list[Any]:
        async with door.async_client() as client:
            asking = (client.messages.create(**ASKED) for _ in range(30))
            return await asyncio.gather(*asking, return_exceptions=True)

    answers = asyncio.run(run())

    spent = sandbox.billing()["total_nanos"]
    assert usd("0.35") < spent <= usd("0.50")
    refused = [answer for answer in answers if isinstance(answer, Exception)]
    assert {type(error) for error in refused} == {anthropic.RateLimitError}
    assert len(refused) + len(sandbox.calls()) == 30


def test_hard_budgets_need_a_ledger_and_budgets_that_warn_do_not(tmp_path: Path) -> None:
    with pytest.raises(NeedsLedger, match="give a ledger"):
        tierwise.middleware(router_of(tmp_path, budgeted("1.00")), ledger=None)

    with tierwise.Session(
        router_of(tmp_path, budgeted("1.00", more='kind = "warn"')), ledger=None
    ) as session:
        assert session.is_open


def test_a_budget_that_warns_tells_who_is_to_know(tmp_path: Path, sandbox: Running) -> None:
    told: list[Any] = []
    router = router_of(tmp_path, budgeted("0.001", more='kind = "warn"'))
    with tierwise.Session(router, ledger=None, warn=told.append) as session:
        client: Any = anthropic.Anthropic(
            base_url=sandbox.base_url, api_key="any", middleware=[tierwise.middleware(session)]
        )
        with client:
            client.messages.create(**ASKED)

    assert [crossing.account.budget.scope for crossing in told] == ["run"]


def test_one_process_at_a_time_holds_the_budgets_of_a_ledger(open_door: OpenDoor, tmp_path: Path) -> None:
    door = open_door(budgeted("1.00"))

    with pytest.raises(LedgerInUse, match=f"process {os.getpid()}"):
        tierwise.Session(router_of(tmp_path, budgeted("1.00")), ledger=door.ledger_path)
    door.session.close()
    tierwise.Session(router_of(tmp_path, budgeted("1.00")), ledger=door.ledger_path).close()


def test_what_was_spent_counts_after_a_restart(open_door: OpenDoor) -> None:
    door = open_door(budgeted("0.10"))
    with tierwise.task(None, run="run-1"), door.client() as client:
        client.messages.create(**ASKED)
    door.session.close()

    with (
        tierwise.task(None, run="run-1"),
        open_door(budgeted("0.10")).client() as client,
        pytest.raises(anthropic.RateLimitError),
    ):
        client.messages.create(**ASKED)


PROGRAM: Final = """
import sys, anthropic, tierwise
policy, ledger, url = sys.argv[1:]
router = tierwise.Router.from_file(policy)
client = anthropic.Anthropic(
    base_url=url, api_key="any", middleware=[tierwise.middleware(router, ledger=ledger)]
)
asked = {"model": "task/synthesis", "max_tokens": 4000, "messages": [{"role": "user", "content": "Hi"}]}
client.messages.create(**asked)
client.messages.create(**asked, extra_headers={"x-sandbox-fault": "slow-first:20"})
"""


def test_a_program_that_is_killed_leaves_its_calls_in_the_ledger(tmp_path: Path, sandbox: Running) -> None:
    router = router_of(tmp_path, budgeted("1.00"))
    ledger = tmp_path / "ledger.sqlite3"
    with tierwise.Session(router, ledger=ledger) as session:
        door = Door(session=session, by="middleware", base_url=sandbox.base_url, ledger_path=ledger)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "tierwise.toml"), str(ledger), sandbox.base_url]
    with subprocess.Popen(command) as program:
        eventually(door.calls, until=lambda found: len(found) == 2)
        eventually(
            lambda: [pending for pending, _ in door.totals().values()], until=lambda held: max(held) > 0
        )
        os.kill(program.pid, signal.SIGKILL)

    finished, hanging = door.calls()
    assert (finished["ending"], hanging["ending"]) == ("posted", None)
    ((pending, posted),) = door.totals().values()
    assert posted == finished["cost_nanos"] > 0
    assert pending + posted >= sandbox.billing()["total_nanos"]
