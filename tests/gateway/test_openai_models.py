"""The list of models with OpenAI's own SDK: the server's, and the policy's task types after them."""

import asyncio
import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import anthropic
import openai
import pytest

from support.gateways import RunningGateway, running_gateway
from support.policies import TWO_TIERS, with_openai
from tierwise.sandbox.server import Running, running

SERVERS: Final = {"gpt-5", "gpt-5-mini", "sandbox-large", "sandbox-small"}
VIRTUAL: Final = ["task/synthesis", "task/extraction"]
NARROW: Final = "twk_narrow"
CLIENTS: Final = f"""
[[clients]]
name = "narrow"
key_sha256 = "{sha256(NARROW.encode()).hexdigest()}"
task_types = ["extraction"]
"""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Running]:
    with running(seed=1) as provider:
        yield provider


@pytest.fixture(scope="module")
def gateway(sandbox: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    policy = with_openai(TWO_TIERS, f"{sandbox.base_url}/v1")
    with running_gateway(tmp_path_factory.mktemp("gateway"), sandbox.base_url, policy=policy) as gateway:
        yield gateway


def client_of(at: Running | RunningGateway, key: str = "sk-any") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{at.base_url}/v1", api_key=key, max_retries=0)


def ids(client: openai.OpenAI) -> list[str]:
    return [model.id for model in client.models.list()]


def test_the_sandbox_tells_openais_clients_its_models(sandbox: Running) -> None:
    with client_of(sandbox) as client:
        assert set(ids(client)) >= SERVERS
        assert client.models.retrieve("gpt-5").to_dict(mode="json")["object"] == "model"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt-none")


def test_task_types_come_after_the_servers_models(sandbox: Running, gateway: RunningGateway) -> None:
    with client_of(sandbox) as there, client_of(gateway) as here:
        assert ids(here) == [*ids(there), *VIRTUAL]


@pytest.mark.parametrize("name", ["task/extraction", "task-extraction"])
def test_a_task_type_is_a_model(gateway: RunningGateway, name: str) -> None:
    with client_of(gateway) as client:
        model = client.models.retrieve(name)

    assert (model.id, model.object, model.owned_by) == ("task/extraction", "model", "tierwise")


def test_a_model_of_the_servers_is_told_as_the_server_tells_it(
    sandbox: Running, gateway: RunningGateway
) -> None:
    with client_of(sandbox) as there, client_of(gateway) as here:
        assert here.models.retrieve("gpt-5") == there.models.retrieve("gpt-5")


@pytest.mark.parametrize("name", ["task/nothing", "gpt-none"])
def test_what_is_unknown_is_not_found(gateway: RunningGateway, name: str) -> None:
    with client_of(gateway) as client, pytest.raises(openai.NotFoundError):
        client.models.retrieve(name)


def test_coroutines_see_the_same_models(gateway: RunningGateway) -> None:
    async def look() -> tuple[list[str], str]:
        async with openai.AsyncOpenAI(base_url=f"{gateway.base_url}/v1", api_key="sk-any") as client:
            return [model.id async for model in client.models.list()], (
                await client.models.retrieve("task/extraction")
            ).id

    listed, one = asyncio.run(look())

    with client_of(gateway) as client:
        assert (listed, one) == (ids(client), "task/extraction")


@pytest.mark.parametrize("key", [{"api_key": "sk-ant-any"}, {"auth_token": "any"}])
def test_anthropics_clients_see_anthropics_models_on_the_same_path(
    gateway: RunningGateway, key: dict[str, Any]
) -> None:
    with anthropic.Anthropic(base_url=gateway.base_url, max_retries=0, **key) as client:
        listed = [model.id for model in client.models.list(limit=1000)]

    assert "claude-opus-5-5" in listed
    assert not set(listed) & SERVERS


@pytest.mark.parametrize(
    ("headers", "family"),
    [
        ({"authorization": "Bearer sk-any"}, "openai"),
        ({"authorization": "Bearer sk-any", "x-api-key": "any"}, "openai"),
        ({"authorization": "Bearer any", "anthropic-version": "2023-06-01"}, "anthropic"),
        ({"x-api-key": "any", "anthropic-version": "2023-06-01"}, "anthropic"),
        ({"x-api-key": "any"}, "anthropic"),
    ],
)
def test_a_version_or_a_lone_x_api_key_is_anthropics(
    gateway: RunningGateway, headers: dict[str, str], family: str
) -> None:
    told = gateway.http.send("GET", "/v1/models", None, headers)

    assert (b"gpt-5-mini" in told.body) == (family == "openai")
    assert told.status == (400 if headers.keys() == {"x-api-key"} else 200)  # there the version is missing


def test_a_client_sees_the_task_types_that_it_may_call(tmp_path: Path, sandbox: Running) -> None:
    policy = with_openai(TWO_TIERS + CLIENTS, f"{sandbox.base_url}/v1")
    keys: Any = {"key": "sk-ant", "openai_key": "sk-openai"}
    with (
        running_gateway(tmp_path, sandbox.base_url, policy=policy, **keys) as gateway,
        client_of(gateway, NARROW) as client,
        client_of(gateway, "twk_nobody") as stranger,
    ):
        assert [name for name in ids(client) if name.startswith("task/")] == ["task/extraction"]
        assert client.models.retrieve("task/extraction").id == "task/extraction"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("task/synthesis")
        with pytest.raises(openai.AuthenticationError):
            stranger.models.list()


def test_a_task_type_whose_tier_has_no_counterpart_is_left_out(tmp_path: Path, sandbox: Running) -> None:
    policy = with_openai(TWO_TIERS, f"{sandbox.base_url}/v1")
    policy = policy.replace('[openai.tiers.frontier]\nmodel = "gpt-5"\neffort = "medium"\n', "")
    with (
        running_gateway(tmp_path, sandbox.base_url, policy=policy) as gateway,
        client_of(gateway) as client,
    ):
        assert [name for name in ids(client) if name.startswith("task/")] == ["task/extraction"]


def test_a_refusal_of_the_servers_passes_as_it_is(tmp_path: Path, sandbox: Running) -> None:
    policy = with_openai(TWO_TIERS, f"{sandbox.base_url}/none")
    with running_gateway(tmp_path, sandbox.base_url, policy=policy) as gateway:
        answer = gateway.http.send("GET", "/v1/models", None, {"authorization": "Bearer sk-any"})

    assert answer.status == 404
    assert "task/" not in json.dumps(answer.json())


def test_a_server_that_cannot_be_reached_is_their_kind_of_error(tmp_path: Path, sandbox: Running) -> None:
    policy = with_openai(TWO_TIERS, "http://127.0.0.1:9/v1")
    with (
        running_gateway(tmp_path, sandbox.base_url, policy=policy) as gateway,
        client_of(gateway) as client,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        client.models.list()

    assert caught.value.code == "unreachable"
