"""Pages of the list of batches."""

import json

import pytest

from tierwise.wire.batch_lists import page_of, read_page

RAW = b"""{"data": [{"id": "b3", "n": 3}, {"id": "b2", "n": 2}, {"id": "b1", "n": 1}], "has_more": true,
"first_id": "b3", "last_id": "b1", "later": {"x": 1}}"""


def test_a_page_begins_and_ends_with_what_is_left_in_it() -> None:
    page = read_page(RAW)
    assert page is not None

    left = json.loads(page_of(page, {"b2", "b1", "b9"}))

    assert left == {
        "data": [{"id": "b2", "n": 2}, {"id": "b1", "n": 1}],
        "has_more": True,
        "first_id": "b2",
        "last_id": "b1",
        "later": {"x": 1},
    }


def test_a_page_in_which_nothing_is_left_names_no_batch() -> None:
    page = read_page(RAW)
    assert page is not None

    left = json.loads(page_of(page, ()))

    assert (left["data"], left["first_id"], left["last_id"]) == ([], None, None)


@pytest.mark.parametrize("more", [b"false", b"null"])
def test_the_last_page_says_so(more: bytes) -> None:
    page = read_page(RAW.replace(b"true", more))

    assert page is not None
    assert not page.has_more


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data": [{}]}', b'{"data": 1}', b"[" * 9_999])
def test_what_is_no_page_cannot_be_read(body: bytes) -> None:
    assert read_page(body) is None
