"""Shared balances that are lost under load: calls are refused, nothing is overspent, and they heal by themselves."""

import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from support.gateways import RunningGateway, running_gateway
from support.policies import TWO_TIERS
from support.processes import Callers, an_extraction, billed, breaches, calling, set_aside, totals
from support.valkey import Valkey, a_valkey
from support.waiting import eventually
from tierwise.engine import shared_balances
from tierwise.money import usd
from tierwise.sandbox.server import Running, running
from tierwise.stores.budgets.timing import Timing
from tierwise.stores.ledger import writer

QUICK: Final = Timing(grace_s=2.0, beat_s=0.2, alive_s=2.0, look_s=0.5, silence_s=0.5)
PATIENCE_S: Final = 1.5


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual times, shorter; their order is the same."""
    monkeypatch.setattr(shared_balances, "TIMING", QUICK)
    monkeypatch.setattr(writer, "PATIENCE_S", PATIENCE_S)


@pytest.fixture
def valkey() -> Generator[Valkey]:
    with a_valkey() as server:
        yield server


@pytest.fixture
def sandbox() -> Iterator[Running]:
    with running(seed=5, latency_ms=50) as sandbox:
        yield sandbox


def shared(valkey: Valkey, limit_usd: str, more: str = "") -> str:
    return f"""
budget_store = "{valkey.address.text}"
{more}
{TWO_TIERS}
[[budgets]]
scope = "all"
limit_usd = "{limit_usd}"
"""


@contextmanager
def two_gateways(folder: Path, sandbox: Running, policy: str) -> Generator[list[RunningGateway]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(running_gateway(folder, sandbox.base_url, policy=policy)) for _ in range(2)
        ]


def is_lost(gateway: RunningGateway) -> bool:
    health = gateway.http.send("GET", "/tierwise/health").json()
    return health["budget_store_problem"] is not None


def flushed(valkey: Valkey, folder: Path) -> None:
    valkey.ask("FLUSHALL")


def restarted_empty(valkey: Valkey, folder: Path) -> None:
    valkey.kill()
    for dump in valkey.directory.glob("*.rdb"):
        dump.unlink()
    valkey.start()


def restarted_with_an_old_dump(valkey: Valkey, folder: Path) -> None:
    valkey.kill()
    shutil.copy(folder / "old.rdb", valkey.directory / "dump.rdb")
    valkey.start()


def unreachable(valkey: Valkey, folder: Path) -> None:
    valkey.freeze()


Lose = Callable[[Valkey, Path], None]


@pytest.mark.parametrize("lose", [flushed, restarted_empty, restarted_with_an_old_dump, unreachable])
def test_a_budget_near_its_limit_holds_while_its_store_is_lost_and_after(
    lose: Lose, tmp_path: Path, sandbox: Running, valkey: Valkey
) -> None:
    with (
        two_gateways(tmp_path, sandbox, shared(valkey, "0.03")) as gateways,
        calling(*(gateway.http for gateway in gateways), at_once=4) as callers,
    ):
        eventually(lambda: len(callers.numbers(200)), until=lambda served: served > 20)
        valkey.ask("SAVE")
        shutil.copy(valkey.directory / "dump.rdb", tmp_path / "old.rdb")
        eventually(lambda: sandbox.billing()["total_nanos"], until=lambda spent: spent > usd("0.01"))
        lose(valkey, tmp_path)
        eventually(lambda: any(map(is_lost, gateways)), until=bool)
        if lose is unreachable:
            refused = gateways[0].http.messages(an_extraction())
            assert (refused.status, refused.headers["x-tierwise-error"]) == (503, "budget-store")
            valkey.thaw()
        eventually(lambda: any(map(is_lost, gateways)), until=lambda lost: not lost)
        eventually(lambda: len(callers.numbers(429)), until=lambda short: short > 20)

    check_that_nothing_is_lost(gateways[0], sandbox, callers)
    assert (503, "budget-store") in callers.outcomes()
    assert callers.outcomes() <= {(200, None), (503, "budget-store"), (503, "ledger"), (429, "budget")}
    assert usd("0.025") < sandbox.billing()["total_nanos"] <= usd("0.03")


def check_that_nothing_is_lost(gateway: RunningGateway, sandbox: Running, callers: Callers) -> None:
    assert callers.broken == []
    assert billed(sandbox) == callers.numbers(200)
    assert billed(sandbox) <= set_aside(gateway.ledger_path)
    assert totals(gateway.ledger_path) == (sandbox.billing()["total_nanos"], 0)
    assert breaches(gateway.ledger_path) == 0


def test_calls_go_while_the_store_is_gone_where_the_policy_allows_it_and_count_once_it_is_rebuilt(
    tmp_path: Path, sandbox: Running, valkey: Valkey
) -> None:
    policy = shared(valkey, "0.01", 'budget_store_lost = "allow"')
    with two_gateways(tmp_path, sandbox, policy) as gateways:
        valkey.kill()
        with calling(*(gateway.http for gateway in gateways), at_once=4) as callers:
            eventually(lambda: sandbox.billing()["total_nanos"], until=lambda spent: spent > usd("0.01"))
        valkey.start()
        eventually(lambda: any(map(is_lost, gateways)), until=lambda lost: not lost)
        after = gateways[0].http.messages(an_extraction())

    assert callers.outcomes() <= {(200, None), (503, "ledger")}
    assert (after.status, after.headers["x-tierwise-error"]) == (429, "budget")
    check_that_nothing_is_lost(gateways[0], sandbox, callers)


def test_a_warning_is_not_given_again_after_a_rebuilding(
    tmp_path: Path, sandbox: Running, valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    policy = shared(valkey, "0.001").replace("[[budgets]]", "[[budgets]]\nwarn_at = [10]")
    with running_gateway(tmp_path, sandbox.base_url, policy=policy) as gateway:
        first = [gateway.http.messages(an_extraction()).status for _ in range(3)]
        valkey.ask("FLUSHALL")
        eventually(lambda: is_lost(gateway), until=bool)
        eventually(lambda: is_lost(gateway), until=lambda lost: not lost)
        last = gateway.http.messages(an_extraction()).status

    assert (first, last) == ([200] * 3, 200)
    assert [record.message[:30] for record in caplog.records if "10 %" in record.message] == [
        "budget all-lifetime: 10 % of $"
    ]
