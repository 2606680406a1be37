"""What passes between OpenAI's clients and their server byte by byte, and what the gateway leaves as it is."""

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from support.gateways import RunningGateway, running_gateway
from support.policies import TWO_TIERS, with_openai
from tierwise.sandbox.server import Answer, Running, running

BEARER: Final = {"authorization": "Bearer sk-openai"}
CHAT: Final = "/v1/chat/completions"
RESPONSES: Final = "/v1/responses"
ASKED: Final[dict[str, dict[str, Any]]] = {
    CHAT: {"messages": [{"role": "user", "content": "Hi"}], "stream_options": {"include_usage": True}},
    RESPONSES: {"input": "Hi"},
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Running]:
    with running(seed=1) as provider:
        yield provider


@pytest.fixture(scope="module")
def one_gateway(sandbox: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    policy = with_openai(TWO_TIERS, f"{sandbox.base_url}/v1")
    with running_gateway(tmp_path_factory.mktemp("gateway"), sandbox.base_url, policy=policy) as gateway:
        yield gateway


@pytest.fixture
def gateway(one_gateway: RunningGateway, sandbox: Running) -> RunningGateway:
    sandbox.reset()
    return one_gateway.fresh()


def post(at: Running, path: str, body: dict[str, Any], fault: str = "") -> Answer:
    headers = {**BEARER, **({"x-sandbox-fault": fault} if fault else {})}
    return at.send("POST", path, json.dumps(body).encode(), headers)


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_passes_byte_for_byte_with_what_nobody_knows_in_it(
    sandbox: Running, gateway: RunningGateway, path: str, stream: bool
) -> None:
    body = {"model": "gpt-5", "stream": stream, "sandbox_field": [1.0, "\u00e9"], **ASKED[path]}
    here = post(gateway.http, path, body, "unknown-fields")
    sandbox.reset()
    there = post(sandbox, path, body, "unknown-fields")

    assert b"sandbox_later" in here.body
    assert without_ids(here) == without_ids(there)
    assert here.headers["openai-sandbox-later"] == "kept"
    (call,) = gateway.settled()
    assert call["cost_nanos"] == sandbox.openai_billing()["total_nanos"] > 0


def without_ids(answer: Answer) -> bytes:
    """The body with its server's id of the request, as long as every other, blotted out."""
    return answer.body.replace(answer.headers["x-request-id"].encode(), b"ID")


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_obfuscation": False}])
def test_a_stream_is_priced_and_its_usage_hidden_whatever_its_options_are(
    sandbox: Running, gateway: RunningGateway, options: object
) -> None:
    body = {**ASKED[CHAT], "model": "gpt-5", "stream": True, "stream_options": options}
    answer = post(gateway.http, CHAT, body)

    assert b"prompt_tokens" not in answer.body
    assert answer.body.endswith(b"data: [DONE]\n\n")
    (line,) = sandbox.openai_billing()["calls"]
    asked: dict[str, Any] = options if isinstance(options, dict) else {}  # pyright: ignore[reportUnknownVariableType]
    assert line["sent"]["stream_options"] == {**asked, "include_usage": True}
    assert [call["cost_nanos"] for call in gateway.settled()] == [line["nanos"]]


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_without_usage_and_a_model_without_a_price_have_an_unknown_cost(
    sandbox: Running, gateway: RunningGateway, path: str, stream: bool
) -> None:
    assert (
        post(gateway.http, path, {**ASKED[path], "model": "gpt-5", "stream": stream}, "no-usage").status
        == 200
    )
    assert post(gateway.http, path, {**ASKED[path], "model": "sandbox-small", "stream": stream}).status == 200

    assert [call["cost_nanos"] for call in gateway.settled()] == [None, None]
    assert all(line["nanos"] > 0 for line in sandbox.openai_billing()["calls"])


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
@pytest.mark.parametrize("tokens", [2, 5, 8])
def test_reasoning_is_priced_as_output_once(
    sandbox: Running, gateway: RunningGateway, path: str, tokens: int
) -> None:
    prompt = "How long? [[sandbox output_tokens=5 thinking_tokens=3]]"
    cap = {"max_completion_tokens": tokens} if path == CHAT else {"max_output_tokens": tokens}
    asked: Any = {"messages": [{"role": "user", "content": prompt}]} if path == CHAT else {"input": prompt}
    post(gateway.http, path, {"model": "gpt-5", **asked, **cap})

    (line,) = sandbox.openai_billing()["calls"]
    (call,) = gateway.settled()
    assert (call["output_tokens"], call["thinking_tokens"]) == (tokens, min(3, tokens))
    assert call["cost_nanos"] == line["nanos"]
