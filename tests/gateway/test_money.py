"""The ledger against the provider's own bill, to the nanodollar: many calls at once, of every kind."""

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from support.gateways import RunningGateway, running_gateway
from support.waiting import eventually
from tierwise.sandbox.outcomes import load
from tierwise.sandbox.server import Running, running

KEY: Final = {"x-api-key": "any", "anthropic-version": "2026-10-21", "content-type": "application/json"}


@pytest.fixture
def sandbox() -> Iterator[Running]:
    with running(seed=3) as sandbox:
        yield sandbox


@pytest.fixture(params=["direct", "aiohttp"])
def gateway(request: pytest.FixtureRequest, tmp_path: Path, sandbox: Running) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path, sandbox.base_url, client=request.param) as gateway:
        yield gateway


Request = tuple[Mapping[str, Any], Mapping[str, str]]
"""A body and what its headers add."""


def send_all(gateway: RunningGateway, requests: Sequence[Request], *, at_once: int = 32) -> list[int]:
    """Make the calls, some at once; return their statuses."""

    async def send() -> list[int]:
        turn = asyncio.Semaphore(at_once)
        async with aiohttp.ClientSession(gateway.base_url, headers=KEY) as session:

            async def one(body: Mapping[str, Any], headers: Mapping[str, str]) -> int:
                async with turn, session.post("/v1/messages", json=body, headers=headers) as response:
                    await response.read()
                    return response.status

            return list(await asyncio.gather(*(one(body, headers) for body, headers in requests)))

    return asyncio.run(send())


def asking(model: str, text: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 2000, "messages": [{"role": "user", "content": text}], **fields}


def cached(model: str, place: int, ttl: str) -> dict[str, Any]:
    long = {
        "type": "text",
        "text": "The same long contract. " * 700,
        "cache_control": {"type": "ephemeral", "ttl": ttl},
    }
    return asking(model, f"Question {place}", system=[long])


OPUS: Final = "claude-opus-5-5"


def one_of_each(n: int) -> list[Request]:
    """A call of every kind that has a price of its own."""
    fault = "x-sandbox-fault"
    return [
        (asking("task/extraction", f"Which firm? {n}"), {}),
        (asking("task/extraction", f"Which firm, in a stream? {n}", stream=True), {}),
        (asking("task/synthesis", f"All of it. {n}", stream=n % 2 == 0), {}),
        (asking("task/extraction", f"[[sandbox prompt_tokens={150_000 + n}]]"), {}),
        (asking("task/extraction", f"[[sandbox prompt_tokens={99_000 + n}]]", stream=True), {}),
        (asking(OPUS, f"Undeclared. {n}"), {"x-tierwise-task-type": "extraction"}),
        (asking("claude-sonnet-4-6", f"As asked. {n}", stream=True), {}),
        (asking("claude-haiku-4-5-20251001", f"By its dated name. {n}"), {}),
        (asking("claude-fable-5-2", f"A dear one. {n}", stream=True), {}),
        (asking(OPUS, f"Fast. {n}", speed="fast", stream=n % 2 == 0), {}),
        (asking(OPUS, f"At home. {n}", inference_geo="us"), {}),
        (asking(OPUS, f"[[sandbox iterations=compaction]] {n}", stream=n % 2 == 0), {}),
        (asking(OPUS, f"[[sandbox iterations=advisor_message helper=claude-fable-5-2]] {n}"), {}),
        (asking(OPUS, f"[[sandbox iterations=fallback_message]] {n}", stream=True), {}),
        (asking(OPUS, f"[[sandbox searches=3]] {n}", stream=n % 2 == 0), {}),
        (asking(OPUS, f"[[sandbox output_tokens=5000]] {n}", max_tokens=7), {}),
        (cached("task/synthesis", n, "5m"), {}),
        (cached("task/extraction", n, "1h"), {}),
        (asking("task/extraction", f"Refused on the way. {n}", stream=True), {fault: "refusal-midstream"}),
        (asking("task/extraction", f"Overloaded. {n}"), {fault: "status:529"}),
        (asking("task/extraction", f"Too late. {n}"), {fault: "error-after:1"}),
        (asking("claude-nothing", f"Nowhere. {n}"), {}),
    ]


def test_the_ledgers_total_is_the_providers_bill_to_the_nanodollar(
    gateway: RunningGateway, sandbox: Running
) -> None:
    requests = [request for n in range(16) for request in one_of_each(n)]
    statuses = send_all(gateway, requests)

    bill = sandbox.billing()
    recorded = gateway.calls()
    failing = len(requests) // len(one_of_each(0)) * 3
    assert statuses.count(200) == len(requests) - failing
    again = 4 * len(requests) // len(one_of_each(0))  # two of a kind are overloads, tried twice more
    assert len(recorded) - again == len(requests) == 352
    assert [call for call in recorded if call["cost_nanos"] is None] == []
    assert sum(call["cost_nanos"] for call in recorded) == bill["total_nanos"] > 0
    assert sum(call["ending"] == "failed" for call in recorded) == failing + again


def test_each_models_share_is_the_providers_too(gateway: RunningGateway, sandbox: Running) -> None:
    send_all(gateway, [request for n in range(3) for request in one_of_each(n)])

    billed = {model: part["total_nanos"] for model, part in sandbox.billing()["by_model"].items()}
    recorded: dict[str, int] = {}
    for call in gateway.calls("ending = 'posted'"):
        model = call["served_model"].removesuffix("-20251001")
        recorded[model] = recorded.get(model, 0) + call["cost_nanos"]
    assert recorded == {model.removesuffix("-20251001"): nanos for model, nanos in billed.items()}
    assert len(recorded) >= 6


@pytest.mark.parametrize("fault", ["cut-after:6", "half-event:6", "error-after:6"])
def test_broken_streams_are_all_recorded_and_cost_at_least_what_was_counted(
    gateway: RunningGateway, sandbox: Running, fault: str
) -> None:
    async def send() -> None:
        async with aiohttp.ClientSession(gateway.base_url, headers=KEY) as session:

            async def one(place: int) -> None:
                body = asking("task/extraction", f"[[sandbox output_tokens=300]] {place}", stream=True)
                headers = {"x-sandbox-fault": fault}
                async with session.post("/v1/messages", json=body, headers=headers) as response:
                    try:
                        await response.read()
                    except aiohttp.ClientPayloadError:
                        assert not fault.startswith("error")

            await asyncio.gather(*(one(place) for place in range(40)))

    asyncio.run(send())

    recorded = gateway.calls()
    error = "overloaded_error" if fault.startswith("error") else "stream-broke"
    assert [(call["ending"], call["error"], call["cost_nanos"]) for call in recorded] == [
        ("failed", error, None)
    ] * 40
    assert 0 < sum(call["at_least_nanos"] for call in recorded) <= sandbox.billing()["total_nanos"]


def test_cancelled_streams_are_all_recorded_and_closed_at_the_provider(
    gateway: RunningGateway, sandbox: Running
) -> None:
    async def send() -> None:
        async with aiohttp.ClientSession(gateway.base_url, headers=KEY) as session:

            async def one(place: int) -> None:
                body = asking("task/extraction", f"Leave {place}", stream=True)
                headers = {"x-sandbox-fault": "stall-after:5,seconds=30"}
                async with session.post("/v1/messages", json=body, headers=headers) as response:
                    await response.content.readany()
                    response.close()

            await asyncio.gather(*(one(place) for place in range(40)))

    asyncio.run(send())

    recorded = gateway.settled()
    assert [(call["fault"], call["error"], call["cost_nanos"]) for call in recorded] == [
        ("caller", "caller-left", None)
    ] * 40
    billed = eventually(sandbox.calls, until=lambda found: len(found) == 40)
    assert {call["ending"] for call in billed} == {"left"}
    assert 0 < sum(call["at_least_nanos"] for call in recorded) <= sum(call["nanos"] for call in billed)


def test_a_mixed_run_under_cancellation_loses_no_call_and_never_claims_more_than_is_billed(
    gateway: RunningGateway, sandbox: Running
) -> None:
    async def send() -> int:
        async with aiohttp.ClientSession(gateway.base_url, headers=KEY) as session:

            async def one(place: int) -> bool:
                body = asking(
                    ("task/extraction", "task/synthesis")[place % 2],
                    f"[[sandbox output_tokens=400]] {place}",
                    stream=place % 3 > 0,
                )
                try:
                    async with asyncio.timeout((place % 7) * 0.02 + 0.001):
                        headers = {"x-sandbox-fault": f"slow:{place % 3}"} if place % 3 else {}
                        async with session.post("/v1/messages", json=body, headers=headers) as response:
                            await response.read()
                except TimeoutError:
                    return False
                return True

            return sum(await asyncio.gather(*(one(place) for place in range(120))))

    served = asyncio.run(send())

    recorded = gateway.settled()
    posted = [call for call in recorded if call["ending"] == "posted"]
    known = sum(call["cost_nanos"] for call in posted)
    at_least = sum(call["at_least_nanos"] or 0 for call in recorded if call["cost_nanos"] is None)
    assert len(posted) >= served
    assert {call["fault"] for call in recorded if call["ending"] == "failed"} <= {"caller"}
    eventually(lambda: sandbox.billing()["total_nanos"], until=lambda billed: known + at_least <= billed)


DATA: Final = Path(os.environ.get("TIERWISE_DATA") or Path(__file__).parents[3] / "shared" / "data")


@pytest.mark.skipif(
    not DATA.is_dir(), reason=f"recorded outcomes are not here: {DATA} (TIERWISE_DATA names another)"
)
@pytest.mark.parametrize(
    ("name", "weak", "strong", "column"),
    [
        ("bfcl_v1", "claude-3-haiku-20240307-FC", "claude-3-5-sonnet-20240620-FC", "category"),
        ("zeroeval", "claude-3-haiku-20240307", "claude-3-5-sonnet-20241022", "task"),
    ],
)
def test_real_prompts_are_answered_as_recorded_and_priced_as_billed(
    tmp_path: Path, name: str, weak: str, strong: str, column: str
) -> None:
    pl: Any = import_module("polars")  # its own types are partly unknown
    outcomes = load(
        DATA / f"{name}_outcomes.parquet",
        weak=weak,
        strong=strong,
        prompts=DATA / f"{name}_prompts.parquet",
    )
    told_apart = pl.read_parquet(DATA / f"{name}_prompts.parquet").filter(
        pl.col("question").str.strip_chars().is_unique()
    )
    prompts = told_apart.sample(100, seed=1).to_dicts()
    types = sorted({prompt[column].replace("_", "-") for prompt in prompts})
    tier_of = {kind: ("fast", "frontier")[place % 2] for place, kind in enumerate(types)}
    contracts = "".join(f'[task_types.{kind}]\ntier = "{tier}"\n' for kind, tier in tier_of.items())
    tiers = '[tiers.frontier]\nmodel = "claude-opus-5-5"\n[tiers.fast]\nmodel = "claude-haiku-5-5"\n'
    with (
        running(seed=1, outcomes=outcomes) as sandbox,
        running_gateway(tmp_path, sandbox.base_url, policy=tiers + contracts) as gateway,
    ):
        statuses = send_all(
            gateway,
            [
                (
                    {**asking("task/" + prompt[column].replace("_", "-"), prompt["question"]), **more(place)},
                    {"x-tierwise-task-id": prompt["id"]},
                )
                for place, prompt in enumerate(prompts)
            ],
        )
        bill = sandbox.billing()
        recorded = gateway.calls()

    assert statuses == [200] * 100
    assert {call["task_type"] for call in recorded} == set(types)
    assert sum(call["cost_nanos"] for call in recorded) == bill["total_nanos"] > 0
    assert {call["task_id"] for call in recorded} == {prompt["id"] for prompt in prompts}
    for call in recorded:
        outcome = (outcomes.weak if call["tier"] == "fast" else outcomes.strong)[call["task_id"]]
        assert call["tier"] == tier_of[call["task_type"]]
        assert call["output_tokens"] - (call["thinking_tokens"] or 0) == outcome.output_tokens


def more(place: int) -> dict[str, Any]:
    """Room enough for any recorded reply, and every other one as a stream."""
    return {"max_tokens": 16_000, "stream": place % 2 == 0}
