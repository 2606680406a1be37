"""What the drivers read off a reply's headers."""

import pytest

from tierwise.engine.endings import header, readable, request_id, streams
from tierwise.upstream.port import Headers


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (b"text/event-stream", True),
        (b"text/event-stream; charset=utf-8", True),
        (b"Text/Event-Stream", True),
        (b"application/json", False),
        (b"", False),
    ],
)
def test_a_stream_says_so_in_its_content_type(kind: bytes, expected: bool) -> None:
    assert streams([(b"content-type", kind)]) is expected


def test_a_reply_without_a_content_type_is_no_stream() -> None:
    assert not streams([])


@pytest.mark.parametrize(
    ("headers", "expected"),
    [([], True), ([(b"content-encoding", b"identity")], True), ([(b"content-encoding", b"gzip")], False)],
)
def test_only_plain_bytes_can_be_read_on_their_way(headers: Headers, expected: bool) -> None:
    assert readable(headers) is expected


def test_the_first_value_of_a_header_counts() -> None:
    assert header([(b"a", b"1"), (b"b", b"2"), (b"b", b"3")], b"b") == b"2"


def test_a_request_id_of_any_bytes_is_text_of_bounded_length() -> None:
    assert request_id([(b"request-id", b"req_\xe9")]) == "req_é"
    assert request_id([(b"request-id", b"x" * 5000)]) == "x" * 200
    assert request_id([]) is None
