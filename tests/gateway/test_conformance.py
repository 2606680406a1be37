"""The same conversations with the provider and through the gateway: a program sees no difference.

Two providers of one seed, so that their caches and ids are alike: one is called directly, one stands behind a gateway.
"""

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import anthropic
import pytest

from support.conversations import CONVERSATIONS, WAYS, Seen, Way, compared, had, had_async
from support.gateways import RunningGateway, running_gateway
from support.runners import look_it_up_at
from tierwise.sandbox.server import Running, running

OPUS = "claude-opus-5-5"
POLICY = f"""
[tiers.strong]
model = "{OPUS}"

[task_types.any]
tier = "strong"
effort = "keep"
thinking = "keep"
"""
"""What is declared as `any` goes to the model that is asked for elsewhere, unchanged but for its name."""

FITTED: Final = ("a thinking budget that the model refuses",)
"""Routed, these are made to fit, so that the provider does not refuse them."""
BROKEN: Final = ("half an event", "a connection that ends early")
"""A reply that is not a stream and does not come whole: the caller gets an error that says so."""


class Programs:
    """A sync and an async client of one address."""

    def __init__(self, base_url: str) -> None:
        self._runner = asyncio.Runner()
        told: dict[str, Any] = {"base_url": base_url, "api_key": "any", "max_retries": 0}
        self._sync = anthropic.Anthropic(**told)
        self._async = anthropic.AsyncAnthropic(**told)

    def see(self, name: str, way: Way, *, is_async: bool, model: str) -> Seen:
        turns = CONVERSATIONS[name]
        if is_async:
            return compared(self._runner.run(had_async(self._async, turns, way, model=model)))
        return compared(had(self._sync, turns, way, model=model))

    def close(self) -> None:
        self._sync.close()
        self._runner.run(self._async.close())
        self._runner.close()


@pytest.fixture(scope="module")
def direct() -> Iterator[Running]:
    with running(seed=1) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def behind() -> Iterator[Running]:
    with running(seed=1) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, behind: Running) -> Iterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("served")
    with running_gateway(folder, behind.base_url, policy=POLICY, retries=0) as gateway:
        yield gateway


@pytest.fixture
def gateway(served: RunningGateway, direct: Running, behind: Running) -> RunningGateway:
    """A gateway before a provider that has seen no call yet, and another such provider without one."""
    direct.reset()
    behind.reset()
    return served.fresh()


@pytest.fixture(scope="module")
def without(direct: Running) -> Iterator[Programs]:
    programs = Programs(direct.base_url)
    yield programs
    programs.close()


@pytest.fixture(scope="module")
def through(served: RunningGateway) -> Iterator[Programs]:
    programs = Programs(served.base_url)
    yield programs
    programs.close()


@pytest.mark.parametrize("model", [OPUS, "task/any"], ids=["as it is", "routed"])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_conversation_is_the_same_through_the_gateway_and_no_dearer_than_the_ledger_says(
    without: Programs,
    through: Programs,
    gateway: RunningGateway,
    direct: Running,
    behind: Running,
    name: str,
    way: Way,
    is_async: bool,
    model: str,
) -> None:
    expected = without.see(name, way, is_async=is_async, model=OPUS)
    seen = through.see(name, way, is_async=is_async, model=model)

    if name in FITTED and model != OPUS:
        assert (expected[0]["status"], list(seen[0])) == (
            400,
            ["events", "message"] if "events" in seen[0] else ["message"],
        )
        return
    if name in BROKEN and way in {"whole", "beta"}:
        assert (
            expected[0]["raised"] == "APIConnectionError"
        )  # which the SDK tries again by itself, as it does this:
        assert (seen[0]["status"], seen[0]["headers"]["x-should-retry"]) == (502, "true")
    else:
        assert seen == expected
    billed = [call["nanos"] for call in behind.calls()]
    assert billed == [call["nanos"] for call in direct.calls()]
    recorded = gateway.settled()
    unknown = [call for call in recorded if call["cost_nanos"] is None]
    assert unknown or sum(call["cost_nanos"] for call in recorded) == sum(billed)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("thread", [None, False], ids=["on a thread", "without one"])
def test_the_tool_runner_sees_the_same_through_the_gateway(
    gateway: RunningGateway, direct: Running, behind: Running, is_async: bool, stream: bool, thread: Any
) -> None:
    def final(base_url: str) -> Any:
        asked: dict[str, Any] = {"model": OPUS} if thread is None else {"model": OPUS, "thread": thread}
        message = asyncio.run(look_it_up_at(base_url, is_async=is_async, stream=stream, **asked))
        return compared([message.to_dict()])

    assert final(gateway.base_url) == final(direct.base_url)
    requests = [(call["nanos"], call["sent"].get("thread", {}).get("type")) for call in behind.calls()]
    assert requests == [
        (call["nanos"], call["sent"].get("thread", {}).get("type")) for call in direct.calls()
    ]
    assert [call["cost_nanos"] for call in gateway.calls()] == [nanos for nanos, _ in reversed(requests)]


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_tokens_are_counted_as_the_provider_counts_them(
    gateway: RunningGateway, direct: Running, name: str
) -> None:
    (first, *_) = CONVERSATIONS[name]
    takes = ("model", "messages", "system", "tools", "tool_choice", "thinking", "output_config")
    asked: dict[str, Any] = {
        field: value for field, value in ({"model": OPUS} | first([])).items() if field in takes
    }

    def counted(base_url: str) -> Any:
        with anthropic.Anthropic(base_url=base_url, api_key="any", max_retries=0) as client:
            try:
                return client.messages.count_tokens(**asked).input_tokens
            except anthropic.APIStatusError as error:
                return compared([error.status_code, error.body])

    assert counted(gateway.base_url) == counted(direct.base_url)
