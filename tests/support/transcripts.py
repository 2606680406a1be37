"""What a provider does with one call, and upstreams in memory that play it, for coroutines and for threads."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from tierwise.errors import UpstreamError
from tierwise.upstream.port import Headers, Outgoing

JSON: Headers = ((b"content-type", b"application/json"), (b"request-id", b"req_1"))
EVENTS: Headers = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"request-id", b"req_1"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """One reply, or what comes in its place."""

    status: int = 200
    headers: Headers = JSON
    chunks: tuple[bytes, ...] = ()
    breaks: Exception | None = None
    """Raised after the chunks, in place of the body's end: an UpstreamError, unless something else is to fail."""
    no_reply: UpstreamError | None = None
    """Raised in place of a reply."""
    hangs: Literal["before the reply", "after the chunks"] | None = None
    """Where the provider falls silent for good: for coroutines only."""


def message(*, model: str = "claude-haiku-5-5", stop_reason: str = "end_turn", **usage: Any) -> bytes:
    """A finished JSON reply; unless told otherwise, of 1,000 tokens in and 200 out."""
    return json.dumps(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [{"type": "text", "text": "Résumé."}],
            "stop_reason": stop_reason,
            "usage": {"input_tokens": 1000, "output_tokens": 200} | usage,
        }
    ).encode()


def event(kind: str, **fields: Any) -> bytes:
    """One event of a stream."""
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), json.dumps({"type": kind, **fields}).encode())


START = event(
    "message_start",
    message={"model": "claude-haiku-5-5", "usage": {"input_tokens": 1000, "output_tokens": 1}},
)
BLOCK = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
WORD = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Résumé."})
USAGE = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 200})
STOP = event("message_stop")
OVERLOADED = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
STREAM = (START, BLOCK, WORD, USAGE, STOP)
"""A finished stream of 1,000 tokens in and 200 out."""


def error(kind: str, status: int) -> Transcript:
    """An error in place of a reply."""
    body = {"type": "error", "error": {"type": kind, "message": "No."}, "request_id": "req_1"}
    return Transcript(status=status, chunks=(json.dumps(body).encode(),))


Script = Callable[[Outgoing], Transcript]


class MemoryUpstream:
    """Plays transcripts to coroutines, and remembers what it was asked."""

    def __init__(self, script: Transcript | Script, notes: list[str] | None = None) -> None:
        self._script = script
        self._notes = notes if notes is not None else []
        self.requests: list[Outgoing] = []
        self.replies: list[MemoryReply] = []
        self.hanging = asyncio.Event()

    async def send(self, request: Outgoing) -> "MemoryReply":
        self.requests.append(request)
        self._notes.append("sent")
        await asyncio.sleep(0)  # a provider is never that fast
        transcript = _played(self._script, request)
        if transcript.hangs == "before the reply":
            await self._hang()
        if transcript.no_reply is not None:
            raise transcript.no_reply
        self.replies.append(MemoryReply(transcript, self._hang))
        return self.replies[-1]

    async def _hang(self) -> None:
        self.hanging.set()
        await asyncio.Event().wait()


class MemoryReply:
    """A transcript's reply."""

    def __init__(self, transcript: Transcript, hang: Callable[[], Any]) -> None:
        self._transcript = transcript
        self._hang = hang
        self.status = transcript.status
        self.headers = transcript.headers
        self.closed = False

    async def read(self) -> bytes:
        return b"".join([chunk async for chunk in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        for chunk in self._transcript.chunks:
            await asyncio.sleep(0)
            yield chunk
        if self._transcript.hangs is not None:
            await self._hang()
        if self._transcript.breaks is not None:
            raise self._transcript.breaks

    def close(self) -> None:
        self.closed = True


class MemorySyncUpstream:
    """Plays transcripts to a thread, and remembers what it was asked."""

    def __init__(self, script: Transcript | Script, notes: list[str] | None = None) -> None:
        self._script = script
        self._notes = notes if notes is not None else []
        self.requests: list[Outgoing] = []
        self.replies: list[MemorySyncReply] = []

    def send(self, request: Outgoing) -> "MemorySyncReply":
        self.requests.append(request)
        self._notes.append("sent")
        transcript = _played(self._script, request)
        if transcript.no_reply is not None:
            raise transcript.no_reply
        self.replies.append(MemorySyncReply(transcript))
        return self.replies[-1]


class MemorySyncReply:
    """A transcript's reply."""

    def __init__(self, transcript: Transcript) -> None:
        self._transcript = transcript
        self.status = transcript.status
        self.headers = transcript.headers
        self.closed = False

    def read(self) -> bytes:
        return b"".join(self.chunks())

    def chunks(self) -> Iterator[bytes]:
        yield from self._transcript.chunks
        if self._transcript.breaks is not None:
            raise self._transcript.breaks

    def close(self) -> None:
        self.closed = True


def _played(script: Transcript | Script, request: Outgoing) -> Transcript:
    return script if isinstance(script, Transcript) else script(request)
