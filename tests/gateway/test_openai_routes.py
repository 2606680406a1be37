"""What OpenAI's clients meet at the gateway: its paths, its errors in their shape, and where keys go."""

import asyncio
import json
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import openai
import pytest
from typer.testing import CliRunner

from support.gateways import RunningGateway, running_gateway
from support.policies import OPENAI_PRICES, TWO_TIERS, with_openai
from tierwise.cli import app
from tierwise.sandbox.server import Answer, Running, running

CLIENT_KEY: Final = "twk_client-0123456789abcdefghijklmnopqrstuvwxyz"
CLIENTS: Final = f"""
[[clients]]
name = "ci"
key_sha256 = "{sha256(CLIENT_KEY.encode()).hexdigest()}"

[[clients]]
name = "narrow"
key_sha256 = "{sha256(b"twk_narrow").hexdigest()}"
task_types = ["extraction"]
undeclared = false
"""
CHAT: Final[dict[str, Any]] = {"model": "task/extraction", "messages": [{"role": "user", "content": "Hi"}]}
BEARER: Final = {"authorization": "Bearer sk-openai"}


@pytest.fixture(scope="module")
def sandbox() -> Generator[Running]:
    with running(seed=1) as provider:
        yield provider


@contextmanager
def gateway_of(
    folder: Path, sandbox: Running, policy: str = TWO_TIERS, *, more: str = "", **options: Any
) -> Generator[RunningGateway]:
    sandbox.reset()
    text = with_openai(policy, f"{sandbox.base_url}/v1", more)
    with running_gateway(folder, sandbox.base_url, policy=text, **options) as gateway:
        yield gateway


def post(
    at: RunningGateway, body: object, path: str = "/v1/chat/completions", headers: dict[str, str] = BEARER
) -> Answer:
    return at.http.send("POST", path, json.dumps(body).encode(), headers)


def is_ours(answer: Answer, status: int, code: str) -> str:
    """Check that an answer is an error of ours, as OpenAI writes one; return its sentence."""
    error = answer.json()["error"]
    assert (answer.status, answer.headers["x-tierwise-error"], error["code"]) == (status, code, code)
    assert error.keys() == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"]
    return error["message"]


def reserved(gateway: RunningGateway) -> list[int]:
    """What was set aside for each call, in nanodollars."""
    gateway.settled()
    with closing(sqlite3.connect(gateway.ledger_path)) as ledger:
        found = ledger.execute("SELECT reserved_nanos FROM entries WHERE kind = 'set-aside' ORDER BY seq")
        return [amount for (amount,) in found]


BUDGET: Final = '[[budgets]]\nscope = "all"\nlimit_usd = "0.000001"\n'


def test_a_budget_that_is_short_is_one_clean_error_after_one_request(
    tmp_path: Path, sandbox: Running
) -> None:
    with gateway_of(tmp_path, sandbox, TWO_TIERS + BUDGET) as gateway:
        client = openai.OpenAI(base_url=f"{gateway.base_url}/v1", api_key="sk-openai")
        with client, pytest.raises(openai.RateLimitError, match="budget") as caught:
            client.chat.completions.create(**CHAT)
        calls = gateway.settled()

    assert (caught.value.code, caught.value.type) == ("budget", "billing_error")
    assert caught.value.request_id == calls[0]["call_id"]
    assert not [name for name in caught.value.response.headers if name.startswith("anthropic")]
    assert [(call["error"], call["cost_nanos"]) for call in calls] == [("budget", 0)]
    assert sandbox.openai_billing()["calls"] == []


def test_a_budget_shrinks_the_cap_of_a_call(tmp_path: Path, sandbox: Running) -> None:
    policy = f'{TWO_TIERS}min_tokens = 1\n[[budgets]]\nscope = "all"\nlimit_usd = "0.0006"\n'
    with gateway_of(tmp_path, sandbox, policy) as gateway:
        assert post(gateway, CHAT).status == 200
        (call,) = gateway.settled()

    (line,) = sandbox.openai_billing()["calls"]
    assert 0 < line["sent"]["max_completion_tokens"] < 512
    assert call["max_tokens_sent"] == line["sent"]["max_completion_tokens"]


def test_several_replies_are_reserved_each(tmp_path: Path, sandbox: Running) -> None:
    policy = f'{TWO_TIERS}[[budgets]]\nscope = "all"\nlimit_usd = "1"\n'
    with gateway_of(tmp_path, sandbox, policy) as gateway:
        for choices in (1, 3):
            assert post(gateway, {**CHAT, "n": choices}).status == 200
        one, three = reserved(gateway)

    assert three - one == pytest.approx(2 * 512 * 2000, abs=10_000)  # 2 dollars a million tokens


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {**CHAT, "model": "gpt-5"}),
        ("/v1/responses", {"model": "gpt-5", "input": "Hi"}),
    ],
)
def test_under_a_hard_budget_a_call_that_nothing_caps_is_refused(
    tmp_path: Path, sandbox: Running, path: str, body: object
) -> None:
    policy = f'{TWO_TIERS}[[budgets]]\nscope = "all"\nlimit_usd = "1000"\n'
    with gateway_of(tmp_path, sandbox, policy) as gateway:
        assert "how long the reply" in is_ours(post(gateway, body, path), 400, "unpriced")


def test_a_tier_caps_calls_that_bring_no_cap(tmp_path: Path, sandbox: Running) -> None:
    sandbox.reset()
    policy = TWO_TIERS.replace("max_tokens = 512\n", "")
    text = with_openai(policy, f"{sandbox.base_url}/v1", 'cap_field = "max_tokens"') + "max_tokens = 77\n"
    fast = "[openai.tiers.fast]\nmodel = "
    text = text.replace(f'{fast}"gpt-5-mini"', f'{fast}"sandbox-small"')
    with running_gateway(tmp_path, sandbox.base_url, policy=text) as gateway:
        assert post(gateway, CHAT).status == 200

    (line,) = sandbox.openai_billing()["calls"]
    assert line["sent"] == {"model": "sandbox-small", "max_tokens": 77}


def test_a_prompt_that_the_provider_holds_is_reserved_at_the_largest_window(
    tmp_path: Path, sandbox: Running
) -> None:
    policy = f'{TWO_TIERS}[[budgets]]\nscope = "all"\nlimit_usd = "1"\n'
    body = {"model": "task/extraction", "input": "Hi"}
    with gateway_of(tmp_path, sandbox, policy) as gateway:
        for held in ({}, {"previous_response_id": "resp_1"}):
            assert post(gateway, {**body, **held}, "/v1/responses").status == 200
        alone, continued = reserved(gateway)

    assert alone < 2_000_000
    assert continued > 1_000_000 * 250  # a million tokens at a quarter of a dollar a million


def test_a_tier_without_a_counterpart_says_what_to_add_and_that_nothing_is_translated(
    tmp_path: Path, sandbox: Running
) -> None:
    said = "[openai.tiers.frontier]"
    policy = f'{TWO_TIERS}{OPENAI_PRICES}[openai]\nbase_url = "{sandbox.base_url}/v1"\n'
    policy += '[openai.tiers.fast]\nmodel = "gpt-5-mini"\n'
    with running_gateway(tmp_path, sandbox.base_url, policy=policy) as gateway:
        sentence = is_ours(post(gateway, {**CHAT, "model": "task/synthesis"}), 400, "not-supported")

    assert said in sentence
    assert "does not translate" in sentence


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/embeddings"])
def test_a_policy_without_openai_serves_none_of_its_paths(
    tmp_path: Path, sandbox: Running, path: str
) -> None:
    with running_gateway(tmp_path, sandbox.base_url) as gateway:
        sentence = is_ours(post(gateway, CHAT, path), 400, "not-supported")

    assert "[openai]" in sentence
    assert "does not translate" in sentence


@pytest.mark.parametrize(
    ("path", "body", "word"),
    [
        ("/v1/responses", {"model": "gpt-5", "input": "Hi", "background": True}, "background"),
        ("/v1/responses", {"model": "gpt-5", "input": "Hi", "tools": [{"type": "web_search"}]}, "web_search"),
        ("/v1/chat/completions", {**CHAT, "web_search_options": {}}, "web_search_options"),
        ("/v1/chat/completions", {**CHAT, "modalities": ["text", "audio"]}, "audio"),
        ("/v1/embeddings", {"model": "text-embedding-3-small", "input": "Hi"}, "/v1/embeddings"),
        ("/v1/responses/compact", {"model": "gpt-5"}, "/v1/responses/compact"),
        ("/v1/files", {}, "/v1/files"),
    ],
)
def test_what_the_ledger_would_not_see_is_refused(
    tmp_path: Path, sandbox: Running, path: str, body: object, word: str
) -> None:
    with gateway_of(tmp_path, sandbox) as gateway:
        assert word in is_ours(post(gateway, body, path), 400, "not-supported")
        assert gateway.calls() == []


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"messages": []},
        {**CHAT, "messages": "Hi"},
        {**CHAT, "max_tokens": "many"},
        {**CHAT, "max_completion_tokens": -1},
        {**CHAT, "n": 1.5},
    ],
)
def test_a_body_that_cannot_be_read_is_refused_in_their_shape(
    tmp_path: Path, sandbox: Running, body: object
) -> None:
    with gateway_of(tmp_path, sandbox) as gateway:
        is_ours(post(gateway, body), 400, "malformed")


def test_a_strict_policy_names_the_types_that_it_knows(tmp_path: Path, sandbox: Running) -> None:
    with gateway_of(tmp_path, sandbox, f"strict = true\n{TWO_TIERS}") as gateway:
        sentence = is_ours(post(gateway, {**CHAT, "model": "task/extracton"}), 400, "unknown-task-type")

    assert "'extraction'" in sentence


def test_an_observed_call_goes_as_it_was_asked_and_is_priced(tmp_path: Path, sandbox: Running) -> None:
    headers = {**BEARER, "x-tierwise-task-type": "extraction"}
    with gateway_of(tmp_path, sandbox, f'mode = "observe"\n{TWO_TIERS}') as gateway:
        answer = post(gateway, {**CHAT, "model": "gpt-5", "stream": True}, headers=headers)
        (call,) = gateway.settled()

    (line,) = sandbox.openai_billing()["calls"]
    assert answer.headers["x-tierwise-observed-model"] == "gpt-5-mini"
    assert (line["model"], "max_completion_tokens" in line["sent"]) == ("gpt-5-2025-08-07", False)
    assert (call["acts"], call["cost_nanos"]) == (False, line["nanos"])
    assert b'"usage":{' not in answer.body
    assert answer.body.endswith(b"data: [DONE]\n\n")


def test_a_server_that_cannot_be_reached_is_their_kind_of_error(tmp_path: Path, sandbox: Running) -> None:
    policy = with_openai(TWO_TIERS, "http://127.0.0.1:9/v1", "retries = 0")
    with running_gateway(tmp_path, sandbox.base_url, policy=policy) as gateway:
        is_ours(post(gateway, CHAT), 502, "unreachable")
        assert [call["cost_nanos"] for call in gateway.settled()] == [0]


@pytest.mark.parametrize("stream", [False, True])
def test_a_retry_goes_to_the_next_address_on_the_same_tier(
    tmp_path: Path, sandbox: Running, stream: bool
) -> None:
    sandbox.reset()
    more = f'retries = 1\nfallback_urls = ["{sandbox.base_url}/v1"]'
    policy = with_openai(TWO_TIERS, "http://127.0.0.1:9/v1", more)
    with running_gateway(tmp_path, sandbox.base_url, policy=policy) as gateway:
        assert post(gateway, {**CHAT, "stream": stream}).status == 200
        calls = gateway.settled()

    told = [(call["attempt"], call["tier"], call["error"]) for call in calls]
    assert told == [(1, "fast", "unreachable"), (2, "fast", None)]
    assert calls[1]["cost_nanos"] == sandbox.openai_billing()["total_nanos"] > 0


def test_a_longer_reply_is_fetched_where_the_contract_says_so(tmp_path: Path, sandbox: Running) -> None:
    policy = f'{TWO_TIERS}on_truncation = "raise-cap"\n'.replace("max_tokens = 512", "max_tokens = 20")
    with gateway_of(tmp_path, sandbox, policy) as gateway:
        answer = post(gateway, CHAT)
        calls = gateway.settled()

    assert answer.json()["choices"][0]["finish_reason"] == "stop"
    assert [(call["attempt"], call["stop_reason"]) for call in calls] == [(1, "max_tokens"), (2, "end_turn")]
    assert [call["cost_nanos"] for call in calls] == [
        line["nanos"] for line in sandbox.openai_billing()["calls"]
    ]


class Ears:
    """A server that remembers what it heard, and answers nothing useful."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 400 No\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()
        await writer.wait_closed()


ANTHROPIC: Final = "sk-ant-canary-of-anthropic"
OPENAI: Final = "sk-canary-of-openai"


def sent_by(
    policy: str, folder: Path, headers: dict[str, str], **keys: Any
) -> tuple[list[bytes], list[bytes]]:
    """Send requests of both families; return the heads that came to Anthropic's server and to OpenAI's."""

    async def talk() -> tuple[list[bytes], list[bytes]]:
        ears = Ears(), Ears()
        servers = [await asyncio.start_server(each, "127.0.0.1", 0) for each in ears]
        ports = [server.sockets[0].getsockname()[1] for server in servers]
        text = with_openai(policy, f"http://127.0.0.1:{ports[1]}/v1")
        with running_gateway(folder, f"http://127.0.0.1:{ports[0]}", policy=text, **keys) as gateway:
            versioned = {**headers, "anthropic-version": "2023-06-01"}
            message = {**CHAT, "max_tokens": 10}
            for body, path, more in (
                (CHAT, "/v1/chat/completions", headers),
                ({"model": "gpt-5", "input": "Hi"}, "/v1/responses", headers),
                (message, "/v1/messages", versioned),
            ):
                await asyncio.to_thread(post, gateway, body, path, more)
            for path, more in (
                ("/v1/models", headers),
                ("/v1/models", versioned),
                ("/v1/responses/r1", headers),
            ):
                await asyncio.to_thread(gateway.http.send, "GET", path, None, more)
        for server in servers:
            server.close()
        return ears[0].heard, ears[1].heard

    return asyncio.run(talk())


def test_the_gateways_keys_go_each_to_its_own_server_and_a_clients_key_nowhere(tmp_path: Path) -> None:
    headers = {"authorization": f"Bearer {CLIENT_KEY}"}
    there, here = sent_by(TWO_TIERS + CLIENTS, tmp_path, headers, key=ANTHROPIC, openai_key=OPENAI)

    assert (len(there), len(here)) == (2, 4)
    assert all(b"x-api-key: " + ANTHROPIC.encode() in head.lower() for head in there)
    assert all(b"Bearer " + OPENAI.encode() in head for head in here)
    assert not [head for head in there if OPENAI.encode() in head]
    assert not [head for head in here if ANTHROPIC.encode() in head]
    assert not [head for head in (*there, *here) if CLIENT_KEY.encode() in head]


def test_a_caller_that_brings_both_keys_has_each_sent_to_its_own_server(tmp_path: Path) -> None:
    headers = {"authorization": f"Bearer {OPENAI}", "x-api-key": ANTHROPIC}
    there, here = sent_by(TWO_TIERS, tmp_path, headers)

    assert (len(there), len(here)) == (2, 4)
    assert all(ANTHROPIC.encode() in head for head in there)
    assert not [head for head in there if OPENAI.encode() in head]
    assert all(OPENAI.encode() in head for head in here)
    assert not [head for head in here if ANTHROPIC.encode() in head]


def test_a_key_that_says_it_is_openais_never_goes_to_anthropics_server(tmp_path: Path) -> None:
    headers = {"authorization": f"Bearer sk-proj-{OPENAI}"}
    there, here = sent_by(TWO_TIERS, tmp_path, headers)

    assert (len(there), len(here)) == (2, 4)
    assert not [head for head in there if OPENAI.encode() in head]


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer  ", ""])
def test_a_key_of_anthropics_never_goes_to_the_other_server(tmp_path: Path, scheme: str) -> None:
    headers = {"authorization": f"{scheme}{ANTHROPIC}"}
    there, here = sent_by(TWO_TIERS, tmp_path, headers)

    assert (len(there), len(here)) == (2, 0)


@pytest.mark.parametrize(
    ("headers", "openai_key", "status", "code"),
    [
        ({}, None, 401, "no-credential"),
        ({"x-api-key": "sk-ant-1"}, None, 401, "no-credential"),
        ({"authorization": "Bearer sk-ant-1"}, None, 401, "no-credential"),
    ],
)
def test_a_call_without_a_key_for_the_server_is_refused(
    tmp_path: Path, sandbox: Running, headers: dict[str, str], openai_key: str | None, status: int, code: str
) -> None:
    with gateway_of(tmp_path, sandbox, openai_key=openai_key) as gateway:
        assert "OPENAI_API_KEY" in is_ours(post(gateway, CHAT, headers=headers), status, code)


def test_clients_have_the_rights_that_they_have_elsewhere(tmp_path: Path, sandbox: Running) -> None:
    narrow = {"authorization": "Bearer twk_narrow"}
    with gateway_of(tmp_path, sandbox, TWO_TIERS + CLIENTS, key="sk-ant", openai_key="sk-openai") as gateway:
        assert post(gateway, CHAT, headers=narrow).status == 200
        is_ours(post(gateway, {**CHAT, "model": "gpt-5"}, headers=narrow), 403, "not-allowed")
        is_ours(post(gateway, CHAT), 401, "unknown-key")
        deleted = gateway.http.send("DELETE", "/v1/responses/r1", None, narrow)
        is_ours(deleted, 403, "not-allowed")
        (call,) = gateway.settled()

    assert call["key_id"] == "narrow"


def test_clients_are_not_served_where_the_gateway_has_no_key_for_the_server(
    tmp_path: Path, sandbox: Running
) -> None:
    headers = {"authorization": f"Bearer {CLIENT_KEY}"}
    with gateway_of(tmp_path, sandbox, TWO_TIERS + CLIENTS, key="sk-ant") as gateway:
        assert "OPENAI_API_KEY" in is_ours(post(gateway, CHAT, headers=headers), 401, "no-credential")


def test_reports_show_these_calls_as_they_show_others(tmp_path: Path, sandbox: Running) -> None:
    with gateway_of(tmp_path, sandbox) as gateway:
        post(gateway, {**CHAT, "stream": True})
        (call,) = gateway.settled()
    ledger = ["--ledger", str(gateway.ledger_path)]
    explained = CliRunner().invoke(app, ["explain", "--call", call["call_id"], *ledger])
    report = CliRunner().invoke(app, ["report", *ledger, "--json"])

    assert (explained.exit_code, report.exit_code) == (0, 0)
    assert "gpt-5-mini" in explained.output
    assert "stream_options.include_usage" in explained.output
    assert "extraction" in report.output
