"""Streams of Chat Completions and Responses, read as their bytes go past: feed chunks, ask for the facts.

The same bytes give the same facts however they are cut. Only events that hold one of a few words are decoded: text
deltas, most of a stream, are not. A word within a text costs a decoding and changes nothing.

A Chat Completions stream tells its usage in a chunk of its own, without choices, and only where it is asked to. Where
the caller did not ask, the gateway did, and that chunk is taken out: only whole events go on then.
https://platform.openai.com/docs/api-reference/chat/streaming
"""

import re
from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Final, Protocol

import msgspec
from msgspec import Raw

from tierwise.wire.fields import NULL, UNREADABLE
from tierwise.wire.openai_replies import (
    UNNAMED,
    ChatUsage,
    Choice,
    Response,
    chat_ending,
    chat_metered,
    error_name,
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
    """Cuts a stream into events, each byte looked at a fixed number of times, however small the pieces are."""

    __slots__ = ("_hides", "_scanned", "_tail")

    def __init__(self, *, hides: bool = False) -> None:
        self._hides = hides
        self._tail = bytearray()
        self._scanned = 0

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the stream; return what of them goes on to the caller."""
        shown = [event for event in self._events(chunk) if not self._take(event)]
        is_long = len(self._tail) > LONGEST_EVENT
        if self._hides:
            return b"".join([*shown, self.rest()] if is_long else shown)
        if is_long:
            self.rest()
        return chunk

    def rest(self) -> bytes:
        """Return the bytes that were held back and have no end."""
        rest = bytes(self._tail) if self._hides else b""
        self._tail, self._scanned = bytearray(), 0
        return rest

    def _events(self, chunk: bytes) -> list[bytes]:
        """Return the events that end with these bytes, each with its end."""
        tail = self._tail
        tail += chunk
        ends = [0, *(blank.end() for blank in _BLANK.finditer(tail, self._scanned))]
        events = [bytes(tail[start:end]) for start, end in pairwise(ends)]
        del tail[: ends[-1]]
        self._scanned = max(0, len(tail) - _LONGEST_BLANK + 1)
        return events

    @abstractmethod
    def _take(self, event: bytes) -> bool:
        """Read an event; tell whether it is to be hidden, where anything is."""
        ...


_BLANK: Final = re.compile(rb"\r?\n\r?\n|\r\r")
_LONGEST_BLANK: Final = 4


class _Chunk(msgspec.Struct):
    model: str | None = None
    service_tier: str | None = None
    choices: list[Choice] | None = None
    usage: ChatUsage | None = None
    error: Raw = NULL


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
        except UNREADABLE:
            return False
        self._error = error_name(chunk.error) or self._error
        self._model = chunk.model or self._model
        self._service_tier = chunk.service_tier or self._service_tier
        self._reasons.extend(choice.finish_reason for choice in chunk.choices or ())
        self._usage = chunk.usage or self._usage
        return chunk.usage is not None and not chunk.choices


class _Event(msgspec.Struct):
    type: str = ""
    response: Response | None = None
    code: str | int | None = None
    error: Raw = NULL


_decode_event = msgspec.json.Decoder(_Event).decode

_NAMING: Final = re.compile(rb'"(?:response\.(?:created|completed|incomplete|failed)|error)"')
_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})


class ResponseStream(_Events):
    """The facts of one Responses stream."""

    __slots__ = ("_ended", "_error", "_model")

    def __init__(self) -> None:
        """Begin before the first byte."""
        super().__init__()
        self._model: str | None = None
        self._ended: ReplyFacts | None = None
        self._error: str | None = None

    @property
    def at_end(self) -> bool:
        """Whether the response's last event, or an error, has gone past."""
        return self._ended is not None or self._error is not None

    def facts(self) -> ReplyFacts:
        """Return what is known so far: the usage comes with the last event."""
        if self._ended is not None:
            return self._ended
        return ReplyFacts(finished=False, served_model=self._model, error=self._error)

    def _take(self, event: bytes) -> bool:
        if _NAMING.search(event) is None:
            return False
        try:
            value = _decode_event(_data(event))
        except UNREADABLE:
            return False
        error = error_name(value.error)
        if value.type == "error" or error is not None:
            self._error = str(value.code or error or UNNAMED)
        elif value.response is not None:
            self._model = value.response.model
            if value.type in _ENDS:
                self._ended = response_facts(value.response)
        return False


def _data(event: bytes) -> bytes:
    lines = event.splitlines()
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")).strip()
