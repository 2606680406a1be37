"""OpenAI's own SDK against the sandbox itself and through the gateway: the same replies, and money that agrees."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import openai
import pytest
from openai.types.chat import ChatCompletionChunk
from pydantic import BaseModel

from support.gateways import RunningGateway, running_gateway
from support.policies import TWO_TIERS, with_openai
from tierwise.sandbox.server import Running, running

KEY: Final = "sk-openai-canary"
PROMPT: Final[Any] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Which firm signed?"},
]


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


def client_of(at: Running | RunningGateway, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{at.base_url}/v1", api_key=KEY, **options)


def costs(gateway: RunningGateway) -> list[int | None]:
    return [call["cost_nanos"] for call in gateway.settled()]


def bill(sandbox: Running) -> list[int]:
    return [line["nanos"] for line in sandbox.openai_billing()["calls"]]


class Firm(BaseModel):
    name: str
    since: int


def chat_create(client: openai.OpenAI) -> Any:
    return client.chat.completions.create(model="gpt-5", messages=PROMPT, max_completion_tokens=50)


def chat_several(client: openai.OpenAI) -> Any:
    return client.chat.completions.create(model="gpt-5", messages=PROMPT, max_completion_tokens=9, n=3)


def chat_parse(client: openai.OpenAI) -> Any:
    completion = client.chat.completions.parse(model="gpt-5", messages=PROMPT, response_format=Firm)
    assert completion.choices[0].message.parsed == Firm(name="Acme", since=7)
    return completion


def chat_events(client: openai.OpenAI) -> Any:
    return list(client.chat.completions.create(model="gpt-5", messages=PROMPT, stream=True))


def chat_events_with_usage(client: openai.OpenAI) -> Any:
    options: Any = {"include_usage": True}
    stream = client.chat.completions.create(
        model="gpt-5", messages=PROMPT, stream=True, stream_options=options
    )
    chunks = list(stream)
    assert chunks[-1].usage is not None
    return chunks


def chat_stream(client: openai.OpenAI) -> Any:
    with client.chat.completions.stream(model="gpt-5", messages=PROMPT, n=2) as stream:
        for _ in stream:
            pass
        return stream.get_final_completion()


def responses_create(client: openai.OpenAI) -> Any:
    return client.responses.create(model="gpt-5", input="Which firm signed?", max_output_tokens=9)


def responses_parse(client: openai.OpenAI) -> Any:
    response = client.responses.parse(model="gpt-5", input=PROMPT, text_format=Firm)
    assert response.output_parsed == Firm(name="Acme", since=7)
    return response


def responses_events(client: openai.OpenAI) -> Any:
    return list(client.responses.create(model="gpt-5", input=PROMPT, stream=True))


def responses_stream(client: openai.OpenAI) -> Any:
    with client.responses.stream(model="gpt-5", input=PROMPT) as stream:
        for _ in stream:
            pass
        return stream.get_final_response()


WAYS: Final = (
    chat_create,
    chat_several,
    chat_parse,
    chat_events,
    chat_events_with_usage,
    chat_stream,
    responses_create,
    responses_parse,
    responses_events,
    responses_stream,
)


def plain(value: Any) -> Any:
    """A reply without its ids, and without the empty field that asking for usage adds to chunks."""
    if isinstance(value, list):
        return [plain(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
    fields = value.to_dict(warnings=False)
    return _without(fields, chunk=isinstance(value, ChatCompletionChunk))


def _without(value: Any, *, chunk: bool = False) -> Any:
    if isinstance(value, dict):
        return {
            name: _without(each)
            for name, each in value.items()  # pyright: ignore[reportUnknownVariableType]
            if name not in {"id", "item_id", "_request_id"}
            and not (chunk and name == "usage" and each is None)
        }
    if isinstance(value, list):
        return [_without(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
    return value


@pytest.mark.parametrize("way", WAYS)
def test_a_client_gets_through_the_gateway_what_it_gets_without(
    sandbox: Running, gateway: RunningGateway, way: Any
) -> None:
    with client_of(sandbox) as there, client_of(gateway) as here:
        assert plain(way(here)) == plain(way(there))


@pytest.mark.parametrize("way", WAYS)
def test_the_ledger_has_what_the_provider_charges(
    sandbox: Running, gateway: RunningGateway, way: Any
) -> None:
    with client_of(gateway) as client:
        way(client)

    charged = bill(sandbox)
    assert charged[0] > 0
    assert costs(gateway) == charged


@pytest.mark.parametrize("way", [chat_create, chat_events])
def test_cached_tokens_are_priced_as_such(sandbox: Running, gateway: RunningGateway, way: Any) -> None:
    long: Any = [{"role": "user", "content": "word " * 2000}]
    with client_of(gateway) as client:
        for _ in range(2):
            client.chat.completions.create(model="task/extraction", messages=long)

    first, second = sandbox.openai_billing()["calls"]
    assert (first["tokens"]["cached"], second["tokens"]["cached"] > 1000) == (0, True)
    assert costs(gateway) == bill(sandbox)


@pytest.mark.parametrize("path", ["chat", "responses"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_call_of_a_task_type_goes_to_its_tier_under_its_cap(
    sandbox: Running, gateway: RunningGateway, path: str, stream: bool
) -> None:
    with client_of(gateway) as client:
        made: Any = (
            client.chat.completions.create(model="task/extraction", messages=PROMPT, stream=stream)
            if path == "chat"
            else client.responses.create(model="task/extraction", input=PROMPT, stream=stream)
        )
        if stream:
            list(made)

    (line,) = sandbox.openai_billing()["calls"]
    cap = "max_completion_tokens" if path == "chat" else "max_output_tokens"
    assert (line["model"], line["sent"][cap]) == ("gpt-5-mini-2025-08-07", 512)
    (call,) = gateway.settled()
    assert (call["task_type"], call["tier"], call["decided_model"]) == ("extraction", "fast", "gpt-5-mini")
    assert (call["max_tokens_sent"], call["cost_nanos"]) == (512, line["nanos"])


def test_a_header_declares_the_type_and_the_tier_sets_the_effort(
    sandbox: Running, gateway: RunningGateway
) -> None:
    with client_of(gateway, default_headers={"x-tierwise-task-type": "synthesis"}) as client:
        client.chat.completions.create(
            model="gpt-5-mini", messages=PROMPT, max_tokens=30, reasoning_effort="low"
        )
        client.responses.create(
            model="gpt-5-mini", input="Hi", reasoning={"effort": "low", "summary": "auto"}
        )

    chat, response = sandbox.openai_billing()["calls"]
    assert (chat["model"], chat["sent"]["max_completion_tokens"], chat["sent"]["reasoning_effort"]) == (
        "gpt-5-2025-08-07",
        30,
        "medium",
    )
    assert response["sent"]["reasoning"] == {"effort": "medium", "summary": "auto"}


def test_an_undeclared_call_goes_as_it_was_asked(sandbox: Running, gateway: RunningGateway) -> None:
    with client_of(gateway) as client:
        chat_create(client)

    (line,) = sandbox.openai_billing()["calls"]
    assert line["model"] == "gpt-5-2025-08-07"
    assert set(line["fields"]) == {"messages", "model", "max_completion_tokens"}
    (call,) = gateway.settled()
    assert (call["task_type"], call["changes"], call["cost_nanos"]) == (None, "[]", line["nanos"])


def test_coroutines_are_served_as_threads_are(sandbox: Running, gateway: RunningGateway) -> None:
    async def talk() -> tuple[str, str]:
        async with openai.AsyncOpenAI(base_url=f"{gateway.base_url}/v1", api_key=KEY) as client:
            completion = await client.chat.completions.create(model="task/extraction", messages=PROMPT)
            text = ""
            async with client.responses.stream(model="task/extraction", input=PROMPT) as stream:
                async for event in stream:
                    if event.type == "response.output_text.delta":
                        text += event.delta
            return completion.choices[0].message.content or "", text

    chat, response = asyncio.run(talk())

    assert chat == response != ""
    assert costs(gateway) == bill(sandbox)


@pytest.mark.parametrize("fault", ["cut-after:5", "error-after:5", "half-event:5"])
@pytest.mark.parametrize("path", ["chat", "responses"])
def test_a_stream_that_breaks_before_its_usage_has_an_unknown_cost(
    sandbox: Running, gateway: RunningGateway, path: str, fault: str
) -> None:
    with (
        client_of(gateway, max_retries=0, default_headers={"x-sandbox-fault": fault}) as client,
        suppress(openai.APIError),
    ):
        list(
            client.chat.completions.create(model="gpt-5", messages=PROMPT, stream=True)
            if path == "chat"
            else client.responses.create(model="gpt-5", input=PROMPT, stream=True)
        )

    (call,) = gateway.settled()
    assert (call["ending"], call["cost_nanos"]) == ("failed", None)
    assert bill(sandbox)[0] > 0


def test_a_caller_that_leaves_a_stream_leaves_an_unknown_cost(
    sandbox: Running, gateway: RunningGateway
) -> None:
    with client_of(gateway, default_headers={"x-sandbox-fault": "slow:20"}) as client:
        stream = client.chat.completions.create(model="gpt-5", messages=PROMPT, stream=True)
        next(stream)
        stream.close()

    (call,) = gateway.settled()
    assert (call["ending"], call["error"], call["cost_nanos"]) == ("failed", "caller-left", None)


def test_a_failure_that_passes_is_tried_again_by_the_gateway(
    sandbox: Running, gateway: RunningGateway
) -> None:
    with client_of(
        gateway, max_retries=0, default_headers={"x-sandbox-fault": "status:500,times=1"}
    ) as client:
        chat_create(client)

    assert [call["attempt"] for call in gateway.settled()] == [1, 2]
    assert costs(gateway)[-1:] == bill(sandbox)


def test_an_error_of_the_provider_passes_as_it_is(sandbox: Running, gateway: RunningGateway) -> None:
    told: list[Any] = []
    for at in (sandbox, gateway):
        with client_of(at, max_retries=0) as client, pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(model="gpt-none", messages=PROMPT)
        told.append((caught.value.message, caught.value.body, caught.value.request_id is not None))

    assert told[0] == told[1]
    assert [call["cost_nanos"] for call in gateway.settled()] == [0]
