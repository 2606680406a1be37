"""OpenAI's own SDK against the sandbox: both paths, whole and streamed, usage, caps, faults and the bill."""

import asyncio
import json
from typing import Any, Final

import openai
import pytest
from pydantic import BaseModel

from tierwise.sandbox.server import Running, running

ASKED: Final = "How long? [[sandbox output_tokens=5 thinking_tokens=3]]"
PROMPT: Final[Any] = [{"role": "user", "content": ASKED}]
WORDS: Final = "word0 word1 word2 word3 word4 "


def client_of(sandbox: Running, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{sandbox.base_url}/v1", api_key="any", max_retries=0, **options)


def faulty(sandbox: Running, fault: str) -> openai.OpenAI:
    return client_of(sandbox, default_headers={"x-sandbox-fault": fault})


def call(client: openai.OpenAI, path: str, **options: Any) -> Any:
    """Make a call on either path."""
    create: Any = client.chat.completions.create if path == "chat" else client.responses.create
    prompt = {"messages": PROMPT} if path == "chat" else {"input": ASKED}
    return create(model="sandbox-large", **prompt, **options)


def cap(path: str, tokens: int) -> dict[str, int]:
    return {"max_completion_tokens" if path == "chat" else "max_output_tokens": tokens}


class Firm(BaseModel):
    name: str
    since: int


def test_a_chat_tells_text_usage_and_ending(sandbox: Running) -> None:
    with client_of(sandbox) as client:
        made = client.chat.completions.create(model="gpt-5", messages=PROMPT)

    (choice,) = made.choices
    assert (made.model, choice.message.content, choice.finish_reason) == (
        "gpt-5-2025-08-07",
        WORDS,
        "stop",
    )
    assert made.usage is not None
    assert made.usage.completion_tokens_details is not None
    assert (made.usage.completion_tokens, made.usage.completion_tokens_details.reasoning_tokens) == (8, 3)
    assert made.usage.total_tokens == made.usage.prompt_tokens + 8


def test_a_response_tells_text_usage_and_ending(sandbox: Running) -> None:
    with client_of(sandbox) as client:
        made = client.responses.create(model="gpt-5", input=ASKED)

    assert (made.model, made.output_text, made.status) == ("gpt-5-2025-08-07", WORDS, "completed")
    assert made.usage is not None
    assert (made.usage.output_tokens, made.usage.output_tokens_details.reasoning_tokens) == (8, 3)


def test_a_format_is_kept_on_both_paths(sandbox: Running) -> None:
    with client_of(sandbox) as client:
        chat = client.chat.completions.parse(model="gpt-5", messages=PROMPT, response_format=Firm)
        response = client.responses.parse(model="gpt-5", input=ASKED, text_format=Firm)

    assert chat.choices[0].message.parsed == response.output_parsed == Firm(name="Acme", since=7)


def test_the_sdk_puts_streams_together_as_whole_replies_are(sandbox: Running) -> None:
    with client_of(sandbox) as client:
        with client.chat.completions.stream(
            model="gpt-5", messages=PROMPT, stream_options={"include_usage": True}
        ) as chunks:
            chat = chunks.until_done().get_final_completion()
        with client.responses.stream(model="gpt-5", input=ASKED) as events:
            response = events.until_done().get_final_response()
        whole = client.chat.completions.create(model="gpt-5", messages=PROMPT)

    assert chat.choices[0].message.content == response.output_text == WORDS
    assert chat.usage == whole.usage


@pytest.mark.parametrize("asked", [False, True])
def test_a_chat_stream_tells_its_usage_only_where_it_is_asked_to(sandbox: Running, asked: bool) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if asked else {}
    with client_of(sandbox) as client:
        chunks = list(call(client, "chat", stream=True, **options))

    assert (not chunks[-1].choices, chunks[-1].usage is not None) == (asked, asked)


def test_coroutines_are_served(sandbox: Running) -> None:
    async def talk() -> tuple[str | None, str, str]:
        async with openai.AsyncOpenAI(base_url=f"{sandbox.base_url}/v1", api_key="any") as client:
            chat = await client.chat.completions.create(model="gpt-5", messages=PROMPT)
            response = await client.responses.create(model="gpt-5", input=ASKED)
            chunks = await client.chat.completions.create(model="gpt-5", messages=PROMPT, stream=True)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])
            return chat.choices[0].message.content, response.output_text, text

    assert asyncio.run(talk()) == (WORDS, WORDS, WORDS)


@pytest.mark.parametrize(("tokens", "text", "reasoning"), [(8, WORDS, 3), (5, "word0 word1 ", 3), (2, "", 2)])
def test_reasoning_counts_toward_the_cap_and_comes_first(
    sandbox: Running, tokens: int, text: str, reasoning: int
) -> None:
    with client_of(sandbox) as client:
        chat = call(client, "chat", **cap("chat", tokens))
        response = call(client, "responses", **cap("responses", tokens))

    assert (chat.choices[0].message.content, response.output_text) == (text, text)
    assert chat.usage.completion_tokens == response.usage.output_tokens == tokens
    assert chat.usage.completion_tokens_details.reasoning_tokens == reasoning
    cut = tokens < 8
    assert chat.choices[0].finish_reason == ("length" if cut else "stop")
    assert response.status == ("incomplete" if cut else "completed")


@pytest.mark.parametrize("path", ["chat", "responses"])
def test_a_call_is_billed_by_the_tokens_that_it_tells(sandbox: Running, path: str) -> None:
    with client_of(sandbox) as client:
        call(client, path)

    (line,) = sandbox.openai_billing()["calls"]
    assert (line["tokens"]["output"], line["tokens"]["cached"]) == (8, 0)
    assert line["nanos"] == line["tokens"]["prompt"] * 3_000 + 8 * 15_000
    assert sandbox.openai_billing()["total_nanos"] == line["nanos"]


def test_a_prompt_that_comes_again_is_billed_at_the_price_of_the_cache(sandbox: Running) -> None:
    long: Any = [{"role": "user", "content": "word " * 2_000}]
    with client_of(sandbox) as client:
        made = [client.chat.completions.create(model="sandbox-large", messages=long) for _ in range(2)]

    usage = made[1].usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    cached = usage.prompt_tokens_details.cached_tokens or 0
    assert cached > 1_024
    fresh = usage.prompt_tokens - cached
    line = sandbox.openai_billing()["calls"][1]
    assert line["nanos"] == fresh * 3_000 + cached * 300 + usage.completion_tokens * 15_000


def test_each_of_several_choices_is_billed(sandbox: Running) -> None:
    with client_of(sandbox) as client:
        made = call(client, "chat", n=3)

    assert len(made.choices) == 3
    assert (made.usage.completion_tokens, sandbox.openai_billing()["calls"][0]["tokens"]["output"]) == (
        24,
        24,
    )


@pytest.mark.parametrize("path", ["chat", "responses"])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("status:429,retry-after=2", openai.RateLimitError),
        ("status:503", openai.InternalServerError),
        ("error-after:2", openai.InternalServerError),
        ("cut-after:2", openai.APIConnectionError),
        ("refusal", openai.BadRequestError),
        ("no-such-fault", openai.BadRequestError),
    ],
)
def test_a_fault_is_the_sdks_exception(
    sandbox: Running, path: str, fault: str, error: type[Exception]
) -> None:
    with faulty(sandbox, fault) as client, pytest.raises(error):
        call(client, path)


def test_an_error_amid_a_chat_stream_is_an_exception_and_billed_for_what_was_sent(sandbox: Running) -> None:
    with faulty(sandbox, "error-after:4") as client, pytest.raises(openai.APIError):
        list(call(client, "chat", stream=True))

    (line,) = sandbox.openai_billing()["calls"]
    assert (line["ending"], line["tokens"]["output"]) == ("error", 6)


def test_an_error_amid_a_response_stream_is_its_last_event_and_billed_for_what_was_sent(
    sandbox: Running,
) -> None:
    with faulty(sandbox, "error-after:6") as client:
        events = list(call(client, "responses", stream=True))

    (line,) = sandbox.openai_billing()["calls"]
    assert events[-1].type == "error"
    assert (line["ending"], line["tokens"]["output"]) == ("error", 5)


@pytest.mark.parametrize("path", ["chat", "responses"])
def test_usage_can_be_left_out(sandbox: Running, path: str) -> None:
    with faulty(sandbox, "no-usage") as client:
        made = call(client, path)

    assert made.usage is None
    assert sandbox.openai_billing()["total_nanos"] > 0


@pytest.mark.parametrize("path", ["chat", "responses"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_later_api_has_fields_events_and_headers_that_nobody_knows(
    sandbox: Running, path: str, stream: bool
) -> None:
    place, prompt = ("chat/completions", {"messages": PROMPT}) if path == "chat" else (path, {"input": ASKED})
    body = {"model": "gpt-5", "stream": stream, **prompt}
    headers = {"authorization": "Bearer any", "x-sandbox-fault": "unknown-fields"}

    answer = sandbox.send("POST", f"/v1/{place}", json.dumps(body).encode(), headers)

    assert b"sandbox_later" in answer.body
    assert answer.headers["openai-sandbox-later"] == "kept"


def test_a_call_without_a_key_or_with_an_unknown_model_is_refused(sandbox: Running) -> None:
    body = json.dumps({"model": "gpt-5", "messages": PROMPT}).encode()
    unsigned = sandbox.send("POST", "/v1/chat/completions", body)
    with client_of(sandbox) as client, pytest.raises(openai.NotFoundError):
        client.responses.create(model="gpt-none", input=ASKED)

    assert (unsigned.status, set(unsigned.json()["error"])) == (401, {"message", "type", "param", "code"})
    assert sandbox.openai_billing() == {"total_nanos": 0, "calls": []}


def test_requests_a_minute_are_limited_here_too() -> None:
    with running(seed=1, rpm=1) as sandbox, client_of(sandbox) as client:
        call(client, "chat")
        with pytest.raises(openai.RateLimitError) as caught:
            call(client, "responses")

    assert int(caught.value.response.headers["retry-after"]) > 0
