"""Replies of the sandbox's OpenAI side as bytes, of whichever API they are."""

from collections.abc import Iterator
from typing import Any

import msgspec

from tierwise.sandbox.openai_chat import LATER, chat_completion, chat_frames, later_chunk
from tierwise.sandbox.openai_replies import Answer, Frame, error_body
from tierwise.sandbox.openai_responses import event_bytes, response, response_frames


def whole(answer: Answer, *, usage: bool = True, later: bool = False) -> bytes:
    """The JSON body of a reply; `later` adds a field of a later API."""
    made = response if answer.kind == "responses" else chat_completion
    added: dict[str, Any] = dict(LATER) if later else {}
    return msgspec.json.encode(made(answer, usage=usage) | added)


def frames(answer: Answer, *, usage: bool = True, later: bool = False) -> Iterator[Frame]:
    """The events of a stream; `later` puts a comment and a chunk, or an event, of a later API before them."""
    if answer.kind == "chat":
        if later:
            yield later_chunk(answer)
        yield from chat_frames(answer, usage=usage)
    else:
        if later:
            yield Frame(event_bytes({"type": "response.sandbox_later", **LATER}, 0), 0)
        yield from response_frames(answer, usage=usage, first=int(later))


def error_frame(answer: Answer, message: str) -> bytes:
    """An error in the middle of a stream."""
    if answer.kind == "chat":
        return b"data: " + error_body(500, message) + b"\n\n"
    return event_bytes({"type": "error", "code": "server_error", "message": message, "param": None}, 999)
