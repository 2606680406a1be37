"""`tierwise ledger reconcile`."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from typer.testing import CliRunner, Result

from support.entries import decided, failed, posted, set_aside
from support.gateways import running_gateway
from support.policies import TWO_TIERS, book
from support.waiting import eventually
from tierwise.cli import app
from tierwise.cli.reconcile import Reconciliation, reconciled, write
from tierwise.sandbox.server import Running, running
from tierwise.stores.ledger.opening import open_ledger, read_ledger
from tierwise.stores.ledger.verification import verify
from tierwise.usage import Usage

DAY: Final = date(2024, 10, 4)
FIRST_US: Final = 20_000 * 86_400_000_000
"""The beginning of `DAY`."""
HAIKU: Final = "claude-haiku-5-5"


@pytest.fixture
def ledger(tmp_path: Path, policy: Path) -> Path:
    """Two calls of one key: one posted at $0.001, one cut, with $0.002 set aside."""
    path = tmp_path / "tierwise.sqlite3"
    with closing(open_ledger(path)) as store:
        store.write(
            [
                decided("c1", at_us=FIRST_US, key_id="3f2a9c000000"),
                posted("c1", at_us=FIRST_US, cost_nanos=1_000_000, usage=Usage(output_tokens=2_000)),
                decided("c2", at_us=FIRST_US, key_id="3f2a9c000000"),
                set_aside("c2", at_us=FIRST_US, reserved_nanos=2_000_000),
                failed("c2", at_us=FIRST_US, cost_nanos=None, served_model=HAIKU, error="stream-broke"),
            ]
        )
    return path


def report(path: Path, cost_usd: str, *, key: str = "apikey_1", day: date = DAY) -> Path:
    path.write_text(f"day,api_key,model,cost_usd\n{day},{key},{HAIKU},{cost_usd}\n")
    return path


def ask(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["ledger", "reconcile", *map(str, arguments)])


def test_it_shows_what_it_would_settle_and_writes_nothing(ledger: Path, tmp_path: Path) -> None:
    file = report(tmp_path / "bill.csv", "0.002500000")
    shown = ask(file)
    again = ask(file)

    assert shown.exit_code == 0
    assert shown.output == again.output
    row = " ".join(shown.output.splitlines()[1].split())
    assert row.startswith("2024-10-04 all keys claude-haiku-")
    assert row.endswith("2 $0.0010 $0.0025 $0.0015 kept")
    assert "1 call of unknown cost, $0.0000 at the least" in shown.output
    assert "--settle books $0.0015 on 1 call of unknown cost." in shown.output


def test_with_settle_the_calls_are_settled_and_the_two_agree_from_then_on(
    ledger: Path, tmp_path: Path
) -> None:
    file = report(tmp_path / "bill.csv", "0.002500000")
    told = ask(file, "--settle")
    after = ask(file, "--settle", "--json")

    assert "Settled: 1 call of unknown cost, $0.0015." in told.output
    found = json.loads(after.output)
    assert [line["cause"] for line in found["lines"]] == ["agrees"]
    assert (found["ours_usd"], found["theirs_usd"], found["settled"]) == (0.0025, 0.0025, [])
    with closing(read_ledger(ledger)) as reader:
        (call,) = reader.rows("SELECT cost_nanos, basis, note FROM calls WHERE call_id = 'c2'")
        assert (call["cost_nanos"], call["basis"]) == (1_500_000, "reconciled")
        assert call["note"] == "the provider's report of 2024-10-04 for claude-haiku-5-5"
        assert not any(finding.breaches for finding in verify(reader))


def test_what_nothing_explains_is_said_and_exits_with_1(ledger: Path, tmp_path: Path) -> None:
    told = ask(report(tmp_path / "bill.csv", "0.009000000"), "--settle")

    assert told.exit_code == 1
    assert (
        "unexplained. Theirs is $0.0060 above all that the calls of unknown cost can explain." in told.output
    )
    assert "ettle" not in told.output


def test_json_has_exact_dollars_and_stable_names(ledger: Path, tmp_path: Path) -> None:
    told = ask(report(tmp_path / "bill.csv", "0.002500001"), "--json", "--key", "apikey_1=3f2a9c")

    found = json.loads(told.output, parse_float=Decimal)
    (line,) = found["lines"]
    assert line | {"sentence": ""} == {
        "day": "2024-10-04",
        "key_id": "3f2a9c000000",
        "model": HAIKU,
        "batch": False,
        "calls": 2,
        "unknown_cost_calls": 1,
        "ours_usd": Decimal("0.001"),
        "theirs_usd": Decimal("0.002500001"),
        "difference_usd": Decimal("0.001500001"),
        "cause": "kept",
        "sentence": "",
        "explained": True,
        "final": True,
        "settled_usd": Decimal("0.001500001"),
    }
    assert (found["explained"], found["written"], found["pruned_until"]) == (True, False, None)
    assert [entry["call_id"] for entry in found["settled"]] == ["c2"]


def test_only_days_of_the_span_and_of_the_report_are_compared(ledger: Path, tmp_path: Path) -> None:
    other = report(tmp_path / "other.csv", "1", day=DAY + timedelta(days=1))
    both = (report(tmp_path / "bill.csv", "0.0025"), other)

    assert "2024-10-04" not in ask(*both, "--since", "2024-10-05").output
    assert "2024-10-05" not in ask(*both, "--until", "2024-10-05").output
    assert ask(*both, "--until", "2024-10-04").output == "The reports have no charges in this span.\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--key", "apikey_1"), "'apikey_1' is not ID=HASH"),
        (("--key", "apikey_1=ffff"), "no key_id of the ledger begins with 'ffff'; there are: 3f2a9c000000"),
        (("--since", "24h"), "'24h' is not a day (2026-11-01)"),
    ],
)
def test_options_that_mean_nothing_are_refused_with_what_would_do(
    ledger: Path, tmp_path: Path, arguments: Sequence[str], said: str
) -> None:
    told = ask(report(tmp_path / "bill.csv", "1"), *arguments)

    assert told.exit_code == 2
    assert said in " ".join(told.output.replace("│", " ").split())


def test_keys_cannot_be_told_apart_by_a_report_that_names_none(ledger: Path, tmp_path: Path) -> None:
    told = ask(report(tmp_path / "bill.csv", "1", key=""), "--key", "apikey_1=3f")

    assert told.exit_code == 2
    assert "charges that name no key" in " ".join(told.output.replace("│", " ").split())


def test_a_malformed_file_exits_with_1_and_says_where_and_what_to_do(ledger: Path, tmp_path: Path) -> None:
    file = tmp_path / "bill.csv"
    file.write_text("day,model,cost_usd\n2024-10-04,m,free\n")
    told = ask(file)

    assert told.exit_code == 1
    assert f"tierwise: {file}: line 2: 'free' is no amount" in told.output


def test_what_two_files_tell_is_not_counted_twice(ledger: Path, tmp_path: Path) -> None:
    first, second = report(tmp_path / "a.csv", "1"), report(tmp_path / "b.csv", "1")
    told = ask(first, second)

    assert told.exit_code == 1
    assert f"is in {first} too, and would count twice" in told.output


# The whole way: calls through a gateway to the sandbox, its bill as the provider's report, and back to the ledger.

POLICY: Final = f"""{TWO_TIERS}
[[budgets]]
scope = "all"
limit_usd = "100.00"
"""
KEYS: Final = ("crew-key", "other-key")


@dataclass(slots=True)
class Bill:
    """What the sandbox charged for one model."""

    nanos: int = 0
    tokens: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def send(base_url: str, *, calls: int) -> None:
    """Make calls, some at once; of three streams, one is cut and one is left by its caller."""

    async def one(session: aiohttp.ClientSession, place: int) -> None:
        fault = {0: "cut-after:6", 1: "stall-after:5,seconds=30"}.get(place % 6)
        body = {
            "model": ("task/extraction", "task/synthesis")[place % 2],
            "max_tokens": 400,
            "stream": place % 6 < 3,
            "messages": [{"role": "user", "content": f"[[sandbox output_tokens=300]] {place}"}],
        }
        headers = {"x-api-key": KEYS[place % 4 == 0], **({"x-sandbox-fault": fault} if fault else {})}
        async with session.post("/v1/messages", json=body, headers=headers) as response:
            if fault and fault.startswith("stall"):
                await response.content.readany()
                response.close()
                return
            try:
                await response.read()
            except aiohttp.ClientPayloadError:
                assert fault

    async def all_of_them() -> None:
        version = {"anthropic-version": "2026-10-21"}
        async with aiohttp.ClientSession(base_url, headers=version) as session:
            await asyncio.gather(*(one(session, place) for place in range(calls)))

    asyncio.run(all_of_them())


def bill(sandbox: Running, folder: Path, day: date) -> list[Path]:
    """Export the sandbox's bill as the provider's reports of tokens and of money."""
    bills: defaultdict[str, Bill] = defaultdict(Bill)
    for call in sandbox.calls(limit=1000):
        bills[call["model"]].nanos += call["nanos"]
        for charge in call["charges"]:
            for name, value in charge.items():
                if isinstance(value, int):
                    bills[call["model"]].tokens[name] += value
    bucket = {"starting_at": f"{day}T00:00:00Z", "ending_at": f"{day + timedelta(days=1)}T00:00:00Z"}
    usage = [_usage_result(model, found.tokens) for model, found in bills.items()]
    cost = [
        {"amount": f"{Decimal(found.nanos).scaleb(-7):f}", "currency": "USD", "model": model}
        for model, found in bills.items()
    ]
    files = [folder / "usage.json", folder / "cost.json"]
    for file, results in zip(files, (usage, cost), strict=True):
        file.write_text(json.dumps({"data": [{**bucket, "results": results}], "has_more": False}))
    return files


def _usage_result(model: str, tokens: dict[str, int]) -> dict[str, Any]:
    return {
        "model": model,
        "uncached_input_tokens": tokens["input_tokens"],
        "cache_creation": {
            "ephemeral_5m_input_tokens": tokens["cache_write_5m_tokens"],
            "ephemeral_1h_input_tokens": tokens["cache_write_1h_tokens"],
        },
        "cache_read_input_tokens": tokens["cache_read_tokens"],
        "output_tokens": tokens["output_tokens"],
        "server_tool_use": {"web_search_requests": tokens["web_searches"]},
    }


def test_after_settling_the_ledgers_total_is_the_providers_bill_to_the_nanodollar(tmp_path: Path) -> None:
    with (
        running(seed=3) as sandbox,
        running_gateway(tmp_path, sandbox.base_url, policy=POLICY) as gateway,
    ):
        send(gateway.base_url, calls=36)
        before = gateway.settled()
        billed = eventually_billed(sandbox, calls=36)
        day = datetime.fromtimestamp(before[0]["ended_us"] / 1_000_000, UTC).date()
        files = bill(sandbox, tmp_path, day)
        found = compared(files, gateway.ledger_path)
        write(found.settled, gateway.ledger_path)
        after = gateway.calls()

    unknown = [call for call in before if call["cost_nanos"] is None]
    assert len(unknown) == len(found.settled) == 12
    assert [(line.cause, len(line.settled)) for line in found.lines] == [("kept", 6), ("kept", 6)]
    assert sum(call["cost_nanos"] for call in after) == billed
    again = compared(files, gateway.ledger_path)
    assert [(line.cause, line.difference_nanos) for line in again.lines] == [("agrees", 0)] * 2
    with closing(read_ledger(gateway.ledger_path)) as reader:
        assert [finding.law for finding in verify(reader) if finding.breaches] == []


def compared(files: Sequence[Path], ledger_path: Path) -> Reconciliation:
    at_us = int((datetime.now(UTC) + timedelta(days=2)).timestamp()) * 1_000_000
    return reconciled(files, ledger=ledger_path, prices=book().prices, keys={}, at_us=at_us)


def eventually_billed(sandbox: Running, *, calls: int) -> int:
    """The provider's total, once it has noticed that callers left."""
    eventually(lambda: sandbox.calls(limit=1000), until=lambda found: len(found) == calls)
    return sandbox.billing()["total_nanos"]
