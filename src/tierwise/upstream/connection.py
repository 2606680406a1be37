"""One connection to the provider: a request goes out, and its reply comes in, one after the other.

What a provider may send to confuse this client costs it the connection: bytes that nobody asked for, a head without
an end, a framing that contradicts itself. A connection is used again only after a reply whose end was told by its
length or its last chunk, with nothing after it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final, cast

import httptools

from tierwise.errors import UpstreamDropped, UpstreamError, UpstreamTimeout
from tierwise.upstream.port import Headers

LARGEST_HEAD: Final = 64 * 2**10
"""Bytes of a reply's head, of trailers, or of whatever else brings its body no further."""

MOST_HEADERS: Final = 200

ENOUGH: Final = 256 * 2**10
"""Bytes that may wait for a caller that is slower than the provider: then the provider has to wait."""


class Stale(UpstreamDropped):
    """The provider closed an idle connection before a byte of the reply."""


class ReplyInCourse:
    """A reply that arrives; the connection fills it, one reader empties it."""

    __slots__ = ("_chunks", "_connection", "_waiter", "ended", "error", "headers", "size", "status", "whole")

    def __init__(self, connection: "Connection") -> None:
        self.status = 0
        """0 until the head is whole."""
        self.headers: Headers = ()
        self.size = 0
        """Bytes of the body that wait to be read."""
        self.ended = False
        self.error: UpstreamError | None = None
        self.whole = False
        """Whether its reader waits for all of it."""
        self._connection = connection
        self._chunks: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None

    async def begun(self) -> None:
        """Wait for the head; raise UpstreamError where it does not come."""
        while not self.status:
            if self.error is not None:
                raise self.error
            await self._news()

    async def read(self) -> bytes:
        """Return the whole body; raise UpstreamError where it breaks."""
        self.whole = True
        self._connection.go_on(self)
        while not self.ended:
            if self.error is not None:
                raise self.error
            await self._news()
        return self._taken()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Return the body's bytes as they arrive, those that have arrived together in one piece."""
        while True:
            if self._chunks:
                chunk = self._taken()
                self._connection.go_on(self)
                yield chunk
            elif self.ended:
                return
            elif self.error is not None:
                raise self.error
            else:
                await self._news()

    def close(self) -> None:
        """Close the connection if the body has not ended; the provider stops generating."""
        if not self.ended:
            self._connection.close()

    def add(self, chunk: bytes) -> None:
        """Take bytes of the body."""
        self._chunks.append(chunk)
        self.size += len(chunk)

    def wake(self) -> None:
        """Tell the reader that something came."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _taken(self) -> bytes:
        chunks = self._chunks
        taken = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self.size = 0
        return taken

    async def _news(self) -> None:
        self._waiter = self._connection.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


class Connection(asyncio.Protocol):
    """A connection, and the reply that is under way on it."""

    __slots__ = (
        "_body",
        "_came",
        "_closed",
        "_fields",
        "_for_head",
        "_heard_s",
        "_idle",
        "_lost",
        "_parser",
        "_paused",
        "_reply",
        "_said",
        "_timeout_s",
        "_timer",
        "_transport",
        "_unfruitful",
        "_unsent",
        "idle_since_s",
        "is_used",
        "loop",
        "on_body",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        timeout_s: float,
        idle: Callable[["Connection"], None],
        lost: Callable[["Connection"], None],
    ) -> None:
        """Begin without a transport.

        Args:
            loop: the event loop.
            timeout_s: the longest silence while a reply is awaited or read.
            idle: told when the connection can be used again.
            lost: told when it is closed, by whomever.
        """
        self.loop = loop
        self.is_used = False
        """Whether a request has gone out on it before."""
        self.idle_since_s = 0.0
        self._timeout_s = timeout_s
        self._idle = idle
        self._lost = lost
        self._body: list[bytes] = []
        """Chunks of this read."""
        self.on_body = self._body.append
        """Takes a chunk of the body. The parser calls it for each, and a stream has many: no function of ours."""
        self._parser = httptools.HttpResponseParser(self)
        self._reply: ReplyInCourse | None = None
        self._for_head = False
        """Whether the request was a HEAD: its reply's length is that of no body."""
        self._fields: list[tuple[bytes, bytes]] = []
        self._said = 0
        """Headers and trailers of this reply."""
        self._came = False
        """Whether a byte of the reply has."""
        self._unfruitful = 0
        """Bytes since the head's end, or the last ones of the body."""
        self._paused = False
        self._unsent = 0
        """Bytes of the request that had not left when the silence was last measured."""
        self._heard_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    # What its owner asks of it.

    @property
    def is_closed(self) -> bool:
        """Whether it cannot be used any more."""
        return self._closed or self._transport.is_closing()

    async def exchange(self, head: bytes, body: bytes, *, for_head: bool) -> ReplyInCourse:
        """Send a request and return its reply once the head is here; cancelled, close.

        Raises:
            Stale: the connection was used before, and ended before a byte of this reply.
            UpstreamDropped: it ended before the reply's head did.
            UpstreamTimeout: nothing came in time.
        """
        reply = self._reply = ReplyInCourse(self)
        self._for_head = for_head
        self._fields = []
        self._said = self._unfruitful = 0
        self._came = False
        self._transport.writelines((head, body) if body else (head,))
        self._hear()
        try:
            await reply.begun()
        except BaseException:
            self.close()
            raise
        self.is_used = True
        return reply

    def go_on(self, reply: ReplyInCourse) -> None:
        """Let the provider send on, for this reply's reader has taken what there was."""
        if self._paused and reply is self._reply:
            self._paused = False
            self._heard_s = self.loop.time()
            self._transport.resume_reading()

    def close(self) -> None:
        """Close at once: what has not left stays here."""
        self._closed = True
        self._transport.abort()

    # What the transport tells it.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Read what came; whoever waits is woken once."""
        reply = self._reply
        if reply is None:
            return self.close()  # bytes that nobody asked for
        self._came = True
        self._heard_s = self.loop.time()
        self._unfruitful += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(UpstreamDropped(why="the reply changes the protocol"))
        except httptools.HttpParserError as error:
            self._fail(UpstreamDropped(why=f"the reply is not HTTP: {error.__context__ or error}"))
        else:
            self._hand_on()
            if self._unfruitful > LARGEST_HEAD:
                self._fail(UpstreamDropped(why=f"the reply has {LARGEST_HEAD} bytes that are no body"))
        reply.wake()
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """End the reply under way: well, where only this end could tell it."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        reply = self._reply
        if reply is not None:
            if exc is None and reply.status and reply.error is None and not _tells_its_end(reply.headers):
                reply.ended = True
            elif reply.error is None:
                reply.error = self._broken(exc)
            self._reply = None
            reply.wake()
        del self._parser  # each holds the other: cut here, neither waits for the garbage collector
        self._lost(self)

    def _broken(self, exc: Exception | None) -> UpstreamDropped:
        why = str(exc) if exc is not None and str(exc) else "the connection was closed"
        if self.is_used and not self._came:
            return Stale(why=why)
        return UpstreamDropped(why=why)

    # What the parser tells it. An exception here stops the parser, and is its error's context.

    def on_message_begin(self) -> None:
        """A reply begins, or what follows one that has ended, which nobody asked for."""
        if self._reply is None:
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer is let fall."""
        self._said += 1
        if self._said > MOST_HEADERS:
            raise ValueError(f"it has more than {MOST_HEADERS} headers")
        if self._reply is not None and not self._reply.status:
            self._fields.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """The head is whole, unless it only says that the reply will come."""
        reply = self._reply
        status = self._parser.get_status_code()
        if reply is None:
            return
        if 100 <= status < 200:
            self._fields.clear()
            return
        self._unfruitful = 0
        reply.headers, self._fields = self._fields, []
        reply.status = status
        if self._for_head:
            self._end(reply, again=False)

    def on_message_complete(self) -> None:
        """The reply has ended; the connection is for the next one, where both sides are through with this."""
        reply = self._reply
        if reply is None or not reply.status:
            return
        self._hand_on()
        rests = self._transport.get_write_buffer_size()
        self._end(reply, again=not rests and self._parser.should_keep_alive())

    # Ends and silences.

    def _hand_on(self) -> None:
        """Hand the reply what came of its body; stop the provider where that is too much to wait."""
        body, reply = self._body, self._reply
        if not body:
            return
        if reply is not None:
            self._unfruitful = 0
            reply.add(body[0] if len(body) == 1 else b"".join(body))
            if reply.size > ENOUGH and not reply.whole and not self._paused:
                self._paused = True
                self._transport.pause_reading()
        body.clear()

    def _end(self, reply: ReplyInCourse, *, again: bool) -> None:
        reply.ended = True
        self._reply = None
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        if again and not self.is_closed:
            self.idle_since_s = self.loop.time()
            self._idle(self)
        else:
            self.close()

    def _fail(self, error: UpstreamError) -> None:
        self._hand_on()
        reply = self._reply
        if reply is not None:
            reply.error = error
        self.close()

    def _hear(self) -> None:
        """Measure the silence from now on; the timer of an earlier reply does."""
        self._heard_s = self.loop.time()
        self._unsent = self._transport.get_write_buffer_size()
        if self._timer is None:
            self._timer = self.loop.call_later(self._timeout_s, self._look)

    def _look(self) -> None:
        """Give up on a provider that is silent, unless it waits for the caller, or the request still leaves."""
        self._timer = None
        reply = self._reply
        if reply is None:
            return
        unsent = self._transport.get_write_buffer_size()
        if self._paused or unsent < self._unsent:
            self._hear()
            return
        left_s = self._heard_s + self._timeout_s - self.loop.time()
        if left_s > 0:
            self._timer = self.loop.call_later(left_s, self._look)
        else:
            came = "the reply stopped" if reply.status else "no reply"
            self._fail(UpstreamTimeout(why=f"{came} within the read timeout"))
            reply.wake()


def _tells_its_end(headers: Headers) -> bool:
    """Whether a reply says how long it is; one that does not ends with its connection."""
    return any(
        name == b"content-length" or (name == b"transfer-encoding" and b"chunked" in value.lower())
        for name, value in headers
    )
