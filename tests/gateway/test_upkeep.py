"""What goes on beside the calls of a gateway: top-ups, settlements, calibration; and callers that mean it no good."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from support.entries import settled, topped_up
from support.gateways import RunningGateway, running_gateway
from support.policies import TWO_TIERS
from support.processes import an_extraction, totals
from support.waiting import eventually
from tierwise.core.ledger import Entry
from tierwise.engine import upkeep
from tierwise.engine.clock import now_us
from tierwise.money import usd
from tierwise.sandbox.server import Answer, Running, running
from tierwise.stores.ledger.opening import open_ledger, read_ledger
from tierwise.stores.ledger.reservations import account_totals, open_reservations


@pytest.fixture
def sandbox() -> Iterator[Running]:
    with running(seed=3) as sandbox:
        yield sandbox


def budgeted(limit_usd: str, *, scope: str = "all", more: str = "", above: str = "") -> str:
    return f"""
{above}
{TWO_TIERS}
[[budgets]]
scope = "{scope}"
limit_usd = "{limit_usd}"
{more}
"""


DAY_US: Final = 86_400_000_000

SYNTHESIS: Final[dict[str, Any]] = {
    "model": "task/synthesis",
    "max_tokens": 4000,
    "messages": [{"role": "user", "content": "Which is right? [[sandbox output_tokens=3000]]"}],
}


def ask(gateway: RunningGateway, *, key: str = "a", **fields: Any) -> Answer:
    return gateway.http.messages({**SYNTHESIS, **fields}, {"x-tierwise-run-id": "run-1", "x-api-key": key})


def told_by_another(gateway: RunningGateway, entry: Entry) -> None:
    """Write an entry as another process does."""
    with closing(open_ledger(gateway.ledger_path)) as ledger:
        ledger.write([entry])


def account(gateway: RunningGateway) -> str:
    with closing(read_ledger(gateway.ledger_path)) as ledger:
        return next(each.key for each in account_totals(ledger))


def served(gateway: RunningGateway) -> Answer:
    return eventually(lambda: ask(gateway), until=lambda answer: answer.status == 200)


# What others tell the ledger


def test_a_refused_run_goes_on_after_a_top_up(tmp_path: Path, sandbox: Running) -> None:
    with running_gateway(tmp_path, sandbox.base_url, policy=budgeted("0.10", scope="run")) as gateway:
        before = [ask(gateway).status for _ in range(2)]
        told_by_another(gateway, topped_up(account=account(gateway), amount_nanos=usd("1.00")))
        served(gateway)

    assert before == [200, 429]


def test_what_a_kept_call_has_cost_frees_the_rest_once_somebody_says_it(
    tmp_path: Path, sandbox: Running
) -> None:
    with running_gateway(tmp_path, sandbox.base_url, policy=budgeted("0.12", scope="run")) as gateway:
        leave_early(gateway, SYNTHESIS)
        before = ask(gateway).status
        (call_id,) = open_calls(gateway)
        told_by_another(gateway, settled(call_id, cost_nanos=usd("0.01")))
        served(gateway)

    assert before == 429


def test_a_call_that_was_kept_for_long_enough_is_posted_as_assumed_by_a_running_gateway(
    tmp_path: Path, sandbox: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "ROUND_TICKS", 1)
    with running_gateway(tmp_path, sandbox.base_url, policy=budgeted("1.00")) as gateway:
        leave_early(gateway, SYNTHESIS)
        (call_id,) = open_calls(gateway)
    with running_gateway(
        tmp_path, sandbox.base_url, policy=budgeted("1.00"), clock=lambda: now_us() + 2 * DAY_US
    ) as again:
        eventually(lambda: open_calls(again), until=lambda left: not left)
        known, kept = totals(again.ledger_path)
        (call,) = again.calls()

    assert kept == 0
    assert known == call["cost_nanos"] > sandbox.billing()["total_nanos"]
    assert (call["call_id"], call["basis"]) == (call_id, "assumed")


def open_calls(gateway: RunningGateway) -> list[str]:
    with closing(read_ledger(gateway.ledger_path)) as ledger:
        return [each.call_id for each in open_reservations(ledger)]


# Calibration


def test_what_the_ledger_has_seen_makes_reservations_smaller_and_none_is_overrun(
    tmp_path: Path, sandbox: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "ROUND_TICKS", 1)
    policy = budgeted("100.00", above='prompt_bound = "calibrated"')
    body = an_extraction() | {"messages": [{"role": "user", "content": "Which firm signed it? " * 40}]}
    with running_gateway(tmp_path, sandbox.base_url, policy=policy) as gateway:
        for _ in range(205):
            assert gateway.http.messages(body).status == 200
        first = reserved(gateway)[0]
        eventually(
            lambda: gateway.http.messages(body) and reserved(gateway)[-1], until=lambda last: last < first
        )
        for _ in range(20):
            gateway.http.messages(body)
    with closing(read_ledger(gateway.ledger_path)) as ledger:
        (account,) = (each for each in account_totals(ledger) if each.key.startswith("all-"))

    assert account.overrun_nanos == 0
    assert account.posted_nanos == sandbox.billing()["total_nanos"]


def reserved(gateway: RunningGateway) -> list[int]:
    query = "SELECT reserved_nanos FROM entries WHERE kind = 'set-aside' ORDER BY seq"
    with closing(read_ledger(gateway.ledger_path)) as ledger:
        return [row["reserved_nanos"] for row in ledger.rows(query)]


# Callers that mean it no good


def leave_early(gateway: RunningGateway, body: dict[str, Any], *, key: str = "a") -> None:
    """Make a call and leave with the first bytes of its reply."""
    request = json.dumps({**body, "stream": True}).encode()
    host, port = gateway.base_url.removeprefix("http://").split(":")
    before = len(gateway.calls())
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        head = (
            f"POST /v1/messages HTTP/1.1\r\nhost: {host}\r\nx-api-key: {key}\r\nx-tierwise-run-id: run-1\r\n"
            f"x-sandbox-fault: slow:50\r\nanthropic-version: 2023-06-01\r\ncontent-length: {len(request)}\r\n\r\n"
        )
        connection.sendall(head.encode() + request)
        assert connection.recv(1)
    eventually(lambda: gateway.calls("ending IS NOT NULL"), until=lambda found: len(found) > before)


def test_leaving_early_does_not_ride_free(tmp_path: Path, sandbox: Running) -> None:
    body = an_extraction(400)
    with running_gateway(tmp_path, sandbox.base_url, policy=budgeted("0.005", scope="run")) as gateway:
        for _ in range(50):
            leave_early(gateway, body)
        refused = ask(gateway, **body)
        left, short = gateway.calls("error = 'caller-left'"), gateway.calls("error = 'budget'")
        known, kept = totals(gateway.ledger_path)

    assert refused.status == 429
    assert len(left) + len(short) == 51
    assert len(short) > 10
    assert {call["cost_nanos"] for call in left} == {None}
    assert known == 0
    assert sandbox.billing()["total_nanos"] <= kept <= usd("0.005")


def test_a_caller_that_asks_for_the_longest_replies_is_bounded_by_the_contract(
    tmp_path: Path, sandbox: Running
) -> None:
    with running_gateway(tmp_path, sandbox.base_url, policy=budgeted("1.00", scope="run")) as gateway:
        answers = [ask(gateway, model="task/extraction", max_tokens=128_000) for _ in range(20)]
        known, kept = totals(gateway.ledger_path)

    assert {answer.headers["x-tierwise-max-tokens"] for answer in answers} == {"512"}
    assert {answer.status for answer in answers} == {200}
    assert (known, kept) == (sandbox.billing()["total_nanos"], 0)


def test_what_one_key_pins_leaves_the_calls_of_another_key_their_room(
    tmp_path: Path, sandbox: Running
) -> None:
    policy = budgeted("1.00", more="pending_share = 50")
    pinning = SYNTHESIS | {"max_tokens": 8000}
    with running_gateway(tmp_path, sandbox.base_url, policy=policy) as gateway:
        for _ in range(10):
            leave_early(gateway, pinning, key="mallory")
        refused = ask(gateway, key="mallory", max_tokens=8000)
        served = ask(gateway, key="alice")
        known, kept = totals(gateway.ledger_path)

    assert (refused.status, refused.headers["x-tierwise-error"]) == (429, "budget")
    assert served.status == 200
    assert kept <= usd("0.50")
    assert known > 0


@pytest.mark.parametrize(("scope", "header"), [("run", "x-tierwise-run-id"), ("agent", "x-tierwise-agent")])
def test_a_forged_name_does_not_touch_the_account_of_another_key(
    scope: str, header: str, tmp_path: Path, sandbox: Running
) -> None:
    with running_gateway(tmp_path, sandbox.base_url, policy=budgeted("0.10", scope=scope)) as gateway:

        def by(key: str) -> int:
            return gateway.http.messages(SYNTHESIS, {header: "theirs", "x-api-key": key}).status

        statuses = [by(key) for key in ("mallory", "mallory", "alice", "alice")]

    assert statuses == [200, 429, 200, 429]
