"""Streams of Chat Completions and Responses, read as their bytes go past: feed chunks, ask for the facts.

The same bytes give the same facts however they are cut. Only events that hold one of a few words are decoded: text
deltas, most of a stream, are not. A word within a text costs a decoding and changes nothing.

A Chat Completions stream tells its usage in a chunk of its own, without choices, and only where it is asked to. Where
the caller did not ask, the gateway did, and that chunk is taken out: only whole events go on then.
https://platform.openai.com/docs/api-reference/chat/streaming
"""

import re
from abc import ABC, abstractmethod
from typing import Final, Protocol

import msgspec

from tierwise.wire.openai_replies import (
    ChatUsage,
    Choice,
    Error,
    Response,
    chat_ending,
    chat_metered,
    response_facts,
)
from tierwise.wire.replies import ReplyFacts
from tierwise.wire.sse import LONGEST_EVENT


class StreamReader(Protocol):
    """Reads one stream."""

    @property
    def at_end(self) -> bool:
        """Whether no usage comes any more."""
        ...

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes; return what of them goes on to the caller."""
        ...

    def rest(self) -> bytes:
        """Return the bytes that were held back and have no end."""
        ...

    def facts(self) -> ReplyFacts:
        """Return what is known so far."""
        ...


class _Events(ABC):
    """Cuts a stream into events."""

    __slots__ = ("_hides", "_tail")

    def __init__(self, *, hides: bool = False) -> None:
        self._hides = hides
        self._tail = b""

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the stream; return what of them goes on to the caller."""
        data = self._tail + chunk if self._tail else chunk
        events: list[bytes] = []
        end = 0
        for blank in _BLANK.finditer(data):
            events.append(data[end : blank.end()])
            end = blank.end()
        self._tail = data[end:]
        shown = [event for event in events if not self._take(event)]
        if not self._hides:
            if len(self._tail) > LONGEST_EVENT:
                self._tail = b""
            return chunk
        if len(self._tail) > LONGEST_EVENT:
            shown.append(self.rest())
        return b"".join(shown)

    def rest(self) -> bytes:
        """Return the bytes that were held back and have no end."""
        rest, self._tail = (self._tail, b"") if self._hides else (b"", b"")
        return rest

    @abstractmethod
    def _take(self, event: bytes) -> bool:
        """Read an event; tell whether it is to be hidden, where anything is."""
        ...


_BLANK: Final = re.compile(rb"\r?\n\r?\n|\r\r")
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Chunk(msgspec.Struct):
    model: str | None = None
    service_tier: str | None = None
    choices: list[Choice] | None = None
    usage: ChatUsage | None = None
    error: Error | None = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode

_TELLING: Final = re.compile(rb'"usage"\s*:\s*\{|"finish_reason"\s*:\s*"|"error"|\[DONE\]')


class ChatStream(_Events):
    """The facts of one Chat Completions stream; `hides` takes the chunk of its usage out of it."""

    __slots__ = ("_done", "_error", "_model", "_reasons", "_service_tier", "_usage")

    def __init__(self, *, hides: bool = False) -> None:
        """Begin before the first byte."""
        super().__init__(hides=hides)
        self._model: str | None = None
        self._service_tier: str | None = None
        self._reasons: list[str | None] = []
        self._usage: ChatUsage | None = None
        self._done = False
        self._error: str | None = None

    @property
    def at_end(self) -> bool:
        """Whether `[DONE]` or an error has gone past: no usage comes after it."""
        return self._done or self._error is not None

    def facts(self) -> ReplyFacts:
        """Return what is known so far: the usage comes whole, at the end, or not at all."""
        return ReplyFacts(
            finished=self._usage is not None or self._done,
            served_model=self._model,
            stop_reason=chat_ending(self._reasons),
            metered=chat_metered(self._usage, self._model, self._service_tier),
            error=self._error,
        )

    def _take(self, event: bytes) -> bool:
        if self._model is not None and _TELLING.search(event) is None:
            return False
        data = _data(event)
        if data == b"[DONE]":
            self._done = True
            return False
        try:
            chunk = _decode_chunk(data)
        except _UNREADABLE:
            return False
        if chunk.error is not None:
            self._error = chunk.error.name
        self._model = chunk.model or self._model
        self._service_tier = chunk.service_tier or self._service_tier
        self._reasons.extend(choice.finish_reason for choice in chunk.choices or ())
        self._usage = chunk.usage or self._usage
        return chunk.usage is not None and not chunk.choices


class _Event(msgspec.Struct):
    type: str = ""
    response: Response | None = None
    code: str | None = None


_decode_event = msgspec.json.Decoder(_Event).decode

_NAMING: Final = re.compile(rb'"(?:response\.(?:created|completed|incomplete|failed)|error)"')
_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})


class ResponseStream(_Events):
    """The facts of one Responses stream."""

    __slots__ = ("_ended", "_error", "_response")

    def __init__(self) -> None:
        """Begin before the first byte."""
        super().__init__()
        self._response: Response | None = None
        self._ended = False
        self._error: str | None = None

    @property
    def at_end(self) -> bool:
        """Whether the response's last event, or an error, has gone past."""
        return self._ended or self._error is not None

    def facts(self) -> ReplyFacts:
        """Return what is known so far: the usage comes with the last event."""
        if self._ended and self._response is not None:
            return response_facts(self._response)
        model = self._response.model if self._response else None
        return ReplyFacts(finished=False, served_model=model, error=self._error)

    def _take(self, event: bytes) -> bool:
        if _NAMING.search(event) is None:
            return False
        try:
            value = _decode_event(_data(event))
        except _UNREADABLE:
            return False
        if value.type == "error":
            self._error = value.code or "api_error"
        elif value.response is not None:
            self._response = value.response
            self._ended = self._ended or value.type in _ENDS
        return False


def _data(event: bytes) -> bytes:
    lines = event.splitlines()
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")).strip()
