"""The wire of OpenAI's list of models."""

import json

import pytest

from tierwise.wire.models import VirtualModel
from tierwise.wire.openai_models import openai_model, with_openai_models

ONE, TWO = (VirtualModel(id=f"task/{name}", display_name=name) for name in ("one", "two"))


def test_virtual_models_follow_the_servers_and_nothing_else_changes() -> None:
    made = with_openai_models(b'{"object":"list","data":[{"id":"m",  "later":1}],"later":2}', [ONE, TWO])
    read = json.loads(made)

    assert [each["id"] for each in read["data"]] == ["m", "task/one", "task/two"]
    assert (read["object"], read["later"]) == ("list", 2)
    assert b'{"id":"m",  "later":1}' in made


@pytest.mark.parametrize("listed", [b"{}", b"[", b'{"data":1}', b"\xff"])
def test_a_list_that_cannot_be_read_stays_as_it_is(listed: bytes) -> None:
    assert with_openai_models(listed, [ONE]) == listed


def test_without_virtual_models_a_list_stays_as_it_is() -> None:
    assert with_openai_models(b'{"data": []}', []) == b'{"data": []}'


def test_a_virtual_model_looks_like_the_servers() -> None:
    assert json.loads(openai_model(ONE)) == {
        "id": "task/one",
        "object": "model",
        "created": 0,
        "owned_by": "tierwise",
    }
