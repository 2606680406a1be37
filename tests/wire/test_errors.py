import json

import pytest

from tierwise.wire.errors import WIRE_ERRORS, own_reply


@pytest.mark.parametrize("code", WIRE_ERRORS)
def test_an_error_is_the_same_in_the_shape_of_either_family(code: str) -> None:
    ours = own_reply(code, "No.", call_id="c1")
    theirs = own_reply(code, "No.", call_id="c1", family="openai")

    told = json.loads(ours.body)["error"]
    assert json.loads(theirs.body)["error"] == {
        "message": "No.",
        "type": told["type"],
        "param": None,
        "code": code,
    }
    assert theirs.status == ours.status
    assert [pair for pair in theirs.headers if pair[0] != b"x-request-id"] == [
        pair for pair in ours.headers if pair[0] != b"request-id"
    ]
    assert (b"x-request-id", b"c1") in theirs.headers
    assert (b"request-id", b"c1") in ours.headers
