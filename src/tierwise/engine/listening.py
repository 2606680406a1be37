"""Listening: callers that keep the bytes of a reply, the caller's own on its way to it, or the audit's for itself."""

from typing import Final

from tierwise.core.effects import Answer
from tierwise.engine.endings import streams
from tierwise.engine.relay import Caller
from tierwise.upstream.port import Headers
from tierwise.wire.answers import Content, read_content

LONGEST_REPLY: Final = 4 * 2**20
"""A longer reply is not kept: it is not compared."""


class Kept:
    """A reply's bytes."""

    def __init__(self) -> None:
        """Begin empty."""
        self.size = 0
        """Bytes that came."""
        self._status: int | None = None
        self._ended = False
        self._stream = False
        self._chunks: list[bytes] = []

    @property
    def whole(self) -> bool:
        """Whether all of a reply is here, from its status to its end."""
        return self._ended and self._status == OK and self.size <= LONGEST_REPLY

    def begin(self, status: int, headers: Headers) -> None:
        """Take the status and the form."""
        self._status, self._stream = status, streams(headers)

    def take(self, chunk: bytes, *, last: bool = False) -> None:
        """Take the next bytes; of a reply that is too long none stay."""
        self.size += len(chunk)
        self._ended = last
        if self.size <= LONGEST_REPLY:
            self._chunks.append(chunk)
        else:
            self._chunks.clear()

    def content(self) -> Content | None:
        """What the reply says; None where it is not whole, or no reply."""
        if not self.whole:
            return None
        return read_content(b"".join(self._chunks), stream=self._stream)


OK: Final = 200


class ListeningCaller:
    """Hands a reply on to a caller, and keeps its bytes."""

    def __init__(self, caller: Caller, kept: Kept) -> None:
        """Hand on to `caller`, keep in `kept`."""
        self._caller = caller
        self._kept = kept

    @property
    def gone(self) -> bool:
        """Whether the caller closed its connection."""
        return self._caller.gone

    def begin(self, status: int, headers: Headers) -> None:
        """Hand on the status and the headers."""
        self._kept.begin(status, headers)
        self._caller.begin(status, headers)

    async def send(self, chunk: bytes) -> None:
        """Hand on bytes that are not the last."""
        await self._caller.send(chunk)
        self._kept.take(chunk)

    async def finish(self, chunk: bytes) -> None:
        """Hand on the last bytes."""
        await self._caller.finish(chunk)
        self._kept.take(chunk, last=True)

    async def break_off(self) -> None:
        """Hand on that there will be no more."""
        await self._caller.break_off()

    async def answer(self, answer: Answer) -> None:
        """Hand on an error of ours."""
        await self._caller.answer(answer)


class SilentCaller:
    """The audit as a caller: it keeps the reply, and does nothing with it."""

    gone = False

    def __init__(self, kept: Kept) -> None:
        """Keep in `kept`."""
        self._kept = kept

    def begin(self, status: int, headers: Headers) -> None:
        """Take the status and the headers."""
        self._kept.begin(status, headers)

    async def send(self, chunk: bytes) -> None:
        """Take bytes that are not the last."""
        self._kept.take(chunk)

    async def finish(self, chunk: bytes) -> None:
        """Take the last bytes."""
        self._kept.take(chunk, last=True)

    async def break_off(self) -> None:
        """There will be no more."""

    async def answer(self, answer: Answer) -> None:
        """There is no reply: the entry of the call's end says why."""
