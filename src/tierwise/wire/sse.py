"""A stream's events, read as its bytes go past: feed chunks, ask for the facts.

The same bytes give the same facts however they are cut. Four events matter: `message_start` (model, input and
cache counts), `message_delta` (stop reason, cumulative counts), `message_stop` and `error`; the first
`content_block_start` tells a refusal before the first word from one after it. Their names are searched as bytes,
and only events that hold one are decoded: text deltas, most of a stream, are never parsed. A name inside a text
delta costs a decoding and changes nothing, because the event's own `type` decides.

`message_delta` lacks the split of cache writes and the speed: `message_start`'s stand.
https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from typing import Final

import msgspec

from tierwise.wire.replies import ReplyFacts, WireUsage, metered


class _Message(msgspec.Struct):
    model: str | None = None
    usage: WireUsage | None = None


class _Delta(msgspec.Struct):
    stop_reason: str | None = None


class _Error(msgspec.Struct):
    type: str = "api_error"


class _Event(msgspec.Struct):
    type: str = ""
    message: _Message | None = None
    delta: _Delta | None = None
    usage: WireUsage | None = None
    error: _Error | None = None


_decode = msgspec.json.Decoder(_Event).decode

_BLANK: Final = b"\n\n"
"""What ends an event."""

LONGEST_EVENT: Final = 4 * 2**20
"""An unfinished event longer than this is given up: it cannot be one of the four."""


class StreamFacts:
    """The facts of one stream."""

    __slots__ = (
        "_after_return",
        "_begun",
        "_counted",
        "_error",
        "_model",
        "_stop_reason",
        "_stopped",
        "_tail",
        "_usage",
    )

    def __init__(self) -> None:
        """Begin before the first byte."""
        self._tail = b""
        self._after_return = False
        self._model: str | None = None
        self._usage: WireUsage | None = None
        self._counted = False
        self._begun = False
        self._stop_reason: str | None = None
        self._stopped = False
        self._error: str | None = None

    @property
    def at_end(self) -> bool:
        """Whether `message_stop` or `error` has gone past: no usage comes after it."""
        return self._stopped or self._error is not None

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the stream; all of them go on to the caller."""
        passed = chunk
        if self._after_return or b"\r" in chunk:
            chunk = self._with_newlines(chunk)
        data = self._tail + chunk if self._tail else chunk
        blank = data.rfind(_BLANK)
        end = blank + len(_BLANK) if blank >= 0 else 0
        self._tail = data[end:] if len(data) - end <= LONGEST_EVENT else b""
        if end:
            self._read(data[:end])
        return passed

    def rest(self) -> bytes:
        """Return the bytes that were held back: none are."""
        return b""

    def facts(self) -> ReplyFacts:
        """Return what is known so far."""
        return ReplyFacts(
            finished=self._counted and self._stop_reason is not None,
            served_model=self._model,
            stop_reason=self._stop_reason,
            metered=metered(self._usage, self._model),
            empty_refusal=self._stop_reason == "refusal" and not self._begun,
            error=self._error,
        )

    def _with_newlines(self, chunk: bytes) -> bytes:
        """Write every line end as one newline; a pair may be cut in two."""
        if self._after_return and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            self._after_return = False
        if chunk:
            self._after_return = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _read(self, events: bytes) -> None:
        if not self._begun and b"content_block_start" in events:
            self._begun = True
        for name in (b"message_", b'"error"'):
            at = events.find(name)
            while at >= 0:
                start = events.rfind(_BLANK, 0, at)
                end = events.index(_BLANK, at)
                self._take(events[max(start, 0) : end])
                at = events.find(name, end)

    def _take(self, event: bytes) -> None:
        try:
            value = _decode(_data(event))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        match value.type:
            case "message_start" if value.message is not None:
                self._model = value.message.model
                self._usage = value.message.usage
            case "message_delta":
                self._merge(value)
            case "message_stop":
                self._stopped = True
            case "error":
                self._error = value.error.type if value.error else "api_error"
            case _:
                pass

    def _merge(self, event: _Event) -> None:
        """Counts are cumulative: later ones replace earlier ones, and what is left out stays."""
        if event.delta is not None and event.delta.stop_reason is not None:
            self._stop_reason = event.delta.stop_reason
        if event.usage is None:
            return
        self._counted = True
        if self._usage is None:
            self._usage = event.usage
            return
        for name in WireUsage.__struct_fields__:
            value = getattr(event.usage, name)
            if value is not None:
                setattr(self._usage, name, value)


def _data(event: bytes) -> bytes:
    lines = event.split(b"\n")
    return b"\n".join(line[5:].lstrip(b" ") for line in lines if line.startswith(b"data:"))
