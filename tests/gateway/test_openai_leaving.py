"""Who leaves a call of OpenAI's clients when, and what the ledger says after; by the real SDK, over real sockets.

A cost that is known is the provider's to the nanodollar; one that is not is held by the reservation, from above.
"""

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from typing import Any, Final

import httpx2
import openai
import pytest

from support.gateways import RunningGateway, running_gateway
from support.policies import TWO_TIERS, with_openai
from support.servers import Peer, Server, served
from support.waiting import eventually
from tierwise.sandbox.server import Answer, Running, running
from tierwise.stores.ledger.reservations import account_totals
from tierwise.stores.ledger.sqlite import read_ledger

POLICY: Final = f'{TWO_TIERS}\n[[budgets]]\nscope = "task"\nlimit_usd = "1"\nwindow = "lifetime"\n'
TURN: Final[Any] = [{"role": "user", "content": "[[sandbox output_tokens=200]]"}]
PATHS: Final = ("chat", "responses")
POSTED: Final = ("posted", None, None)
BROKE: Final = ("failed", "provider", "stream-broke")
LEFT: Final = ("failed", "caller", "caller-left")

STREAMS: Final = {
    "finishes": ("", POSTED),
    "falls-silent": ("stall-after:3,seconds=30", BROKE),
    "sends-half-an-event": ("half-event:3", BROKE),
    "closes": ("cut-after:3", BROKE),
    "closes-before-the-usage": ("cut-after:201", BROKE),
}


@pytest.fixture(scope="module")
def provider() -> Iterator[Running]:
    with running(seed=1) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def one_gateway(tmp_path_factory: pytest.TempPathFactory, provider: Running) -> Iterator[RunningGateway]:
    policy = with_openai(POLICY, f"{provider.base_url}/v1", 'retries = 0\nread_timeout = "1s"')
    with running_gateway(tmp_path_factory.mktemp("served"), provider.base_url, policy=policy) as gateway:
        yield gateway


@pytest.fixture
def sandbox(provider: Running) -> Running:
    provider.reset()
    return provider


@pytest.fixture
def gateway(one_gateway: RunningGateway, sandbox: Running) -> RunningGateway:
    return one_gateway.fresh()


def client_of(gateway: RunningGateway, fault: str, task: str, **options: Any) -> openai.OpenAI:
    headers = {"x-sandbox-fault": fault, "x-tierwise-task-id": task}
    told: dict[str, Any] = {"api_key": "sk-any", "max_retries": 0, "default_headers": headers, **options}
    return openai.OpenAI(base_url=f"{gateway.base_url}/v1", **told)


def create(client: openai.OpenAI, path: str, *, stream: bool) -> Any:
    if path == "chat":
        return client.chat.completions.create(model="task/extraction", messages=TURN, stream=stream)
    return client.responses.create(model="task/extraction", input=TURN, stream=stream)


def agree(gateway: RunningGateway, sandbox: Running, task: str) -> tuple[Any, Any, Any]:
    """How the one call ended; the provider's bill is what the ledger and the budget hold, or within it."""
    (recorded,) = eventually(gateway.settled, until=bool)
    (billed,) = eventually(lambda: sandbox.openai_billing()["calls"], until=bool)
    with closing(read_ledger(gateway.ledger_path)) as ledger:
        (account,) = (each for each in account_totals(ledger) if task in each.key)
    if recorded["cost_nanos"] is not None:
        assert recorded["cost_nanos"] == billed["nanos"]
        assert (account.pending_nanos, account.posted_nanos) == (0, billed["nanos"])
    else:
        assert 0 < billed["nanos"] <= account.pending_nanos
    return recorded["ending"], recorded["fault"], recorded["error"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_breaks_off_breaks_off_for_the_caller(
    gateway: RunningGateway, sandbox: Running, name: str, path: str
) -> None:
    fault, ending = STREAMS[name]
    task = f"{path}-{name}"
    raised = nullcontext() if ending == POSTED else pytest.raises((openai.APIError, httpx2.HTTPError))
    came: list[Any] = []
    with client_of(gateway, fault, task) as client, raised:
        came.extend(create(client, path, stream=True))

    assert agree(gateway, sandbox, task) == ending


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("fault", ["slow:30", "stall-after:3,seconds=30", "slow:20;cut-after:90"])
def test_a_caller_that_leaves_in_the_middle_is_held_for_what_the_call_may_have_cost(
    gateway: RunningGateway, sandbox: Running, path: str, fault: str
) -> None:
    task = f"middle-{path}-{fault[:6]}-{len(fault)}"
    with client_of(gateway, fault, task) as client, create(client, path, stream=True) as stream:
        next(iter(stream))

    assert agree(gateway, sandbox, task) == LEFT


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_that_leaves_before_the_first_byte_is_held_too(
    gateway: RunningGateway, sandbox: Running, path: str, stream: bool
) -> None:
    task = f"before-{path}-{stream}"
    with client_of(gateway, "slow-first:0.8", task, timeout=0.3) as client, suppress(openai.APITimeoutError):
        create(client, path, stream=stream)

    assert agree(gateway, sandbox, task) == LEFT


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("fault", ["half-event:1", "cut-after:1"])
def test_a_whole_reply_that_is_cut_is_one_error_and_an_unknown_cost(
    gateway: RunningGateway, sandbox: Running, path: str, fault: str
) -> None:
    task = f"whole-{path}-{fault[:4]}"
    with client_of(gateway, fault, task) as client, pytest.raises(openai.InternalServerError) as caught:
        create(client, path, stream=False)

    assert (caught.value.status_code, caught.value.code) == (502, "dropped")
    assert agree(gateway, sandbox, task) == BROKE


USAGE: Final = (
    b'data: {"model":"gpt-5-mini","choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":20}}\n\n'
)
EVENTS: Final = (
    b'data: {"model":"gpt-5-mini","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\n'
    + USAGE
    + b"data: [DONE]\n\n"
)


async def a_proxy_that_knows_the_length(peer: Peer, server: Server) -> None:
    """Answers with a stream that it has kept until its end."""
    await peer.request()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n"
    await peer.say(head % len(EVENTS) + EVENTS)
    await peer.gone()


@pytest.mark.parametrize("asked", [False, True])
def test_a_stream_whose_length_is_told_comes_whole_though_its_usage_is_taken_out(
    tmp_path: Path, asked: bool
) -> None:
    body: dict[str, Any] = {"model": "gpt-5-mini", "messages": TURN, "stream": True}
    if asked:
        body["stream_options"] = {"include_usage": True}

    async def talk() -> tuple[Answer, list[dict[str, Any]]]:
        async with served(a_proxy_that_knows_the_length) as server:
            policy = with_openai(TWO_TIERS, f"{server.base_url}/v1")
            with running_gateway(tmp_path, server.base_url, policy=policy) as gateway:
                told = (
                    "POST",
                    "/v1/chat/completions",
                    json.dumps(body).encode(),
                    {"authorization": "Bearer sk"},
                )
                return await asyncio.to_thread(gateway.http.send, *told), gateway.settled()

    answer, (call,) = asyncio.run(talk())

    first, _, last = EVENTS.partition(USAGE)
    assert answer.body == (EVENTS if asked else first + last)
    assert (call["ending"], call["cost_nanos"]) == ("posted", 1000 * 250 + 20 * 2000)
