import json
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierwise.wire import openai_streams, sse
from tierwise.wire.openai_streams import ChatStream, ResponseStream
from tierwise.wire.replies import ReplyFacts


def chunk(choices: list[Any], **fields: Any) -> bytes:
    return b"data: " + json.dumps({"model": "gpt-5", "choices": choices, **fields}).encode() + b"\n\n"


FIRST = chunk([{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
WORD = chunk([{"delta": {"content": 'Its "usage": {\n\n [DONE] "error"'}, "finish_reason": None}])
LAST = chunk([{"delta": {}, "finish_reason": "length"}])
USAGE = chunk([], usage={"prompt_tokens": 10, "completion_tokens": 2}, service_tier="flex")
DONE = b"data: [DONE]\n\n"
PLAIN = chunk([{"delta": {"content": "Acme"}, "finish_reason": None}])
CHAT = FIRST + WORD + PLAIN + LAST + USAGE + DONE


def fed(stream: ChatStream | ResponseStream, chunks: list[bytes]) -> bytes:
    return b"".join([*map(stream.feed, chunks), stream.rest()])


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = [0, *sorted(place % len(data) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(ends)]


def expected() -> ReplyFacts:
    stream = ChatStream()
    stream.feed(CHAT)
    return stream.facts()


@given(st.lists(st.integers(min_value=0), max_size=6), st.booleans(), st.sampled_from([b"\n", b"\r\n"]))
def test_the_facts_are_the_same_however_the_bytes_are_cut(places: list[int], hides: bool, end: bytes) -> None:
    data = CHAT.replace(b"\n", end)
    stream = ChatStream(hides=hides)
    passed = fed(stream, cut(data, places))

    assert stream.facts() == expected()
    assert stream.at_end
    assert passed == (data.replace(USAGE.replace(b"\n", end), b"") if hides else data)


def test_a_chat_stream_tells_model_usage_and_ending() -> None:
    facts = expected()

    assert (facts.finished, facts.served_model, facts.stop_reason) == (True, "gpt-5", "max_tokens")
    assert facts.metered is not None
    assert (facts.metered.total.input_tokens, facts.metered.lines[0].batch) == (10, True)


def test_usage_beside_choices_is_not_hidden() -> None:
    both = chunk([{"delta": {}, "finish_reason": "stop"}], usage={"prompt_tokens": 1, "completion_tokens": 1})
    stream = ChatStream(hides=True)

    assert fed(stream, [FIRST, both, DONE]) == FIRST + both + DONE
    assert stream.facts().metered is not None


def test_a_stream_that_breaks_before_its_usage_is_not_finished() -> None:
    stream = ChatStream(hides=True)

    assert fed(stream, [FIRST, WORD, LAST[:20]]) == FIRST + WORD + LAST[:20]
    assert (stream.facts().finished, stream.facts().metered, stream.at_end) == (False, None, False)


def test_an_error_ends_a_chat_stream() -> None:
    stream = ChatStream()
    stream.feed(FIRST + b'data: {"error": {"message": "No.", "code": "server_error"}}\n\n')

    assert (stream.at_end, stream.facts().error) == (True, "server_error")


@pytest.mark.parametrize("error", ["overloaded", 5, {"code": []}])
def test_an_error_of_any_shape_ends_a_chat_stream(error: Any) -> None:
    stream = ChatStream()
    stream.feed(FIRST + b"data: " + json.dumps({"error": error}).encode() + b"\n\n")

    assert (stream.at_end, stream.facts().error) == (True, "api_error")


class Counting:
    """A pattern that counts the bytes that it looks through."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self._pattern = pattern
        self.scanned = 0

    def finditer(self, data: bytearray, start: int) -> Iterator[re.Match[bytes]]:
        self.scanned += len(data) - start
        return self._pattern.finditer(data, start)


@pytest.mark.parametrize("hides", [False, True])
def test_a_long_event_in_small_pieces_is_looked_through_once(
    hides: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Counting(openai_streams._BLANK)  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(openai_streams, "_BLANK", counting)
    data = PLAIN.replace(b"Acme", b"x" * 100_000)
    stream = ChatStream(hides=hides)
    passed = fed(stream, [data[start : start + 10] for start in range(0, len(data), 10)])

    assert passed == data
    assert counting.scanned < 2 * len(data)  # three bytes of each piece's ten again


def test_what_is_no_json_is_passed_and_not_understood() -> None:
    stream = ChatStream(hides=True)
    odd = b": comment\n\ndata: {\n\n"

    assert stream.feed(odd) == odd
    assert stream.facts().served_model is None


@pytest.mark.parametrize("hides", [True, False])
def test_an_event_that_has_no_end_is_not_kept(hides: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tierwise.wire.openai_streams.LONGEST_EVENT", 10)
    stream = ChatStream(hides=hides)

    assert stream.feed(b"data: " + b"x" * 20) == b"data: " + b"x" * 20
    assert stream.rest() == b""


def event(kind: str, **fields: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), json.dumps({"type": kind, **fields}).encode())


CREATED = event("response.created", response={"model": "gpt-5", "status": "in_progress", "usage": None})
DELTA = event("response.output_text.delta", delta='a "response.completed" word')
COMPLETED = event(
    "response.completed",
    response={"model": "gpt-5", "status": "completed", "usage": {"input_tokens": 10, "output_tokens": 2}},
)


def test_a_response_stream_tells_model_usage_and_ending() -> None:
    stream = ResponseStream()

    assert fed(stream, [CREATED, DELTA, COMPLETED]) == CREATED + DELTA + COMPLETED
    facts = stream.facts()
    assert (facts.finished, facts.served_model, facts.stop_reason) == (True, "gpt-5", "end_turn")
    assert facts.metered is not None
    assert facts.metered.total.output_tokens == 2


def test_a_response_stream_without_its_last_event_is_not_finished() -> None:
    stream = ResponseStream()
    assert stream.facts().served_model is None
    stream.feed(CREATED + DELTA)

    assert (stream.at_end, stream.facts().finished, stream.facts().served_model) == (False, False, "gpt-5")


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (b'data: {"error": "overloaded"}\n\n', "api_error"),
        (event("error", error={"type": "server_error"}), "server_error"),
        (event("error", code=503), "503"),
        (event("error", code="server_error", message="No."), "server_error"),
        (event("error", message="No."), "api_error"),
        (
            event("response.failed", response={"status": "failed", "error": {"code": "rate_limit"}}),
            "rate_limit",
        ),
    ],
)
def test_an_error_ends_a_response_stream(event: bytes, error: str) -> None:
    stream = ResponseStream()
    stream.feed(CREATED + b'data: {"response.created"\n\n' + b'data: {"type": "x", "y": "error"}\n\n' + event)

    assert (stream.at_end, stream.facts().error) == (True, error)


def test_a_stream_of_messages_passes_as_it_is() -> None:
    stream = sse.StreamFacts()

    assert (stream.feed(b"data: {}\r\n\r\n"), stream.rest()) == (b"data: {}\r\n\r\n", b"")
