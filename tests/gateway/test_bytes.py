"""Every byte of a reply is the provider's: the same requests, straight to a sandbox, and by a gateway to its twin."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from http.client import HTTPConnection, IncompleteRead
from typing import Any

import pytest

from support.gateways import RunningGateway, running_gateway
from tierwise.sandbox.server import Running, running

SEED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Twins:
    """Two sandboxes that answer alike: one for a client, one behind a gateway."""

    direct: Running
    gateway: RunningGateway


@pytest.fixture(scope="module")
def born(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    with ExitStack() as stack:
        direct = stack.enter_context(running(seed=SEED))
        behind = stack.enter_context(running(seed=SEED))
        gateway = running_gateway(tmp_path_factory.mktemp("twins"), behind.base_url, retries=0)
        yield Twins(direct=direct, gateway=stack.enter_context(gateway))


@pytest.fixture
def twins(born: Twins) -> Twins:
    return replace(born, gateway=born.gateway.fresh())


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """A reply, as bytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool


def send(base_url: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Raw:
    connection = HTTPConnection(base_url.removeprefix("http://"), timeout=30)
    try:
        connection.request("POST", "/v1/messages", json.dumps(body).encode(), dict(headers))
        response = connection.getresponse()
        told = {name.lower(): value for name, value in response.getheaders()}
        try:
            return Raw(status=response.status, headers=told, body=response.read(), whole=True)
        except IncompleteRead as broken:
            return Raw(status=response.status, headers=told, body=broken.partial, whole=False)
    finally:
        connection.close()


def both(
    twins: Twins, asked: Mapping[str, Any], decided: Mapping[str, Any], headers: Mapping[str, str]
) -> Raw:
    """Send what was asked through the gateway and what it decides straight; the two replies must be one.

    A reply's id counts the requests of its sandbox: each request goes to both.
    """
    through = send(twins.gateway.base_url, {**BODY, **asked}, headers)
    direct = send(twins.direct.base_url, {**BODY, **decided}, headers)

    assert through.body == direct.body
    assert (through.status, through.whole) == (direct.status, direct.whole)
    assert _lasting(through) == _lasting(direct)
    return through


def _lasting(raw: Raw) -> dict[str, str]:
    """The headers but for those of the moment, the hop, and ours."""
    return {
        name: value
        for name, value in raw.headers.items()
        if not name.startswith("x-tierwise-")
        and not name.endswith("-reset")
        and name not in {"date", "connection", "transfer-encoding"}
    }


KEY = {"x-api-key": "any", "anthropic-version": "2026-10-21", "content-type": "application/json"}
LOOK = {
    "name": "look",
    "input_schema": {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]},
}
BODY: Mapping[str, Any] = {
    "max_tokens": 4096,
    "messages": [{"role": "user", "content": "Wer hat den Vertrag unterschrieben? 谁签了合同？ \U0001f4c4"}],
}

FAST = {"model": "claude-haiku-5-5", "max_tokens": 512, "thinking": {"type": "disabled"}}
FRONTIER = {"model": "claude-opus-5-5", "max_tokens": 4096, "output_config": {"effort": "medium"}}
OPUS = {"model": "claude-opus-5-5"}
ASKED: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "fast": ({"model": "task/extraction"}, FAST),
    "frontier": ({"model": "task/synthesis"}, FRONTIER),
    "dashed": ({"model": "task-extraction"}, FAST),
    "undeclared": (OPUS, OPUS),
    "tools": (
        {"model": "task/extraction", "tools": [LOOK], "tool_choice": {"type": "any"}},
        {**FAST, "tools": [LOOK], "tool_choice": {"type": "any"}},
    ),
    "unknown model": ({"model": "claude-nothing"}, {"model": "claude-nothing"}),
    "refused by the provider": ({**OPUS, "max_tokens": -1}, {**OPUS, "max_tokens": -1}),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ASKED)
def test_a_reply_comes_back_byte_for_byte(twins: Twins, name: str, stream: bool) -> None:
    asked, decided = ASKED[name]
    raw = both(twins, {**asked, "stream": stream}, {**decided, "stream": stream}, KEY)

    assert raw.body
    (recorded,) = twins.gateway.calls()
    assert (recorded["ending"] == "posted") == (raw.status == 200)
    assert recorded["request_id"] == raw.headers["request-id"]


FAULTS = {
    "unknown-fields": "posted",
    "no-usage": "failed",
    "refusal": "posted",
    "refusal-midstream": "posted",
    "error-after:3": "failed",
    "cut-after:3": "failed",
    "half-event:3": "failed",
    "slow:3": "posted",
    "status:529": "failed",
    "status:429,retry-after=3,should-retry=true": "failed",
    "status:400,message=prompt is too long": "failed",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_stream_comes_back_byte_for_byte_whatever_happens_to_it(twins: Twins, fault: str) -> None:
    raw = both(
        twins,
        {"model": "task/extraction", "stream": True},
        {**FAST, "stream": True},
        {**KEY, "x-sandbox-fault": fault},
    )

    assert raw.whole == (not fault.startswith(("cut", "half")))
    (recorded,) = twins.gateway.calls()
    assert recorded["ending"] == FAULTS[fault]


def test_a_later_apis_fields_and_headers_come_back(twins: Twins) -> None:
    raw = both(twins, {"model": "task/extraction"}, FAST, {**KEY, "x-sandbox-fault": "unknown-fields"})

    assert raw.headers["anthropic-sandbox-later"] == "kept"
    assert json.loads(raw.body)["sandbox_later"] == {"kept": True}


@pytest.mark.parametrize("version", ["2023-06-01", "2026-10-21"])
@pytest.mark.parametrize("credential", [{"x-api-key": "any"}, {"authorization": "Bearer any"}])
def test_both_api_versions_and_both_ways_to_authenticate_pass(
    twins: Twins, version: str, credential: Mapping[str, str]
) -> None:
    headers = {"anthropic-version": version, "content-type": "application/json", **credential}
    raw = both(twins, {"model": "task/extraction"}, FAST, headers)

    assert raw.status == 200


def test_sampling_is_the_providers_to_refuse_by_api_version(twins: Twins) -> None:
    asked = {"model": "claude-opus-4-6", "temperature": 0.3}
    old = both(twins, asked, asked, {**KEY, "anthropic-version": "2023-06-01"})
    new = both(twins, asked, asked, KEY)

    assert (old.status, new.status) == (200, 400)


def test_a_conversation_with_a_cache_is_read_and_written_alike(twins: Twins) -> None:
    cached = {
        "role": "user",
        "content": [
            {"type": "text", "text": "A long contract. " * 900, "cache_control": {"type": "ephemeral"}}
        ],
    }
    usages: list[Any] = []
    for _ in range(2):
        raw = both(
            twins, {"model": "task/extraction", "messages": [cached]}, {**FAST, "messages": [cached]}, KEY
        )
        usages.append(json.loads(raw.body)["usage"])

    assert usages[0]["cache_creation_input_tokens"] == usages[1]["cache_read_input_tokens"] > 1000
    written, read = twins.gateway.calls()
    assert written["cache_write_5m_tokens"] == read["cache_read_tokens"] > 1000
