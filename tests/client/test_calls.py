"""The provider's own SDK, through both doors inside the program, sync and async."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import anthropic
import httpx2
import pytest

import tierwise
from support.clients import Door
from support.runners import look_it_up, look_it_up_async
from support.waiting import eventually
from tierwise.sandbox.server import Running

HELLO: list[anthropic.types.MessageParam] = [{"role": "user", "content": "Hello"}]


def in_loop(ask: Callable[[Any], Awaitable[Any]], door: Door, **options: Any) -> Any:
    """Ask by an async client, in a loop of its own."""

    async def run() -> Any:
        async with door.async_client(**options) as client:
            return await ask(client)

    return asyncio.run(run())


def create(door: Door, is_async: bool, options: dict[str, Any] | None = None, **fields: Any) -> Any:
    """Create a message by a client of either kind."""
    told = {"model": "task/extraction", "max_tokens": 4096, "messages": HELLO, **fields}
    if is_async:
        return in_loop(lambda client: client.messages.create(**told), door, **options or {})
    with door.client(**options or {}) as client:
        return client.messages.create(**told)


@pytest.fixture(params=["sync", "async"])
def is_async(request: pytest.FixtureRequest) -> bool:
    return request.param == "async"


def test_a_message_is_created_by_the_decided_model_under_its_cap_and_recorded_at_its_price(
    door: Door, sandbox: Running, is_async: bool
) -> None:
    message = create(door, is_async)

    assert (message.model, message.stop_reason) == ("claude-haiku-5-5", "end_turn")
    (recorded,) = door.calls()
    assert recorded["max_tokens_sent"] == 512
    assert recorded["cost_nanos"] == message.usage.input_tokens * 100 + message.usage.output_tokens * 500
    assert sandbox.billing()["total_nanos"] == recorded["cost_nanos"]


def test_a_block_declares_the_type_the_run_and_the_agent_of_its_calls(door: Door, is_async: bool) -> None:
    with tierwise.task("extraction", run="run-7", agent="reader", task_id="t-1"):
        message = create(door, is_async, model="claude-opus-5-5")

    assert message.model == "claude-haiku-5-5"
    (recorded,) = door.calls()
    assert (recorded["declared"], recorded["task_type"]) == ("header", "extraction")
    assert (recorded["run_id"], recorded["agent"], recorded["task_id"]) == ("run-7", "reader", "t-1")


def test_a_calls_own_words_come_before_its_blocks(door: Door) -> None:
    headers = {"x-tierwise-task-type": "extraction", "x-tierwise-run-id": "its-own"}
    with tierwise.task("synthesis", run="the-blocks", agent="reader"):
        by_header = create(door, is_async=False, model="claude-opus-5-5", extra_headers=headers)
        by_model = create(door, is_async=False, model="task/extraction")

    assert by_header.model == by_model.model == "claude-haiku-5-5"
    first, second = door.calls()
    assert (first["run_id"], first["agent"]) == ("its-own", "reader")
    assert (second["declared"], second["run_id"]) == ("model", "the-blocks")


def test_headers_that_a_client_adds_to_each_call_declare_too_and_do_not_reach_the_provider(
    door: Door, is_async: bool
) -> None:
    declared = {"x-tierwise-task-type": "extraction", "X-Tierwise-Agent": "reader"}

    message = create(door, is_async, {"default_headers": declared}, model="claude-opus-5-5")

    assert message.model == "claude-haiku-5-5"
    (recorded,) = door.calls()
    assert recorded["agent"] == "reader"


def test_an_undeclared_call_goes_as_it_was_asked_and_is_recorded(door: Door, is_async: bool) -> None:
    message = create(door, is_async, model="claude-opus-5-5", max_tokens=700)

    assert message.model == "claude-opus-5-5"
    (recorded,) = door.calls()
    assert (recorded["declared"], recorded["max_tokens_sent"]) == ("undeclared", 700)


@pytest.mark.parametrize("model", ["task/extraction", "task/synthesis"])
def test_a_stream_accumulates_and_is_recorded(
    door: Door, sandbox: Running, is_async: bool, model: str
) -> None:
    asked: dict[str, Any] = {"model": model, "max_tokens": 4096, "messages": HELLO}

    async def stream_async(client: Any) -> tuple[str, Any]:
        async with client.messages.stream(**asked) as stream:
            text = "".join([part async for part in stream.text_stream])
            return text, await stream.get_final_message()

    if is_async:
        text, final = in_loop(stream_async, door)
    else:
        with door.client() as client, client.messages.stream(**asked) as stream:
            text, final = "".join(stream.text_stream), stream.get_final_message()

    (block,) = [block for block in final.content if block.type == "text"]
    assert text == block.text
    (recorded,) = door.calls()
    assert (recorded["stream"], recorded["output_tokens"]) == (1, final.usage.output_tokens)
    assert recorded["cost_nanos"] == sandbox.billing()["total_nanos"]


def test_what_was_decided_is_told_in_the_replys_headers(door: Door, is_async: bool) -> None:
    asked: dict[str, Any] = {"model": "task/extraction", "max_tokens": 4096, "messages": HELLO}

    async def raw_async(client: Any) -> Any:
        return await client.messages.with_raw_response.create(**asked)

    if is_async:
        told = in_loop(raw_async, door)
    else:
        with door.client() as client:
            told = client.messages.with_raw_response.create(**asked)

    assert told.headers["x-tierwise-tier"] == "fast"
    assert told.headers["x-tierwise-call-id"] == door.calls()[0]["call_id"]


def test_a_reply_that_is_read_by_hand_is_recorded(door: Door, sandbox: Running) -> None:
    with (
        door.client() as client,
        client.messages.with_streaming_response.create(
            model="task/extraction", max_tokens=50, messages=HELLO
        ) as response,
    ):
        body = b"".join(response.iter_bytes())

    assert b"claude-haiku-5-5" in body
    assert door.calls()[0]["cost_nanos"] == sandbox.billing()["total_nanos"]


@pytest.fixture(params=["whole", "streamed"])
def stream(request: pytest.FixtureRequest) -> bool:
    return request.param == "streamed"


def look(door: Door, *, is_async: bool, **asked: Any) -> Any:
    """Have the tool runner of the SDK look something up, and return its last message."""

    async def run() -> Any:
        if is_async:
            async with door.async_client() as client:
                return await look_it_up_async(client, **asked)
        with door.client() as client:
            return look_it_up(client, **asked)

    return asyncio.run(run())


def test_the_tool_runner_stays_on_a_thread_where_its_model_is_the_tiers(
    door: Door, sandbox: Running, is_async: bool, stream: bool
) -> None:
    headers = {"x-tierwise-task-type": "synthesis"}
    final = look(door, is_async=is_async, stream=stream, model="claude-opus-5-5", extra_headers=headers)

    assert final.stop_reason == "end_turn"
    assert [call["sent"]["thread"]["type"] for call in sandbox.calls()] == ["continue", "create"]
    recorded = door.settled()
    assert [(call["ending"], call["tier"]) for call in recorded] == [("posted", "frontier")] * 2
    assert [call["cost_nanos"] for call in recorded] == [call["nanos"] for call in sandbox.calls()][::-1]


def test_the_tool_runner_leaves_a_thread_whose_model_would_change_and_finishes(
    door: Door, sandbox: Running, is_async: bool, stream: bool
) -> None:
    final = look(door, is_async=is_async, stream=stream, model="task/synthesis")

    assert final.stop_reason == "end_turn"
    refused, *posted = door.settled()
    assert (refused["ending"], refused["error"], refused["cost_nanos"]) == ("failed", "thread", 0)
    assert [call["ending"] for call in posted] == ["posted", "posted"]
    assert sum(call["cost_nanos"] for call in posted) == sandbox.billing()["total_nanos"]


def test_tokens_are_counted_for_the_decided_model(door: Door, is_async: bool) -> None:
    asked: dict[str, Any] = {"model": "task/extraction", "messages": HELLO}

    async def count_async(client: Any) -> Any:
        return await client.messages.count_tokens(**asked)

    if is_async:
        count = in_loop(count_async, door)
    else:
        with door.client() as client:
            count = client.messages.count_tokens(**asked)

    assert count.input_tokens == create(door, is_async=False).usage.input_tokens
    assert len(door.calls()) == 1


def test_what_no_entry_would_tell_of_is_refused_and_all_else_passes(door: Door, sandbox: Running) -> None:
    with door.client() as client, anthropic.Anthropic(base_url=sandbox.base_url, api_key="any") as direct:
        with pytest.raises(anthropic.BadRequestError, match="does not route or price Message Batches"):
            client.messages.batches.create(requests=[])
        assert list(client.models.list(limit=5)) == list(direct.models.list(limit=5))

    assert door.calls() == []


def test_an_error_of_ours_is_the_sdks_own_and_is_made_once(door: Door, is_async: bool) -> None:
    with pytest.raises(anthropic.BadRequestError, match="no task type 'nothing'") as raised:
        create(door, is_async, {"max_retries": 2}, model="task/nothing")

    (recorded,) = door.calls()
    assert raised.value.request_id == recorded["call_id"]
    assert raised.value.type == "invalid_request_error"
    assert raised.value.response.headers["x-should-retry"] == "false"


def test_a_body_that_cannot_be_read_is_an_error_without_an_entry(door: Door, is_async: bool) -> None:
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        create(door, is_async, extra_body={"max_tokens": "many"})

    assert door.calls() == []


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("status:429", anthropic.RateLimitError),
        ("status:529", anthropic.OverloadedError),
        ("status:500", anthropic.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_the_providers_errors_are_raised_as_ever(
    door: Door, is_async: bool, fault: str, error: type[anthropic.APIStatusError], stream: bool
) -> None:
    with pytest.raises(error) as raised:
        create(door, is_async, extra_headers={"x-sandbox-fault": fault}, stream=stream)

    assert str(raised.value.request_id).startswith("req_sandbox")
    (recorded,) = door.settled()
    assert (recorded["ending"], recorded["cost_nanos"]) == ("failed", 0)


def test_each_attempt_of_a_retried_call_is_in_the_ledger(
    door: Door, sandbox: Running, is_async: bool
) -> None:
    fault = {"x-sandbox-fault": "status:429,retry-after=0.01,times=1"}

    create(door, is_async, {"max_retries": 2}, extra_headers=fault)

    failed, posted = door.calls()
    assert (failed["ending"], posted["ending"]) == ("failed", "posted")
    assert failed["call_id"] != posted["call_id"]
    assert (failed["attempt"], posted["attempt"]) == (1, 2)
    assert posted["cost_nanos"] == sandbox.billing()["total_nanos"]


def test_a_provider_that_cannot_be_reached_is_a_connection_error_and_costs_nothing(
    door: Door, is_async: bool
) -> None:
    with pytest.raises(anthropic.APIConnectionError):
        create(door, is_async, {"base_url": "http://127.0.0.1:9", "max_retries": 1})

    assert [(call["error"], call["cost_nanos"]) for call in door.calls()] == [("unreachable", 0)] * 2


def test_a_reply_that_does_not_come_in_time_is_a_timeout_of_unknown_cost(door: Door, is_async: bool) -> None:
    with pytest.raises(anthropic.APITimeoutError):
        create(door, is_async, extra_headers={"x-sandbox-fault": "slow-first:20"}, timeout=0.3)

    (recorded,) = door.calls()
    assert (recorded["error"], recorded["cost_nanos"]) == ("timeout", None)


def test_a_stream_that_breaks_raises_what_the_client_raises_and_is_recorded(
    door: Door, sandbox: Running, is_async: bool
) -> None:
    told: dict[str, Any] = {"extra_headers": {"x-sandbox-fault": "cut-after:6"}, "stream": True}

    async def read_async(client: Any) -> int:
        events = await client.messages.create(model="task/extraction", max_tokens=500, messages=HELLO, **told)
        return len([event async for event in events])

    def read() -> int:
        with door.client() as client:
            events = client.messages.create(model="task/extraction", max_tokens=500, messages=HELLO, **told)
            return len(list(events))

    with pytest.raises(httpx2.RemoteProtocolError):
        in_loop(read_async, door) if is_async else read()

    (recorded,) = door.settled()
    assert (recorded["error"], recorded["fault"], recorded["cost_nanos"]) == (
        "stream-broke",
        "provider",
        None,
    )
    assert 0 < recorded["at_least_nanos"] <= sandbox.billing()["total_nanos"]


def test_a_stream_that_its_caller_leaves_is_recorded_and_closed_at_the_provider(
    door: Door, sandbox: Running, is_async: bool
) -> None:
    told: dict[str, Any] = {
        "model": "task/extraction",
        "max_tokens": 500,
        "messages": HELLO,
        "extra_headers": {"x-sandbox-fault": "stall-after:4,seconds=20"},
    }

    async def leave_async(client: Any) -> None:
        async with client.messages.stream(**told) as stream:
            await anext(aiter(stream))

    if is_async:
        in_loop(leave_async, door)
    else:
        with door.client() as client, client.messages.stream(**told) as stream:
            next(iter(stream))

    (recorded,) = door.settled()
    assert (recorded["fault"], recorded["error"]) == ("caller", "caller-left")
    (billed,) = eventually(sandbox.calls, until=lambda found: len(found) == 1)
    assert billed["ending"] == "left"
    assert recorded["cost_nanos"] is None
    assert 0 < recorded["at_least_nanos"] <= billed["nanos"]


@pytest.mark.parametrize(
    ("fault", "stream"),
    [("slow-first:20", False), ("slow-first:20", True), ("stall-after:4,seconds=20", True)],
)
def test_a_call_that_is_cancelled_is_recorded_as_left_and_the_cancellation_goes_on(
    door: Door, fault: str, stream: bool
) -> None:
    async def cancelled(client: Any) -> None:
        async with asyncio.timeout(0.3):
            events = await client.messages.create(
                model="task/extraction",
                max_tokens=500,
                messages=HELLO,
                extra_headers={"x-sandbox-fault": fault},
                stream=stream,
            )
            if isinstance(events, anthropic.AsyncStream):
                assert [event async for event in cast("anthropic.AsyncStream[object]", events)]

    with pytest.raises(TimeoutError):
        in_loop(cancelled, door)

    (recorded,) = door.settled()
    assert (recorded["error"], recorded["cost_nanos"]) == ("caller-left", None)


def test_a_stream_that_is_dropped_without_being_closed_is_recorded_as_left(
    door: Door, is_async: bool
) -> None:
    told: dict[str, Any] = {
        "model": "task/extraction",
        "max_tokens": 500,
        "messages": HELLO,
        "stream": True,
        "extra_headers": {"x-sandbox-fault": "stall-after:4,seconds=20"},
    }

    async def drop_async(client: Any) -> None:
        events = await client.messages.create(**told)
        await anext(aiter(events))
        del events
        await asyncio.sleep(0.1)

    if is_async:
        in_loop(drop_async, door)
    else:
        with door.client() as client:
            events = client.messages.create(**told)
            next(iter(events))
            del events

    (recorded,) = door.settled()
    assert recorded["error"] == "caller-left"
