"""Threads through the gateway: the SDK's tool runner, which uses them unless it is told not to."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.gateways import RunningGateway, running_gateway
from support.policies import TWO_TIERS, with_upstream
from support.runners import look_it_up_at
from support.waiting import eventually
from tierwise.config import load_book
from tierwise.sandbox.server import Running, running
from tierwise.stores.ledger.reservations import account_totals
from tierwise.stores.ledger.sqlite import read_ledger

OPUS = "claude-opus-5-5"
SYNTHESIS = {"x-tierwise-task-type": "synthesis"}
OTHERWISE = TWO_TIERS.replace(
    '[task_types.synthesis]\ntier = "frontier"', '[task_types.synthesis]\ntier = "fast"'
)
BUDGET = '\n[[budgets]]\nscope = "all"\nlimit_usd = "{limit}"\nwindow = "lifetime"\n'

Run = Callable[..., Any]


@dataclass
class Clock:
    at: float = 1_000_000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def provider(clock: Clock) -> Iterator[Running]:
    with running(seed=1, now=clock) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(provider: Running) -> Running:
    """A sandbox that has seen no call yet."""
    provider.reset()
    return provider


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, provider: Running) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("served"), provider.base_url) as gateway:
        yield gateway


@pytest.fixture
def gateway(served: RunningGateway, sandbox: Running) -> RunningGateway:
    """A gateway before it, whose earlier calls are left out."""
    return served.fresh()


@pytest.fixture(params=["sync", "async"])
def is_async(request: pytest.FixtureRequest) -> bool:
    return request.param == "async"


@pytest.fixture(params=["whole", "streamed"])
def run(request: pytest.FixtureRequest, is_async: bool) -> Run:
    """Has the tool runner of the SDK look something up, and returns its last message."""

    def look(gateway: RunningGateway, **asked: Any) -> Any:
        return asyncio.run(
            look_it_up_at(gateway.base_url, is_async=is_async, stream=request.param == "streamed", **asked)
        )

    return look


def threads(sandbox: Running) -> list[str | None]:
    """What the requests that reached the provider say of their thread, in order."""
    sent = [call["sent"] for call in reversed(sandbox.calls())]
    return [fields["thread"]["type"] if "thread" in fields else None for fields in sent]


def models(sandbox: Running) -> list[str]:
    return [call["model"] for call in reversed(sandbox.calls())]


def agree(gateway: RunningGateway, sandbox: Running) -> None:
    """Every call that the provider billed is in the ledger at its price, and no other."""
    posted = [call["cost_nanos"] for call in gateway.calls("ending = 'posted'")]
    assert posted == [call["nanos"] for call in reversed(sandbox.calls())]
    assert sum(posted) == sandbox.billing()["total_nanos"]


def put_in_force(gateway: RunningGateway, sandbox: Running, policy: str) -> None:
    gateway.policy_path.write_text(with_upstream(policy, sandbox.base_url))
    wanted = load_book(gateway.policy_path).policy.version
    eventually(
        lambda: gateway.http.send("GET", "/tierwise/health").json()["policy"],
        until=lambda version: version == wanted,
    )


@pytest.mark.parametrize("headers", [{}, SYNTHESIS], ids=["undeclared", "declared"])
def test_a_thread_whose_model_is_the_tiers_passes_is_recorded_and_agrees_with_the_bill(
    run: Run, gateway: RunningGateway, sandbox: Running, headers: dict[str, str]
) -> None:
    final = run(gateway, model=OPUS, extra_headers=headers)

    assert (final.model, final.stop_reason) == (OPUS, "end_turn")
    assert threads(sandbox) == ["create", "continue"]
    assert [call["ending"] for call in gateway.calls()] == ["posted", "posted"]
    assert {call["tier"] for call in gateway.calls()} == ({"frontier"} if headers else {None})
    agree(gateway, sandbox)


def test_what_the_tier_sets_goes_on_the_thread_too(
    run: Run, gateway: RunningGateway, sandbox: Running
) -> None:
    run(gateway, model=OPUS, extra_headers=SYNTHESIS)

    assert [call["sent"]["output_config"] for call in sandbox.calls()] == [{"effort": "medium"}] * 2


@pytest.mark.parametrize(
    ("model", "headers"),
    [("task/synthesis", {}), (OPUS, {"x-tierwise-task-type": "extraction"})],
    ids=["virtual name", "header"],
)
def test_a_thread_whose_model_would_change_is_refused_and_the_client_sends_it_whole(
    run: Run, gateway: RunningGateway, sandbox: Running, model: str, headers: dict[str, str]
) -> None:
    final = run(gateway, model=model, extra_headers=headers)

    assert final.stop_reason == "end_turn"
    refused, *posted = gateway.calls()
    assert (refused["ending"], refused["error"], refused["cost_nanos"]) == ("failed", "thread", 0)
    assert [call["ending"] for call in posted] == ["posted", "posted"]
    assert threads(sandbox) == [None, None]
    agree(gateway, sandbox)


def test_a_thread_of_a_task_keeps_its_tier_when_the_policy_changes_meanwhile(
    run: Run, tmp_path: Path, sandbox: Running
) -> None:
    with running_gateway(tmp_path, sandbox.base_url) as gateway:
        final = run(
            gateway,
            model=OPUS,
            extra_headers={**SYNTHESIS, "x-tierwise-task-id": "t-1"},
            between=lambda: put_in_force(gateway, sandbox, OTHERWISE),
        )
        before, after = gateway.calls()

    assert final.stop_reason == "end_turn"
    assert threads(sandbox) == ["create", "continue"]
    assert models(sandbox) == [OPUS, OPUS]
    assert before["policy_version"] != after["policy_version"]
    assert (before["tier"], after["tier"]) == ("frontier", "frontier")
    agree(gateway, sandbox)


def test_a_thread_without_a_task_id_is_sent_whole_then_and_its_conversation_keeps_its_tier(
    run: Run, tmp_path: Path, sandbox: Running
) -> None:
    with running_gateway(tmp_path, sandbox.base_url) as gateway:
        final = run(
            gateway,
            model=OPUS,
            extra_headers=SYNTHESIS,
            between=lambda: put_in_force(gateway, sandbox, OTHERWISE),
        )
        recorded = gateway.calls()

    assert final.stop_reason == "end_turn"
    assert [call["error"] for call in recorded] == [None, "thread", None]
    assert threads(sandbox) == ["create", None]
    assert models(sandbox) == [OPUS, OPUS]
    agree(gateway, sandbox)


def restarted(
    run: Run, folder: Path, sandbox: Running, *, policy: str, headers: dict[str, str]
) -> tuple[Any, RunningGateway]:
    """Run through a gateway that is stopped while the tool runs, and started anew under a policy."""
    with ExitStack() as stack:
        gateway = stack.enter_context(running_gateway(folder, sandbox.base_url))

        def restart() -> None:
            gateway.stop()
            port = int(gateway.base_url.rsplit(":", 1)[1])
            stack.enter_context(running_gateway(folder, sandbox.base_url, policy=policy, port=port))

        return run(gateway, model=OPUS, extra_headers=headers, between=restart), gateway


def test_a_thread_goes_on_through_a_gateway_that_was_started_anew(
    run: Run, tmp_path: Path, sandbox: Running
) -> None:
    final, gateway = restarted(run, tmp_path, sandbox, policy=TWO_TIERS, headers=SYNTHESIS)

    assert final.stop_reason == "end_turn"
    assert threads(sandbox) == ["create", "continue"]
    assert [call["tier"] for call in gateway.calls()] == ["frontier", "frontier"]
    agree(gateway, sandbox)


@pytest.mark.parametrize("task", [{}, {"x-tierwise-task-id": "t-1"}], ids=["no task id", "task id"])
def test_one_that_was_started_under_another_policy_has_the_conversation_sent_whole(
    run: Run, tmp_path: Path, sandbox: Running, task: dict[str, str]
) -> None:
    final, gateway = restarted(run, tmp_path, sandbox, policy=OTHERWISE, headers=SYNTHESIS | task)

    assert final.stop_reason == "end_turn"
    assert [call["error"] for call in gateway.calls()] == [None, "thread", None]
    assert threads(sandbox) == ["create", None]
    assert models(sandbox) == [OPUS, "claude-haiku-5-5"]  # its tier is forgotten: it is decided afresh
    agree(gateway, sandbox)


def test_a_thread_that_the_provider_has_lost_begins_anew(
    run: Run, gateway: RunningGateway, sandbox: Running, clock: Clock
) -> None:
    def wait() -> None:
        clock.at += 301

    final = run(gateway, model=OPUS, extra_headers=SYNTHESIS, between=wait)

    assert final.stop_reason == "end_turn"
    assert threads(sandbox) == ["create", "create"]
    assert [call["error"] for call in gateway.calls()] == [None, "not_found_error", None]
    agree(gateway, sandbox)


def test_what_the_provider_does_not_take_on_a_thread_is_sent_without_one(
    run: Run, gateway: RunningGateway, sandbox: Running
) -> None:
    final = run(gateway, model=OPUS, extra_headers=SYNTHESIS, thinking={"type": "adaptive"})

    assert final.stop_reason == "end_turn"
    assert threads(sandbox) == [None, None]
    assert [call["error"] for call in gateway.calls()] == ["invalid_request_error", None, None]
    agree(gateway, sandbox)


def test_a_thread_that_goes_on_reserves_the_models_whole_window_and_gives_it_back(
    run: Run, tmp_path: Path, sandbox: Running
) -> None:
    with running_gateway(tmp_path, sandbox.base_url, policy=TWO_TIERS + BUDGET.format(limit=50)) as gateway:
        run(gateway, model=OPUS, extra_headers=SYNTHESIS)

    query = "SELECT reserved_nanos FROM entries WHERE kind = 'set-aside' ORDER BY seq"
    with closing(read_ledger(gateway.ledger_path)) as ledger:
        accounts = account_totals(ledger)
        began, went_on = (row["reserved_nanos"] for row in ledger.rows(query))
    assert threads(sandbox) == ["create", "continue"]
    assert began < 100_000_000
    assert went_on >= 8_000_000_000  # a million tokens, written to the cache for an hour
    spent = sandbox.billing()["total_nanos"]
    assert {(account.pending_nanos, account.posted_nanos) for account in accounts} == {(0, spent)}
    agree(gateway, sandbox)


def test_a_thread_that_its_budget_cannot_cover_is_sent_whole_and_then_may_fit(
    run: Run, tmp_path: Path, sandbox: Running
) -> None:
    with running_gateway(tmp_path, sandbox.base_url, policy=TWO_TIERS + BUDGET.format(limit=1)) as gateway:
        final = run(gateway, model=OPUS, extra_headers=SYNTHESIS)
        recorded = gateway.calls()

    assert final.stop_reason == "end_turn"
    assert [call["error"] for call in recorded] == [None, "thread", None]
    assert threads(sandbox) == ["create", None]
    agree(gateway, sandbox)
