"""The wire of Message Batches."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierwise.errors import MalformedRequest
from tierwise.wire.batches import (
    Lines,
    at_this_address,
    batch_of,
    created_id,
    has_ended,
    message_of,
    read_batch,
    read_result,
    rewritten,
)

RAW = b'{ "requests": [ {"custom_id":"a", "params": {"x":1}, "later": 2}, {"custom_id":"b","params":{}} ], "more":[1] }'


def test_a_batch_is_read_item_by_item_without_decoding_their_params() -> None:
    items = read_batch(RAW).items

    assert [(item.custom_id, item.params) for item in items] == [("a", b'{"x":1}'), ("b", b"{}")]


def test_a_batch_without_a_change_is_the_bytes_that_came() -> None:
    assert rewritten(read_batch(RAW), [b'{"x":1}', b"{}"]) == RAW


def test_only_the_items_that_change_are_written_anew() -> None:
    raw = rewritten(read_batch(RAW), [b'{"x": 2}', b"{}"])

    assert json.loads(raw)["requests"][0] == {"custom_id": "a", "params": {"x": 2}, "later": 2}
    assert b'{"custom_id":"b","params":{}}' in raw
    assert json.loads(raw)["more"] == [1]


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"[]", "The body is not a JSON object"),
        (b"{}", "requests: Field required"),
        (b'{"requests": 1}', "requests: Input should be a list"),
        (b'{"requests": [{"params": {}}]}', "requests.0"),
        (b'{"requests": [{"custom_id": "a"}]}', "requests.0"),
    ],
)
def test_a_batch_that_cannot_be_read_says_where(raw: bytes, why: str) -> None:
    with pytest.raises(MalformedRequest, match=why):
        read_batch(raw)


def test_the_id_of_a_batch_is_in_the_reply_to_its_making() -> None:
    assert created_id(b'{"id": "msgbatch_1", "type": "message_batch"}') == "msgbatch_1"
    assert created_id(b"{}") is None


def line(result: dict[str, Any]) -> bytes:
    return json.dumps({"custom_id": "a", "result": result}).encode()


def test_a_succeeded_item_is_metered_at_batch_rates_whatever_tier_its_usage_names() -> None:
    usage = {"input_tokens": 3, "output_tokens": 4, "service_tier": "standard"}
    message: dict[str, Any] = {
        "type": "message",
        "model": "claude-opus-5-5",
        "content": [],
        "stop_reason": "end_turn",
        "usage": usage,
    }
    result = read_result(line({"type": "succeeded", "message": message}))

    assert result is not None
    assert result.facts.metered is not None
    assert [each.batch for each in result.facts.metered.lines] == [True]
    assert (result.custom_id, result.kind, result.facts.finished) == ("a", "succeeded", True)


def test_a_succeeded_item_that_does_not_say_its_usage_is_not_metered() -> None:
    result = read_result(line({"type": "succeeded", "message": {"type": "message", "model": "m"}}))

    assert result is not None
    assert result.facts.metered is None


@pytest.mark.parametrize(
    ("result", "error"),
    [
        ({"type": "canceled"}, "canceled"),
        ({"type": "expired"}, "expired"),
        (
            {"type": "errored", "error": {"type": "error", "error": {"type": "overloaded_error"}}},
            "overloaded_error",
        ),
        ({"type": "errored", "error": {"type": "invalid_request_error"}}, "invalid_request_error"),
    ],
)
def test_an_item_that_did_not_succeed_tells_its_error(result: dict[str, Any], error: str) -> None:
    read = read_result(line(result))

    assert read is not None
    assert (read.kind, read.facts.error, read.facts.finished) == (result["type"], error, False)


@pytest.mark.parametrize("raw", [b"", b"{}", b'{"custom_id": "a"}', b"\xff"])
def test_a_line_that_cannot_be_read_is_none(raw: bytes) -> None:
    assert read_result(raw) is None


@given(
    st.lists(st.binary(max_size=9).map(lambda raw: raw.replace(b"\n", b"")), max_size=6), st.integers(1, 5)
)
def test_lines_are_the_same_wherever_chunks_are_cut(wanted: list[bytes], size: int) -> None:
    raw = b"\n".join(wanted)
    lines = Lines()
    got = [each for at in range(0, len(raw), size) for each in lines.feed(raw[at : at + size])]

    assert [*got, *lines.end()] == [each for each in wanted if each.strip()]


def test_results_are_fetched_where_the_batch_was_asked_for() -> None:
    body = b'{"id":"m","results_url": "https://api.anthropic.com/v1/messages/batches/m/results","x":"https://a/v1/"}'

    assert at_this_address(body) == (
        b'{"id":"m","results_url": "/v1/messages/batches/m/results","x":"https://a/v1/"}'
    )
    assert at_this_address(b'{"results_url":null}') == b'{"results_url":null}'


def test_a_batch_is_made_of_params_as_they_are() -> None:
    body = read_batch(batch_of({"a": b'{"model": "m"}', "b": b"{}"}))

    assert [(item.custom_id, item.params) for item in body.items] == [("a", b'{"model": "m"}'), ("b", b"{}")]


@pytest.mark.parametrize(
    ("raw", "ended"),
    [
        (b'{"processing_status": "ended"}', True),
        (b'{"processing_status": "in_progress"}', False),
        (b"no", False),
    ],
)
def test_a_batch_tells_whether_the_provider_is_through_with_it(raw: bytes, *, ended: bool) -> None:
    assert has_ended(raw) == ended


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"custom_id": "a", "result": {"type": "succeeded", "message": {"x": 1}}}', ("a", b'{"x": 1}')),
        (b'{"custom_id": "a", "result": {"type": "expired"}}', None),
        (b"no", None),
    ],
)
def test_only_a_succeeded_item_has_a_message(line: bytes, message: tuple[str, bytes] | None) -> None:
    assert message_of(line) == message
