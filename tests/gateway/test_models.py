"""The list of models, with the real SDK: the provider's, and the policy's task types after them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest

from support.gateways import running_gateway
from support.policies import TWO_TIERS
from tierwise.sandbox.server import running

VIRTUAL = ["task/synthesis", "task/extraction"]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Any]:
    policy = TWO_TIERS + 'description = "Fields of a document."\n'
    with (
        running() as sandbox,
        running_gateway(tmp_path, sandbox.base_url, policy=policy) as gateway,
        anthropic.Anthropic(base_url=gateway.base_url, api_key="any", max_retries=0) as client,
    ):
        yield client


@pytest.mark.parametrize("limit", [3, 1000])
def test_task_types_come_after_the_providers_models_however_long_a_page_is(client: Any, limit: int) -> None:
    ids = [model.id for model in client.models.list(limit=limit)]

    assert ids[-2:] == VIRTUAL
    assert len(ids) == len(set(ids)) > 10


def test_what_follows_a_task_type_is_asked_of_the_gateway(client: Any) -> None:
    assert [model.id for model in client.models.list(after_id=VIRTUAL[0])] == VIRTUAL[1:]
    assert list(client.models.list(after_id=VIRTUAL[1])) == []


def test_a_page_backwards_and_retired_models_are_the_providers_alone(client: Any) -> None:
    backwards = client.models.list(before_id="claude-opus-5-5").data
    retired = client.models.list(extra_query={"lifecycle[]": "retired"}).data

    assert not {model.id for model in (*backwards, *retired)} & set(VIRTUAL)


@pytest.mark.parametrize("name", ["task/extraction", "task-extraction"])
def test_a_task_type_tells_what_it_is_for(client: Any, name: str) -> None:
    model = client.models.retrieve(name)

    assert (model.id, model.display_name) == ("task/extraction", "extraction: Fields of a document.")


def test_an_unknown_task_type_is_not_found(client: Any) -> None:
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("task/nothing")
