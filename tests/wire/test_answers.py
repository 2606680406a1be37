"""What a reply says, out of its bytes."""

import json
from typing import Any

import pytest

from support.transcripts import STREAM, event, message
from tierwise.wire.answers import Content, read_content


def test_a_reply_says_its_text_and_its_tool_uses_and_not_its_thinking() -> None:
    body = json.dumps(
        {
            "stop_reason": "tool_use",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "s"},
                {"type": "text", "text": "Let me "},
                {"type": "text", "text": "see."},
                {"type": "tool_use", "id": "t1", "name": "look_up", "input": {"key": "a"}},
            ],
        }
    ).encode()

    assert read_content(body, stream=False) == Content(
        text="Let me see.", tool_uses=(("look_up", {"key": "a"}),)
    )


def test_a_stream_says_what_the_same_reply_says_in_one_piece() -> None:
    assert read_content(b"".join(STREAM), stream=True) == read_content(message(), stream=False)


def test_a_streamed_tool_use_has_the_input_that_its_pieces_make() -> None:
    block: dict[str, Any] = {"type": "tool_use", "id": "t1", "name": "look_up", "input": {}}
    stream = (
        event("content_block_start", index=0, content_block=block),
        event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": '{"key"'}),
        event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": ': "a"}'}),
        event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 2}),
    )

    found = read_content(b"".join(stream), stream=True)

    assert found is not None
    assert found.tool_uses == (("look_up", {"key": "a"}),)


@pytest.mark.parametrize(
    ("body", "stream"),
    [(b"", False), (b"{", False), (b'{"type": "error"}', False), (b"", True), (b"data: {\n\n", True)],
)
def test_bytes_that_are_no_reply_say_nothing(body: bytes, stream: bool) -> None:
    assert read_content(body, stream=stream) is None


def test_a_stream_without_its_end_says_nothing() -> None:
    assert read_content(b"".join(STREAM[:3]), stream=True) is None


def test_a_streams_thinking_is_not_what_it_says() -> None:
    stream = (
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hm."}),
        event("content_block_delta", index=0, delta={"type": "citations_delta", "citation": {}}),
        event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2}),
    )

    assert read_content(b"".join(stream), stream=True) == Content(text="Hm.", tool_uses=())
