"""The dialects that callers speak: how each is read, so that one machine sees all of their calls through."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tierwise.core.call import Call, Family
from tierwise.core.estimate import Contents
from tierwise.wire import contents, openai_requests
from tierwise.wire.openai_replies import read_chat_reply, read_response_reply
from tierwise.wire.openai_requests import read_chat, read_response
from tierwise.wire.openai_streams import ChatStream, ResponseStream, StreamReader
from tierwise.wire.replies import ReplyFacts, read_reply
from tierwise.wire.requests import Body, read_request
from tierwise.wire.sse import StreamFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One way to make a call."""

    family: Family
    read: Callable[[bytes, Mapping[str, str]], tuple[Call, Body]]
    """Reads a body, with its headers. Raises MalformedRequest."""
    measure: Callable[[bytes, Call], Contents]
    """Measures a body."""
    reply: Callable[[bytes, int], ReplyFacts]
    """Reads a whole reply of a status."""
    stream: Callable[[Call], StreamReader]
    """Makes the reader of a streamed reply to a call."""


MESSAGES: Final = Dialect(
    family="anthropic",
    read=read_request,
    measure=contents.measure,
    reply=lambda body, status: read_reply(body, status=status),
    stream=lambda _: StreamFacts(),
)
CHAT: Final = Dialect(
    family="openai",
    read=read_chat,
    measure=openai_requests.measure,
    reply=lambda body, status: read_chat_reply(body, status=status),
    stream=lambda call: ChatStream(hides=not call.usage_told),
)
RESPONSES: Final = Dialect(
    family="openai",
    read=read_response,
    measure=openai_requests.measure,
    reply=lambda body, status: read_response_reply(body, status=status),
    stream=lambda _: ResponseStream(),
)
