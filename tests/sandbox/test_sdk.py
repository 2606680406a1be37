"""The provider's own SDK against the sandbox, over HTTP."""

import asyncio
import json

import anthropic
import pytest
from anthropic import beta_tool

from tierwise.sandbox.server import Running

OPUS, HAIKU = "claude-opus-5-5", "claude-haiku-5-5"
HELLO: list[anthropic.types.MessageParam] = [{"role": "user", "content": "Hello"}]


def client_of(sandbox: Running, *, retries: int = 0) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=sandbox.base_url, api_key="any", max_retries=retries)


def test_a_message_is_created_and_billed(sandbox: Running) -> None:
    with client_of(sandbox) as client:
        message = client.messages.create(model=OPUS, max_tokens=500, messages=HELLO)

    usage = message.usage
    assert (message.type, message.role, message.model, message.stop_reason) == (
        "message",
        "assistant",
        OPUS,
        "end_turn",
    )
    assert message.content[0].type == "text"
    assert (usage.service_tier, usage.speed) == ("standard", "standard")
    assert sandbox.billing()["total_nanos"] == usage.input_tokens * 4_000 + usage.output_tokens * 20_000


def test_a_stream_accumulates_to_the_message_that_is_created(sandbox: Running) -> None:
    with client_of(sandbox) as client:
        message = client.messages.create(model=OPUS, max_tokens=500, messages=HELLO)
        with client.messages.stream(model=OPUS, max_tokens=500, messages=HELLO) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()

    (streamed,), (created,) = final.content, message.content
    assert streamed.type == "text"
    assert created.type == "text"
    assert text == streamed.text == created.text
    assert final.usage == message.usage
    calls = sandbox.calls()
    assert calls[0]["nanos"] == calls[1]["nanos"]


def test_a_stream_accumulates_thinking_with_its_signature(sandbox: Running) -> None:
    asked: list[anthropic.types.MessageParam] = [
        {"role": "user", "content": "[[sandbox thinking_tokens=90]]"}
    ]
    with (
        client_of(sandbox) as client,
        client.messages.stream(
            model=OPUS, max_tokens=500, messages=asked, thinking={"type": "adaptive", "display": "summarized"}
        ) as stream,
    ):
        final = stream.get_final_message()

    thinking = final.content[0]
    assert thinking.type == "thinking"
    assert thinking.signature
    assert len(thinking.thinking) == 324
    assert final.usage.output_tokens_details is not None
    assert final.usage.output_tokens_details.thinking_tokens == 90


def test_a_streamed_tool_use_has_its_input(sandbox: Running) -> None:
    look: anthropic.types.ToolParam = {
        "name": "look",
        "input_schema": {"type": "object", "properties": {"key": {"type": "string"}}},
    }
    with (
        client_of(sandbox) as client,
        client.messages.stream(
            model=HAIKU,
            max_tokens=500,
            messages=HELLO,
            tools=[look],
            tool_choice={"type": "any"},
        ) as stream,
    ):
        final = stream.get_final_message()

    (use,) = final.content
    assert use.type == "tool_use"
    assert use.input == {"key": "sandbox"}
    assert final.stop_reason == "tool_use"


def test_the_tool_runner_falls_back_from_threads_and_finishes(sandbox: Running) -> None:
    seen: list[str] = []

    @beta_tool
    def look_up(key: str) -> str:
        """Look up a record.

        Args:
            key: the record's key
        """
        seen.append(key)
        return "found"

    with client_of(sandbox) as client:
        runner = client.beta.messages.tool_runner(
            model=OPUS,
            max_tokens=500,
            tools=[look_up],
            messages=[{"role": "user", "content": "Look it up."}],
            thinking={"type": "adaptive"},  # does not go together with a thread
        )
        final = runner.until_done()

    assert seen == ["sandbox"]
    assert final.stop_reason == "end_turn"
    assert ["thread" in call["sent"]["fields"] for call in sandbox.calls()] == [False, False]


def test_beta_usage_carries_its_iterations(sandbox: Running) -> None:
    with client_of(sandbox) as client:
        message = client.beta.messages.create(
            model=OPUS,
            max_tokens=500,
            messages=[{"role": "user", "content": "[[sandbox iterations=compaction]]"}],
        )
        with client.beta.messages.stream(
            model=OPUS,
            max_tokens=500,
            messages=[{"role": "user", "content": "[[sandbox iterations=compaction]]"}],
        ) as stream:
            streamed = stream.get_final_message()

    assert message.usage.iterations is not None
    assert [part.type for part in message.usage.iterations] == ["compaction", "message"]
    assert streamed.usage.output_tokens == message.usage.output_tokens


def test_tokens_are_counted(sandbox: Running) -> None:
    with client_of(sandbox) as client:
        count = client.messages.count_tokens(model=OPUS, messages=HELLO)
        message = client.messages.create(model=OPUS, max_tokens=500, messages=HELLO)

    assert count.input_tokens == message.usage.input_tokens


def test_the_models_are_listed_page_by_page(sandbox: Running) -> None:
    with client_of(sandbox) as client:
        models = list(client.models.list(limit=5))
        one = client.models.retrieve("claude-haiku-5-5")

    assert len(models) == 24
    assert (one.line, one.lifecycle, one.max_tokens) == ("haiku", "active", 128_000)
    assert one.capabilities is not None
    assert one.capabilities.thinking.types.adaptive.supported
    assert not one.capabilities.thinking.types.enabled.supported


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("status:429", anthropic.RateLimitError),
        ("status:529", anthropic.APIStatusError),
        ("status:500", anthropic.InternalServerError),
    ],
)
def test_errors_are_the_sdks_own(sandbox: Running, fault: str, error: type[anthropic.APIStatusError]) -> None:
    with client_of(sandbox) as client, pytest.raises(error) as raised:
        client.messages.create(
            model=OPUS, max_tokens=50, messages=HELLO, extra_headers={"x-sandbox-fault": fault}
        )

    assert raised.value.request_id == raised.value.response.headers["request-id"]


def test_an_unknown_model_is_not_found(sandbox: Running) -> None:
    with client_of(sandbox) as client, pytest.raises(anthropic.NotFoundError, match="model: task/extraction"):
        client.messages.create(model="task/extraction", max_tokens=50, messages=HELLO)


def test_the_sdk_retries_and_only_the_success_is_billed(sandbox: Running) -> None:
    with client_of(sandbox, retries=2) as client:
        client.messages.create(
            model=OPUS,
            max_tokens=50,
            messages=HELLO,
            extra_headers={"x-sandbox-fault": "status:429,retry-after=0.01,times=1"},
        )

    assert sandbox.billing()["calls"] == 1


def test_an_error_inside_a_stream_is_raised(sandbox: Running) -> None:
    with (
        client_of(sandbox) as client,
        pytest.raises(anthropic.APIStatusError, match="overloaded_error"),
        client.messages.stream(
            model=OPUS, max_tokens=500, messages=HELLO, extra_headers={"x-sandbox-fault": "error-after:4"}
        ) as stream,
    ):
        stream.get_final_message()


def test_a_later_api_does_not_trouble_the_sdk(sandbox: Running) -> None:
    later = {"x-sandbox-fault": "unknown-fields"}
    with client_of(sandbox) as client:
        message = client.messages.create(model=OPUS, max_tokens=500, messages=HELLO, extra_headers=later)
        with client.messages.stream(
            model=OPUS, max_tokens=500, messages=HELLO, extra_headers=later
        ) as stream:
            final = stream.get_final_message()

    assert message.model_extra is not None
    assert message.model_extra["sandbox_later"] == {"kept": True}
    assert final.stop_reason == "end_turn"


def test_a_structured_output_is_parsed(sandbox: Running) -> None:
    schema: dict[str, object] = {
        "type": "object",
        "properties": {"total": {"type": "integer"}},
        "required": ["total"],
    }
    with client_of(sandbox) as client:
        message = client.messages.create(
            model=HAIKU,
            max_tokens=500,
            messages=HELLO,
            output_config={"format": {"type": "json_schema", "schema": schema}},
        )

    assert message.content[0].type == "text"
    assert json.loads(message.content[0].text) == {"total": 1}


def test_twenty_asynchronous_calls_at_once_are_all_billed(sandbox: Running) -> None:
    async def ask() -> list[anthropic.types.Message]:
        async with anthropic.AsyncAnthropic(
            base_url=sandbox.base_url, api_key="any", max_retries=0
        ) as client:

            async def one(place: int) -> anthropic.types.Message:
                asked: anthropic.types.MessageParam = {"role": "user", "content": f"Hello {place}"}
                if place % 2:
                    return await client.messages.create(model=OPUS, max_tokens=500, messages=[asked])
                async with client.messages.stream(model=OPUS, max_tokens=500, messages=[asked]) as stream:
                    return await stream.get_final_message()

            return list(await asyncio.gather(*(one(place) for place in range(20))))

    messages = asyncio.run(ask())

    expected = sum(m.usage.input_tokens * 4_000 + m.usage.output_tokens * 20_000 for m in messages)
    assert sandbox.billing()["calls"] == 20
    assert sandbox.billing()["total_nanos"] == expected
