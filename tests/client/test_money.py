"""The ledger against the provider's bill, to the nanodollar, and a stream against one without Tierwise, to the byte."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import anthropic
import pytest

import tierwise
from support.clients import DOORS, Door, router_of
from tierwise.sandbox.server import Running, running

OPUS: Final = "claude-opus-5-5"


def asking(model: str, text: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 2000, "messages": [{"role": "user", "content": text}], **fields}


def one_of_each(n: int) -> list[dict[str, Any]]:
    """A call of every kind that differs here."""
    fault = "x-sandbox-fault"
    return [
        asking("task/extraction", f"Which firm? {n}"),
        asking("task/extraction", f"Which firm, in a stream? {n}", stream=True),
        asking("task/synthesis", f"All of it. 谁签了合同？ {n}", stream=n % 2 == 0),
        asking("task/extraction", f"[[sandbox prompt_tokens={150_000 + n}]]"),
        asking(OPUS, f"Undeclared. {n}", stream=n % 2 == 1),
        asking(OPUS, f"By its header. {n}", extra_headers={"x-tierwise-task-type": "extraction"}),
        asking(OPUS, f"[[sandbox searches=3]] {n}", stream=n % 2 == 0),
        asking("task/extraction", f"Overloaded. {n}", extra_headers={fault: "status:529"}),
        asking("claude-nothing", f"Nowhere. {n}"),
    ]


def test_the_ledgers_total_is_the_providers_bill_whatever_was_called_from_threads(
    door: Door, sandbox: Running
) -> None:
    asked = [each for n in range(6) for each in one_of_each(n)]

    with door.client() as client:

        def ask(fields: dict[str, Any]) -> None:
            with suppress(anthropic.APIStatusError):
                answer = client.messages.create(**fields)
                if fields.get("stream"):
                    list(answer)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, asked))

    recorded = door.calls()
    assert len(recorded) == len(asked) == 54
    assert sum(call["cost_nanos"] for call in recorded) == sandbox.billing()["total_nanos"] > 0


def test_the_ledgers_total_is_the_providers_bill_whatever_was_called_from_coroutines(
    door: Door, sandbox: Running
) -> None:
    asked = [each for n in range(6) for each in one_of_each(n)]

    async def run() -> None:
        async with door.async_client() as client:

            async def ask(fields: dict[str, Any]) -> None:
                with suppress(anthropic.APIStatusError):
                    answer = await client.messages.create(**fields)
                    if fields.get("stream"):
                        async for _ in answer:
                            pass

            await asyncio.gather(*(ask(fields) for fields in asked))

    asyncio.run(run())

    recorded = door.calls()
    assert len(recorded) == 54
    assert sum(call["cost_nanos"] for call in recorded) == sandbox.billing()["total_nanos"] > 0


def body(client: Any, **fields: Any) -> bytes:
    """The bytes of one streamed reply."""
    with client.messages.with_streaming_response.create(
        **asking("x", "Wer hat den Vertrag unterschrieben? 谁签了合同？", stream=True) | fields
    ) as response:
        return b"".join(response.iter_bytes())


@pytest.mark.parametrize("by", DOORS)
def test_a_stream_has_the_bytes_that_it_has_without_tierwise(tmp_path: Path, by: str) -> None:
    with (
        running(seed=7) as first,
        running(seed=7) as twin,
        tierwise.Session(router_of(tmp_path), ledger=tmp_path / "ledger.sqlite3") as session,
        Door(session=session, by=by, base_url=first.base_url, ledger_path=tmp_path).client() as client,
        anthropic.Anthropic(base_url=twin.base_url, api_key="any") as direct,
    ):
        through = body(client, model="task/extraction")
        plain = body(direct, model="claude-haiku-5-5", max_tokens=512, thinking={"type": "disabled"})

    assert through == plain
    assert through.endswith(b"\n\n")
