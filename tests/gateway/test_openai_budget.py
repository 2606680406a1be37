"""A refusal of a budget, as OpenAI's SDK has it: one request and one exception, whichever way it asks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from support.gateways import running_gateway
from support.policies import TWO_TIERS, with_openai
from tierwise.sandbox.server import running


def by_chat(client: openai.OpenAI) -> Any:
    return client.chat.completions.create(
        model="task/extraction", messages=[{"role": "user", "content": "Hi"}]
    )


def by_chat_events(client: openai.OpenAI) -> Any:
    with client.chat.completions.stream(
        model="task/extraction", messages=[{"role": "user", "content": "Hi"}]
    ) as stream:
        return list(stream)


def by_response(client: openai.OpenAI) -> Any:
    return client.responses.create(model="task/extraction", input="Hi")


def by_response_events(client: openai.OpenAI) -> Any:
    with client.responses.stream(model="task/extraction", input="Hi") as stream:
        return list(stream)


@pytest.mark.parametrize("way", [by_chat, by_chat_events, by_response, by_response_events])
def test_a_budget_that_is_short_is_one_request_and_one_exception_that_says_so(
    tmp_path: Path, way: Callable[[openai.OpenAI], Any]
) -> None:
    short = f'{TWO_TIERS}\n[[budgets]]\nscope = "all"\nlimit_usd = "0.000001"\n'
    with running(seed=1) as sandbox:
        policy = with_openai(short, f"{sandbox.base_url}/v1")
        with (
            running_gateway(tmp_path, sandbox.base_url, policy=policy) as gateway,
            openai.OpenAI(base_url=f"{gateway.base_url}/v1", api_key="sk-any") as client,
            pytest.raises(openai.RateLimitError, match="budget all-lifetime") as caught,
        ):
            way(client)
        calls = gateway.calls()
        billed = sandbox.openai_billing()["calls"]

    assert (caught.value.code, caught.value.type) == ("budget", "billing_error")
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert [(call["error"], call["cost_nanos"]) for call in calls] == [("budget", 0)]
    assert billed == []
