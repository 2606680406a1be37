"""The provider's own SDK through a gateway to the sandbox, over HTTP."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import anthropic
import pytest

from support.gateways import RunningGateway, running_gateway
from support.waiting import eventually
from tierwise.sandbox.server import Running, running

HELLO: list[anthropic.types.MessageParam] = [{"role": "user", "content": "Hello"}]
LOOK: anthropic.types.ToolParam = {
    "name": "look",
    "input_schema": {"type": "object", "properties": {"key": {"type": "string"}}},
}


@pytest.fixture(scope="module")
def provider() -> Iterator[Running]:
    with running(seed=1) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, provider: Running) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("served"), provider.base_url) as gateway:
        yield gateway


@pytest.fixture
def sandbox(provider: Running) -> Running:
    """A sandbox that has seen no call yet."""
    provider.reset()
    return provider


@pytest.fixture
def gateway(served: RunningGateway, sandbox: Running) -> RunningGateway:
    """A gateway before it, whose earlier calls are left out."""
    return served.fresh()


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.base_url, api_key="any", max_retries=0) as client:
        yield client


def total_nanos(gateway: RunningGateway) -> int:
    """What the ledger says was spent, where it knows."""
    return sum(call["cost_nanos"] or 0 for call in gateway.calls())


def test_a_message_is_created_by_the_decided_model_and_recorded_at_its_price(
    client: anthropic.Anthropic, gateway: RunningGateway, sandbox: Running
) -> None:
    message = client.messages.create(model="task/extraction", max_tokens=4096, messages=HELLO)

    assert (message.model, message.stop_reason) == ("claude-haiku-5-5", "end_turn")
    (recorded,) = gateway.calls()
    assert (recorded["input_tokens"], recorded["output_tokens"]) == (
        message.usage.input_tokens,
        message.usage.output_tokens,
    )
    assert recorded["cost_nanos"] == message.usage.input_tokens * 100 + message.usage.output_tokens * 500
    assert sandbox.billing()["total_nanos"] == recorded["cost_nanos"]


def test_a_stream_accumulates_and_is_recorded(
    client: anthropic.Anthropic, gateway: RunningGateway, sandbox: Running
) -> None:
    with client.messages.stream(model="task/synthesis", max_tokens=4096, messages=HELLO) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
        told = stream.response.headers

    (block,) = [block for block in final.content if block.type == "text"]
    assert text == block.text
    assert (told["x-tierwise-tier"], told["x-tierwise-model"]) == ("frontier", "claude-opus-5-5")
    (recorded,) = gateway.calls()
    assert (recorded["stream"], recorded["output_tokens"]) == (1, final.usage.output_tokens)
    assert recorded["cost_nanos"] == sandbox.billing()["total_nanos"]


def test_a_declaration_by_header_is_routed_and_named_in_the_ledger(
    client: anthropic.Anthropic, gateway: RunningGateway
) -> None:
    message = client.messages.create(
        model="claude-opus-5-5",
        max_tokens=4096,
        messages=HELLO,
        extra_headers={"x-tierwise-task-type": "extraction", "x-tierwise-run-id": "run-7"},
    )

    assert message.model == "claude-haiku-5-5"
    (recorded,) = gateway.calls()
    assert (recorded["declared"], recorded["run_id"]) == ("header", "run-7")
    usage = message.usage
    assert recorded["as_asked_nanos"] == usage.input_tokens * 4_000 + usage.output_tokens * 20_000


def test_a_streamed_tool_use_has_its_input(client: anthropic.Anthropic) -> None:
    with client.messages.stream(
        model="task/extraction", max_tokens=500, messages=HELLO, tools=[LOOK], tool_choice={"type": "any"}
    ) as stream:
        final = stream.get_final_message()

    (use,) = final.content
    assert use.type == "tool_use"
    assert use.input == {"key": "sandbox"}


def test_tokens_are_counted_for_the_decided_model(client: anthropic.Anthropic) -> None:
    count = client.messages.count_tokens(model="task/extraction", messages=HELLO)
    message = client.messages.create(model="task/extraction", max_tokens=500, messages=HELLO)

    assert count.input_tokens == message.usage.input_tokens


def test_the_models_are_listed_page_by_page(client: anthropic.Anthropic, sandbox: Running) -> None:
    with anthropic.Anthropic(base_url=sandbox.base_url, api_key="any") as direct:
        listed = [model for model in client.models.list(limit=5) if not model.id.startswith("task/")]
        assert listed == list(direct.models.list(limit=5))
        assert client.models.retrieve("claude-haiku-5-5") == direct.models.retrieve("claude-haiku-5-5")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("status:429", anthropic.RateLimitError),
        ("status:529", anthropic.APIStatusError),
        ("status:500", anthropic.InternalServerError),
    ],
)
def test_the_providers_errors_are_the_sdks_own(
    client: anthropic.Anthropic, fault: str, error: type[anthropic.APIStatusError]
) -> None:
    with pytest.raises(error) as raised:
        client.messages.create(
            model="task/extraction",
            max_tokens=50,
            messages=HELLO,
            extra_headers={"x-sandbox-fault": fault},
        )

    assert raised.value.request_id == raised.value.response.headers["request-id"]
    assert str(raised.value.request_id).startswith("req_sandbox")


def test_our_own_errors_are_the_sdks_own_too(client: anthropic.Anthropic, gateway: RunningGateway) -> None:
    with pytest.raises(anthropic.BadRequestError, match="no task type 'nothing'") as raised:
        client.messages.create(model="task/nothing", max_tokens=50, messages=HELLO)

    (recorded,) = gateway.calls()
    assert raised.value.request_id == recorded["call_id"]


def test_the_sdk_retries_and_each_attempt_is_in_the_ledger(gateway: RunningGateway, sandbox: Running) -> None:
    with anthropic.Anthropic(base_url=gateway.base_url, api_key="any", max_retries=2) as client:
        client.messages.create(
            model="task/extraction",
            max_tokens=50,
            messages=HELLO,
            extra_headers={"x-sandbox-fault": "status:429,retry-after=0.01,times=1"},
        )

    assert [call["ending"] for call in gateway.calls()] == ["failed", "posted"]
    assert total_nanos(gateway) == sandbox.billing()["total_nanos"]


def test_an_unreachable_provider_is_retried_by_the_sdk_where_the_gateway_does_not(tmp_path: Path) -> None:
    with (
        running_gateway(tmp_path, "http://127.0.0.1:9", retries=0) as gateway,
        anthropic.Anthropic(base_url=gateway.base_url, api_key="any", max_retries=1) as client,
        pytest.raises(anthropic.InternalServerError) as raised,
    ):
        client.messages.create(model="task/extraction", max_tokens=50, messages=HELLO)

    assert raised.value.status_code == 502
    assert [call["error"] for call in gateway.calls()] == ["unreachable", "unreachable"]


def test_an_error_inside_a_stream_is_raised(client: anthropic.Anthropic, gateway: RunningGateway) -> None:
    with (
        pytest.raises(anthropic.APIStatusError, match="overloaded_error"),
        client.messages.stream(
            model="task/extraction",
            max_tokens=500,
            messages=HELLO,
            extra_headers={"x-sandbox-fault": "error-after:4"},
        ) as stream,
    ):
        stream.get_final_message()

    (recorded,) = gateway.calls()
    assert (recorded["error"], recorded["cost_nanos"]) == ("overloaded_error", None)
    assert recorded["at_least_nanos"] > 0


def test_asynchronous_calls_and_streams_are_recorded(gateway: RunningGateway, sandbox: Running) -> None:
    async def ask() -> list[anthropic.types.Message]:
        async with anthropic.AsyncAnthropic(
            base_url=gateway.base_url, api_key="any", max_retries=0
        ) as client:

            async def one(place: int) -> anthropic.types.Message:
                asked: anthropic.types.MessageParam = {"role": "user", "content": f"Hello {place}"}
                if place % 2:
                    return await client.messages.create(
                        model="task/extraction", max_tokens=500, messages=[asked]
                    )
                async with client.messages.stream(
                    model="task/synthesis", max_tokens=500, messages=[asked]
                ) as stream:
                    return await stream.get_final_message()

            return list(await asyncio.gather(*(one(place) for place in range(20))))

    messages = asyncio.run(ask())

    assert {message.model for message in messages} == {"claude-haiku-5-5", "claude-opus-5-5"}
    assert len(gateway.calls("ending = 'posted'")) == 20
    assert total_nanos(gateway) == sandbox.billing()["total_nanos"]


def test_a_stream_that_its_caller_leaves_is_recorded_and_closed(
    client: anthropic.Anthropic, gateway: RunningGateway, sandbox: Running
) -> None:
    with client.messages.stream(
        model="task/extraction",
        max_tokens=500,
        messages=HELLO,
        extra_headers={"x-sandbox-fault": "stall-after:4,seconds=20"},
    ) as stream:
        next(iter(stream))

    (recorded,) = eventually(gateway.settled, until=bool)
    assert (recorded["fault"], recorded["error"]) == ("caller", "caller-left")
    (billed,) = eventually(sandbox.calls, until=lambda found: len(found) == 1)
    assert billed["ending"] == "left"
    assert recorded["cost_nanos"] is None
    assert 0 < recorded["at_least_nanos"] <= billed["nanos"]
