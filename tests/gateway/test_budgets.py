"""Budgets through the real gateway: what a short one answers, what a restart keeps, whose money is whose."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from decimal import Decimal
from http.client import IncompleteRead
from pathlib import Path
from typing import Any, Final

import pytest

from support.gateways import RunningGateway, running_gateway
from support.policies import TWO_TIERS
from support.waiting import eventually
from tierwise.errors import LedgerInUse
from tierwise.money import usd
from tierwise.sandbox.server import Answer, Running, running
from tierwise.stores.ledger.lock import budgets_held
from tierwise.stores.ledger.reservations import account_totals
from tierwise.stores.ledger.sqlite import read_ledger


@pytest.fixture
def sandbox() -> Iterator[Running]:
    with running(seed=3) as sandbox:
        yield sandbox


def budgeted(limit_usd: str, *, scope: str = "run", window: str = "lifetime", more: str = "") -> str:
    return f"""{TWO_TIERS}
[[budgets]]
scope = "{scope}"
window = "{window}"
limit_usd = "{limit_usd}"
{more}
"""


BODY: Final[Mapping[str, Any]] = {
    "model": "task/synthesis",
    "max_tokens": 4000,
    "messages": [{"role": "user", "content": "Which is right? [[sandbox output_tokens=3000]]"}],
}


def ask(gateway: RunningGateway, *, run: str = "run-1", key: str = "a", **fields: Any) -> Answer:
    return gateway.http.messages({**BODY, **fields}, {"x-tierwise-run-id": run, "x-api-key": key})


def totals(gateway: RunningGateway) -> dict[str, tuple[int, int]]:
    """Pending and posted of each account."""
    with closing(read_ledger(gateway.ledger_path)) as ledger:
        return {
            account.key: (account.pending_nanos, account.posted_nanos) for account in account_totals(ledger)
        }


def test_a_short_budget_answers_what_clients_stop_at_and_says_what_is_short(
    tmp_path: Path, sandbox: Running
) -> None:
    with running_gateway(tmp_path, sandbox.base_url, policy=budgeted("0.10")) as gateway:
        first = ask(gateway)
        refused = ask(gateway)
        (last,) = gateway.settled()[1:]

    assert first.status == 200
    assert refused.status == 429
    assert refused.json()["error"]["type"] == "billing_error"
    assert "run-lifetime of run run-1 is short" in refused.json()["error"]["message"]
    told = refused.headers
    assert (told["x-should-retry"], told["x-tierwise-error"]) == ("false", "budget")
    assert (told["x-tierwise-budget"], told["x-tierwise-budget-scope"]) == ("run-lifetime", "run")
    assert Decimal(told["x-tierwise-budget-limit-usd"]) == Decimal("0.10")
    assert usd(told["x-tierwise-budget-posted-usd"]) == sandbox.billing()["total_nanos"]
    assert told["anthropic-ratelimit-unified-status"] == "rejected"
    assert "retry-after" not in told
    assert (last["error"], last["cost_nanos"]) == ("budget", 0)


def test_a_window_that_ends_says_when_to_try_again(tmp_path: Path, sandbox: Running) -> None:
    policy = budgeted("0.01", scope="all", window="day")
    with running_gateway(tmp_path, sandbox.base_url, policy=policy) as gateway:
        refused = ask(gateway)

    assert refused.status == 429
    assert 0 < int(refused.headers["retry-after"]) <= 86_400
    assert int(refused.headers["anthropic-ratelimit-unified-reset"]) % 86_400 == 0


def test_a_call_is_shrunk_to_what_is_left_and_still_answered(tmp_path: Path, sandbox: Running) -> None:
    with running_gateway(tmp_path, sandbox.base_url, policy=budgeted("0.08")) as gateway:
        answered = ask(gateway)
        (call,) = gateway.settled()

    assert answered.status == 200
    assert 1000 <= call["max_tokens_sent"] < 4000
    assert int(answered.headers["x-tierwise-max-tokens"]) == call["max_tokens_sent"]
    assert sandbox.billing()["total_nanos"] <= usd("0.08")


def test_a_runs_account_is_made_by_its_first_call_and_is_its_own(tmp_path: Path, sandbox: Running) -> None:
    with running_gateway(tmp_path, sandbox.base_url, policy=budgeted("0.10")) as gateway:
        statuses = [ask(gateway, run=run).status for run in ("run-1", "run-1", "run-2", "run-2")]

    assert statuses == [200, 429, 200, 429]


def test_a_forged_run_id_does_not_reach_the_budget_of_another_key(tmp_path: Path, sandbox: Running) -> None:
    with running_gateway(tmp_path, sandbox.base_url, policy=budgeted("0.10")) as gateway:
        statuses = [ask(gateway, key=key).status for key in ("mallory", "mallory", "alice")]

    assert statuses == [200, 429, 200]


def test_a_reply_that_breaks_off_does_not_ride_free(tmp_path: Path, sandbox: Running) -> None:
    with running_gateway(tmp_path, sandbox.base_url, policy=budgeted("0.10")) as gateway:
        with pytest.raises(IncompleteRead):
            gateway.http.messages(
                {**BODY, "stream": True},
                {"x-tierwise-run-id": "run-1", "x-api-key": "a", "x-sandbox-fault": "cut-after:3"},
            )
        (call,) = gateway.settled()
        refused = ask(gateway)
        ((pending, posted),) = totals(gateway).values()

    assert (call["ending"], call["cost_nanos"]) == ("failed", None)
    assert refused.status == 429
    assert pending > 0
    assert posted == 0


def test_an_error_of_the_provider_gives_its_reservation_back(tmp_path: Path, sandbox: Running) -> None:
    with running_gateway(tmp_path, sandbox.base_url, policy=budgeted("0.10")) as gateway:
        failed = gateway.http.messages(
            BODY, {"x-tierwise-run-id": "run-1", "x-api-key": "a", "x-sandbox-fault": "status:529"}
        )
        answered = ask(gateway)

    assert failed.status == 529
    assert answered.status == 200


def test_a_model_without_a_price_is_refused_under_a_hard_budget(tmp_path: Path, sandbox: Running) -> None:
    with running_gateway(tmp_path, sandbox.base_url, policy=budgeted("1.00")) as gateway:
        refused = ask(gateway, model="claude-nobody-9")

    assert refused.status == 400
    assert refused.headers["x-tierwise-error"] == "unpriced"
    assert sandbox.billing()["total_nanos"] == 0


def test_a_restart_begins_with_what_was_spent_and_set_aside(tmp_path: Path, sandbox: Running) -> None:
    with running_gateway(tmp_path, sandbox.base_url, policy=budgeted("0.10")) as gateway:
        before = ask(gateway)
    with running_gateway(tmp_path, sandbox.base_url, policy=budgeted("0.10")) as gateway:
        after = ask(gateway)

    assert (before.status, after.status) == (200, 429)
    assert usd(after.headers["x-tierwise-budget-posted-usd"]) == sandbox.billing()["total_nanos"]


def test_a_gateway_that_is_killed_keeps_its_calls_at_their_worst_case(
    tmp_path: Path, sandbox: Running
) -> None:
    policy = budgeted("0.10")
    with running_gateway(tmp_path, sandbox.base_url, policy=policy):
        pass  # writes the files
    policy_path, ledger_path = tmp_path / "tierwise.toml", tmp_path / "ledger.sqlite3"
    command = [sys.executable, "-m", "tierwise", "serve", "--port", "0", "--quiet"]
    command += ["--policy", str(policy_path), "--ledger", str(ledger_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        dying = Running(process.stdout.readline().strip())
        caller = threading.Thread(target=hanging_call, args=(dying,), daemon=True)
        caller.start()
        eventually(lambda: reservations(ledger_path), until=bool)
        os.kill(process.pid, signal.SIGKILL)
    caller.join(30)

    with running_gateway(tmp_path, sandbox.base_url, policy=policy) as gateway:
        refused = ask(gateway)

    assert refused.status == 429
    assert usd(refused.headers["x-tierwise-budget-pending-usd"]) > usd("0.05")
    assert usd(refused.headers["x-tierwise-budget-pending-usd"]) >= sandbox.billing()["total_nanos"]


def hanging_call(gateway: Running) -> None:
    with suppress(OSError):  # the gateway is killed
        gateway.messages(
            BODY, {"x-tierwise-run-id": "run-1", "x-api-key": "a", "x-sandbox-fault": "slow-first:20"}
        )


def reservations(ledger_path: Path) -> int:
    with closing(read_ledger(ledger_path)) as ledger:
        (row,) = ledger.rows("SELECT count(*) AS found FROM entries WHERE kind = 'set-aside'")
        return row["found"]


def test_one_process_at_a_time_holds_the_budgets_of_a_ledger(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite3"

    with (
        budgets_held(ledger),
        pytest.raises(LedgerInUse, match=f"process {os.getpid()}"),
        budgets_held(ledger),
    ):
        pass
    with budgets_held(ledger):
        pass


def test_a_second_gateway_on_the_same_budgets_does_not_start_and_says_what_to_do(tmp_path: Path) -> None:
    policy, ledger = tmp_path / "tierwise.toml", tmp_path / "ledger.sqlite3"
    policy.write_text(budgeted("1.00"))
    command = [sys.executable, "-m", "tierwise", "serve", "--port", "0"]
    command += ["--policy", str(policy), "--ledger", str(ledger)]

    with budgets_held(ledger):
        second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert second.returncode == 3
    assert f"held by process {os.getpid()}" in second.stderr
    assert "give this one a --ledger of its own" in second.stderr
