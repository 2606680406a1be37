"""What budgets do for OpenAI's SDK: one request and one exception; what cannot be counted is refused."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from support.gateways import RunningGateway, running_gateway
from support.policies import TWO_TIERS, with_openai
from tierwise.sandbox.server import Running, running


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


SEARCHER = """
[[prices]]
model = "gpt-4o-mini-search-preview"
input_usd_per_mtok = "0.15"
cache_read_usd_per_mtok = "0.075"
output_usd_per_mtok = "0.6"
"""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Running]:
    with running(seed=1) as provider:
        yield provider


@contextmanager
def served(
    folder: Path, sandbox: Running, budget: str = ""
) -> Generator[tuple[openai.OpenAI, RunningGateway]]:
    sandbox.reset()
    policy = with_openai(TWO_TIERS + budget + SEARCHER, f"{sandbox.base_url}/v1")
    with (
        running_gateway(folder, sandbox.base_url, policy=policy) as gateway,
        openai.OpenAI(base_url=f"{gateway.base_url}/v1", api_key="sk-any", max_retries=0) as client,
    ):
        yield client, gateway


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("responses", {"input": "[[sandbox searches=2]]", "prompt": {"id": "pmpt_1"}}),
        ("responses", {"input": "Hi", "prompt": {"id": "pmpt_search"}}),
        ("responses", {"input": "[[sandbox searches=1]]"}),
        ("chat", {"messages": [{"role": "user", "content": "Hi"}], "model": "gpt-4o-mini-search-preview"}),
    ],
    ids=["a stored prompt that searches", "one that could", "a server that does", "a model that does"],
)
def test_what_is_billed_beside_the_tokens_leaves_the_cost_unknown(
    tmp_path: Path, sandbox: Running, path: str, fields: dict[str, Any], stream: bool
) -> None:
    with served(tmp_path, sandbox) as (client, gateway):
        create: Any = client.chat.completions.create if path == "chat" else client.responses.create
        made = create(**{"model": "gpt-5", **fields}, stream=stream)
        if stream:
            list(made)
        (call,) = gateway.settled()

    (line,) = sandbox.openai_billing()["calls"]
    assert (call["ending"], call["cost_nanos"], call["at_frontier_nanos"]) == ("posted", None, None)
    assert call["output_tokens"] == line["tokens"]["output"]
    assert line["nanos"] > 0


def test_a_stored_prompt_without_such_tools_costs_its_tokens(tmp_path: Path, sandbox: Running) -> None:
    with served(tmp_path, sandbox) as (client, gateway):
        client.responses.create(model="gpt-5", prompt={"id": "pmpt_1"}, input="Hi")
        (call,) = gateway.settled()

    assert call["cost_nanos"] == sandbox.openai_billing()["total_nanos"]


@pytest.mark.parametrize(
    ("limits", "refused"),
    [('limit_usd = "1000"', True), ('limit_usd = "1000"\nkind = "warn"', False)],
    ids=["hard", "soft"],
)
@pytest.mark.parametrize(
    ("path", "fields", "word"),
    [
        ("responses", {"input": "Hi", "prompt": {"id": "pmpt_1"}, "max_output_tokens": 50}, "stored prompt"),
        (
            "chat",
            {
                "messages": [{"role": "user", "content": "Hi"}],
                "model": "gpt-4o-mini-search-preview",
                "max_tokens": 50,
            },
            "searches",
        ),
    ],
)
def test_a_hard_budget_refuses_what_it_cannot_count(
    tmp_path: Path,
    sandbox: Running,
    path: str,
    fields: dict[str, Any],
    word: str,
    limits: str,
    refused: bool,
) -> None:
    with served(tmp_path, sandbox, f'[[budgets]]\nscope = "all"\n{limits}\n') as (client, gateway):
        create: Any = client.chat.completions.create if path == "chat" else client.responses.create
        if refused:
            with pytest.raises(openai.BadRequestError, match=word) as caught:
                create(**{"model": "gpt-5", **fields})
            assert caught.value.code == "unpriced"
        else:
            create(**{"model": "gpt-5", **fields})
        assert len(gateway.settled()) == 1
        assert (sandbox.openai_billing()["calls"] == []) == refused


def test_a_cost_that_became_unknown_stays_set_aside(tmp_path: Path, sandbox: Running) -> None:
    budget = '[[budgets]]\nscope = "all"\nlimit_usd = "0.0025"\n'
    with served(tmp_path, sandbox, budget) as (client, gateway):
        client.responses.create(model="task/extraction", input="[[sandbox searches=1]]")
        with pytest.raises(openai.RateLimitError, match="set aside"):
            client.responses.create(model="task/extraction", input="Hi")
        calls = gateway.settled()

    assert [call["cost_nanos"] for call in calls] == [None, 0]
