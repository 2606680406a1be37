"""Message Batches with the real SDK, from the making of a batch to the ledger's last nanodollar."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import anthropic
import pytest

from support import postgres
from support.asgi import Got, call, gateway_in_memory
from support.gateways import RunningGateway, running_gateway
from support.plays import calls
from support.policies import TWO_TIERS
from support.processes import BUDGETED, breaches, served_gateway, totals
from support.transcripts import JSON, Transcript
from tierwise.errors import UpstreamDropped, UpstreamError, UpstreamUnreachable
from tierwise.sandbox.server import Running, running


@pytest.fixture
def sandbox() -> Iterator[Running]:
    with running(seed=3) as sandbox:
        yield sandbox


@pytest.fixture
def gateway(tmp_path: Path, sandbox: Running) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path, sandbox.base_url, policy=BUDGETED) as gateway:
        yield gateway


EXTRACTORS_KEY = "twk_of-the-extractors"
CLIENTS = f"""
[[clients]]
name = "extractors"
task_types = ["extraction"]
key_sha256 = "{sha256(EXTRACTORS_KEY.encode()).hexdigest()}"
"""

ClientOf = Callable[..., Any]
"""Any type, for the SDK's own wants arguments that are spelled out."""


@pytest.fixture
def client_of() -> Iterator[ClientOf]:
    with ExitStack() as opened:

        def client(base_url: str, key: str = "any") -> Any:
            made = anthropic.Anthropic(base_url=base_url, api_key=key, max_retries=0)
            return opened.enter_context(made)

        yield client


def item(custom_id: str, model: str = "task/extraction", text: str = "Which firm?", **fields: Any) -> Any:
    messages = [{"role": "user", "content": f"{text} {custom_id}"}]
    return {
        "custom_id": custom_id,
        "params": {"model": model, "max_tokens": 400, "messages": messages, **fields},
    }


def a_mixed_batch(size: int) -> list[Any]:
    long = {
        "type": "text",
        "text": "A long contract. " * 900,
        "cache_control": {"type": "ephemeral", "ttl": "1h"},
    }
    kinds: list[dict[str, Any]] = [
        {},
        {"model": "task/synthesis"},
        {"model": "claude-sonnet-4-6"},
        {"model": "claude-opus-5-5", "inference_geo": "us"},
        {"model": "task/synthesis", "system": [long]},
        {"text": "[[sandbox prompt_tokens=150000]]"},
        {"model": "claude-opus-5-5", "text": "[[sandbox searches=2]]"},
        {"model": "claude-opus-5-5", "text": "[[sandbox iterations=compaction]]"},
        {"model": "claude-fable-5-2"},
    ]
    return [item(f"item-{place}", **kinds[place % len(kinds)]) for place in range(size)]


def test_a_batch_costs_in_the_ledger_what_the_provider_bills_to_the_nanodollar(
    gateway: RunningGateway, sandbox: Running, client_of: ClientOf
) -> None:
    requests = [*a_mixed_batch(126), item("bad", model="claude-opus-5-5", stream=True)]
    batches = client_of(gateway.base_url).messages.batches
    made = batches.create(requests=requests)
    before = totals(gateway.ledger_path)

    assert batches.retrieve(made.id).processing_status == "ended"
    results = list(batches.results(made.id))

    recorded = gateway.calls()
    bill = sandbox.billing()
    assert before[1] >= bill["total_nanos"] > 0
    assert [result.custom_id for result in results] != [request["custom_id"] for request in requests]
    assert len(recorded) == len(results) == 127
    assert {call["batch_id"] for call in recorded} == {made.id}
    assert sum(call["cost_nanos"] for call in recorded) == bill["total_nanos"]
    assert totals(gateway.ledger_path) == (bill["total_nanos"], 0)
    assert breaches(gateway.ledger_path) == 0


def test_each_item_is_decided_by_its_own_type_and_matched_by_its_own_id(
    gateway: RunningGateway, client_of: ClientOf
) -> None:
    batches = client_of(gateway.base_url).messages.batches
    made = batches.create(requests=[item("a"), item("b", "task/synthesis"), item("c", "claude-sonnet-4-6")])

    served = {each.custom_id: each.result.message.model for each in batches.results(made.id)}

    assert served == {"a": "claude-haiku-5-5", "b": "claude-opus-5-5", "c": "claude-sonnet-4-6"}
    assert {call["custom_id"]: call["served_model"] for call in gateway.calls()} == served
    assert {call["custom_id"]: call["task_type"] for call in gateway.calls()} == {
        "a": "extraction",
        "b": "synthesis",
        "c": None,
    }


def test_results_that_are_fetched_again_count_once(
    gateway: RunningGateway, sandbox: Running, client_of: ClientOf
) -> None:
    batches = client_of(gateway.base_url).messages.batches
    made = batches.create(requests=a_mixed_batch(20))

    first, second = ([*batches.results(made.id)] for _ in range(2))

    assert first == second
    assert totals(gateway.ledger_path) == (sandbox.billing()["total_nanos"], 0)
    assert breaches(gateway.ledger_path) == 0


@pytest.mark.parametrize(("played", "kind"), [("hold", "canceled"), ("expire", "expired")])
def test_items_that_did_not_run_cost_nothing(
    gateway: RunningGateway, sandbox: Running, played: str, kind: str, client_of: ClientOf
) -> None:
    batches = client_of(gateway.base_url).messages.batches
    made = batches.create(requests=a_mixed_batch(10), extra_headers={"x-sandbox-batch": played})
    batches.retrieve(made.id)
    if played == "hold":
        assert batches.cancel(made.id).processing_status == "canceling"
    list(batches.results(made.id))

    failed = gateway.calls("ending = 'failed'")
    assert [(call["error"], call["cost_nanos"]) for call in failed] == [(kind, 0)] * 5
    assert totals(gateway.ledger_path) == (sandbox.billing()["total_nanos"], 0)


def test_a_batch_that_a_budget_has_no_room_for_is_refused_whole_and_sets_nothing_aside(
    tmp_path: Path, sandbox: Running, client_of: ClientOf
) -> None:
    policy = f'{TWO_TIERS}\n[[budgets]]\nscope = "all"\nlimit_usd = "0.01"\nwhen_short = ["refuse"]\n'
    with running_gateway(tmp_path, sandbox.base_url, policy=policy) as gateway:
        client = client_of(gateway.base_url)
        with pytest.raises(anthropic.APIStatusError) as refused:
            client.messages.batches.create(requests=[item("a"), item("b", "task/synthesis", max_tokens=8000)])
        client.messages.batches.create(requests=[item("c")])

        assert refused.value.status_code == 429
        assert "Item 2 of 2 (b)" in refused.value.message
        assert {call["custom_id"]: call["error"] for call in gateway.calls()} == {"b": "budget", "c": None}


def test_an_item_that_cannot_be_read_names_its_place(gateway: RunningGateway, client_of: ClientOf) -> None:
    with pytest.raises(anthropic.BadRequestError, match=r"requests\.1\.params\.max_tokens"):
        client_of(gateway.base_url).messages.batches.create(
            requests=[item("a"), {"custom_id": "b", "params": {"model": "task/extraction", "messages": []}}]
        )
    assert gateway.calls() == []


def test_a_batch_that_the_provider_turns_down_costs_nothing(
    gateway: RunningGateway, client_of: ClientOf
) -> None:
    with pytest.raises(anthropic.BadRequestError):
        client_of(gateway.base_url).messages.batches.create(requests=[item("a"), item("a")])

    assert [(call["ending"], call["cost_nanos"]) for call in gateway.calls()] == [("failed", 0)] * 2
    assert totals(gateway.ledger_path) == (0, 0)


def test_a_client_makes_batches_of_its_task_types_and_sees_those_among_the_models(
    tmp_path: Path, sandbox: Running, client_of: ClientOf
) -> None:
    with running_gateway(
        tmp_path, sandbox.base_url, policy=TWO_TIERS + CLIENTS, key="sk-provider"
    ) as gateway:
        client = client_of(gateway.base_url, EXTRACTORS_KEY)
        with pytest.raises(
            anthropic.PermissionDeniedError, match=r"Item 2 of 2 \(b\): The client extractors may"
        ):
            client.messages.batches.create(requests=[item("a"), item("b", "task/synthesis")])
        made = client.messages.batches.create(requests=[item("c")])
        list(client.messages.batches.results(made.id))

        assert [(call["custom_id"], call["key_id"]) for call in gateway.calls()] == [("c", "extractors")]
        assert [model.id for model in client.models.list() if model.id.startswith("task/")] == [
            "task/extraction"
        ]


def test_a_batch_made_elsewhere_passes_and_is_not_recorded(
    gateway: RunningGateway, sandbox: Running, client_of: ClientOf
) -> None:
    made = client_of(sandbox.base_url).messages.batches.create(requests=[item("a", "claude-opus-5-5")])

    (result,) = client_of(gateway.base_url).messages.batches.results(made.id)

    assert result.result.type == "succeeded"
    assert gateway.calls() == []


def test_a_batch_is_settled_by_another_process_after_the_first_was_killed(
    tmp_path: Path, sandbox: Running, client_of: ClientOf
) -> None:
    with served_gateway(tmp_path, sandbox.base_url) as gateway:
        made = client_of(gateway.http.base_url).messages.batches.create(requests=a_mixed_batch(30))
        gateway.process.kill()
        gateway.process.wait(60)
    posted, pending = totals(tmp_path / "ledger.sqlite3")
    with served_gateway(tmp_path, sandbox.base_url) as again:
        list(client_of(again.http.base_url).messages.batches.results(made.id))
        again.stop()

    bill = sandbox.billing()["total_nanos"]
    assert (pending >= bill, posted) == (True, 0)
    assert totals(tmp_path / "ledger.sqlite3") == (bill, 0)
    assert breaches(tmp_path / "ledger.sqlite3") == 0


def test_results_are_settled_by_another_gateway_on_the_same_postgresql(
    tmp_path: Path, sandbox: Running, client_of: ClientOf
) -> None:
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    with postgres.running() as server:
        ledger = server.new_database()
        with served_gateway(folders[0], sandbox.base_url, ledger=ledger) as first:
            made = client_of(first.http.base_url).messages.batches.create(requests=a_mixed_batch(30))
            first.stop()
        posted, pending = totals(ledger)
        with served_gateway(folders[1], sandbox.base_url, ledger=ledger) as second:
            list(client_of(second.http.base_url).messages.batches.results(made.id))
            second.stop()

        bill = sandbox.billing()["total_nanos"]
        assert (pending >= bill, posted) == (True, 0)
        assert totals(ledger) == (bill, 0)
        assert breaches(ledger) == 0


def test_a_batch_that_is_deleted_before_its_results_are_fetched_keeps_its_worst_case(
    gateway: RunningGateway, client_of: ClientOf
) -> None:
    batches = client_of(gateway.base_url).messages.batches
    made = batches.create(requests=[item("a"), item("b")])
    batches.retrieve(made.id)
    before = totals(gateway.ledger_path)

    assert batches.delete(made.id).id == made.id
    with pytest.raises(anthropic.NotFoundError):
        batches.retrieve(made.id)

    assert totals(gateway.ledger_path) == before
    assert [call["ending"] for call in gateway.calls()] == [None, None]
    assert breaches(gateway.ledger_path) == 0


def test_the_async_sdk_does_with_batches_what_there_is_to_do(
    gateway: RunningGateway, sandbox: Running
) -> None:
    async def play() -> tuple[Any, ...]:
        async with anthropic.AsyncAnthropic(
            base_url=gateway.base_url, api_key="any", max_retries=0
        ) as client:
            batches = client.messages.batches
            made = await batches.create(requests=[item("a"), item("b", "task/synthesis")])
            held = await batches.create(requests=[item("c")], extra_headers={"x-sandbox-batch": "hold"})
            retrieved = await batches.retrieve(made.id)
            canceled = await batches.cancel(held.id)
            listed = [batch.id async for batch in batches.list(limit=1)]
            results = {line.custom_id: line.result.type async for line in await batches.results(made.id)}
            none = [line.result.type async for line in await batches.results(held.id)]
            deleted = await batches.delete(made.id)
            assert listed == [held.id, made.id]
            assert deleted.id == made.id
            return retrieved.processing_status, canceled.processing_status, results, none

    assert asyncio.run(play()) == (
        "ended",
        "canceling",
        {"a": "succeeded", "b": "succeeded"},
        ["canceled"],
    )
    assert totals(gateway.ledger_path) == (sandbox.billing()["total_nanos"], 0)
    assert breaches(gateway.ledger_path) == 0


@pytest.mark.parametrize(
    ("why", "cost"), [(UpstreamUnreachable(why="refused"), 0), (UpstreamDropped(why="reset"), None)]
)
def test_a_batch_without_a_reply_costs_nothing_only_where_it_cannot_have_arrived(
    tmp_path: Path, why: UpstreamError, cost: int | None
) -> None:
    body = json.dumps({"requests": [item("a"), item("b")]}).encode()
    got = asyncio.run(send(tmp_path / "l.sqlite3", Transcript(no_reply=why), body))

    assert got.status == 502
    assert [call["cost_nanos"] for call in calls(tmp_path / "l.sqlite3")] == [cost] * 2


def test_a_batch_whose_id_cannot_be_read_has_an_unknown_cost(tmp_path: Path) -> None:
    body = json.dumps({"requests": [item("a")]}).encode()
    got = asyncio.run(send(tmp_path / "l.sqlite3", Transcript(headers=JSON, chunks=(b"{}",)), body))

    assert (got.status, got.body) == (200, b"{}")
    assert [(call["error"], call["cost_nanos"]) for call in calls(tmp_path / "l.sqlite3")] == [
        ("no-usage", None)
    ]


async def send(ledger: Path, reply: Transcript, body: bytes) -> Got:
    async with gateway_in_memory(ledger, reply) as app:
        return await call(app, "POST", "/v1/messages/batches", body=body)
