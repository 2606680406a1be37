"""The wire of the list of models."""

import json

import pytest

from tierwise.wire.models import VirtualModel, virtual_model, virtual_page, with_virtual_models

ONE, TWO = (VirtualModel(id=f"task/{name}", display_name=name) for name in ("one", "two"))


def test_virtual_models_follow_the_last_page() -> None:
    page = b'{"data":[{"id":"m",  "later":1}],"has_more":false,"first_id":"m","last_id":"m","later":2}'
    made = with_virtual_models(page, [ONE, TWO])
    read = json.loads(made)

    assert [each["id"] for each in read["data"]] == ["m", "task/one", "task/two"]
    assert (read["first_id"], read["last_id"], read["later"]) == ("m", "task/two", 2)
    assert b'{"id":"m",  "later":1}' in made


def test_an_empty_last_page_begins_with_the_first_virtual_model() -> None:
    read = json.loads(with_virtual_models(b'{"data":[],"has_more":false}', [ONE, TWO]))

    assert (read["first_id"], read["last_id"]) == ("task/one", "task/two")


@pytest.mark.parametrize(
    "page", [b'{"data":[],"has_more":true}', b"{}", b"[", b'{"data":1,"has_more":false}']
)
def test_another_page_stays_as_it_is(page: bytes) -> None:
    assert with_virtual_models(page, [ONE]) == page


def test_without_virtual_models_a_page_stays_as_it_is() -> None:
    assert with_virtual_models(b'{"data":[],"has_more":false}', []) == b'{"data":[],"has_more":false}'


def test_a_page_of_virtual_models_alone_is_the_last() -> None:
    read = json.loads(virtual_page([ONE, TWO]))

    assert (read["has_more"], read["first_id"], read["last_id"]) == (False, "task/one", "task/two")
    assert json.loads(virtual_page([]))["data"] == []


def test_a_virtual_model_looks_like_the_providers() -> None:
    assert json.loads(virtual_model(ONE))["type"] == "model"
