"""A coroutine's call: the async driver runs in its task; that of a stream in one of its own, a little ahead."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

import httpx2

from tierwise.client.auditing import Ear
from tierwise.client.replies import AsyncHttpxReply
from tierwise.client.session import Begun, Session
from tierwise.client.ways import NO_REPLY, AsyncWay, reply_to
from tierwise.core.effects import Answer
from tierwise.engine.clock import now_us
from tierwise.engine.desk import Opened
from tierwise.engine.headers import own_headers
from tierwise.engine.relay import RelayDriver
from tierwise.upstream.port import Headers, Outgoing
from tierwise.wire.errors import OwnReply

AHEAD: Final = 16
"""Parts of a stream that wait at most for a caller that is slower than the provider."""


async def relay(session: Session, begun: Begun, way: AsyncWay) -> httpx2.Response | OwnReply:
    """See a call through, a stream up to its first bytes; return the provider's reply, or ours in its place.

    The rest of a stream is read by the response's stream. Closing that before its end is how the caller leaves, and so
    is a cancellation.

    Raises:
        Exception: what the client raises where it gets no reply, or not the whole of one.
    """
    opened, upstream = begun.opened, _Upstream(way)
    side = session.side()
    is_stream = opened.plan.call.stream
    caller = _Caller(opened, session.ear(begun, way.again), ahead=AHEAD if is_stream else None)
    driver = RelayDriver(
        opened,
        outgoing=way.outgoing,
        counting=way.counting,
        upstream=upstream,
        ledger=side.ledger,
        budgets=side.budgets,
        warnings=session.warnings,
        caller=caller,
        clock=now_us,
    )
    if not is_stream:
        await _run(driver, upstream, caller)
        return _handed(caller, upstream, httpx2.ByteStream(b"".join(caller.parts)))
    work = asyncio.create_task(_run(driver, upstream, caller))
    session.streams.hold_task(work)
    try:
        await caller.wait()
    except asyncio.CancelledError:
        await _leave(work)
        raise
    if caller.is_over:
        await asyncio.wait({work})
        work.result()
    return _handed(caller, upstream, _Body(work, caller, upstream))


async def _run(driver: RelayDriver, upstream: "_Upstream", caller: "_Caller") -> None:
    try:
        await driver.run()
    finally:
        caller.end()
        await upstream.aclose()


def _handed(
    caller: "_Caller", upstream: "_Upstream", stream: httpx2.AsyncByteStream
) -> httpx2.Response | OwnReply:
    if caller.own is not None:
        return caller.own
    if caller.has_failed:
        raise upstream.way.failures.last
    if caller.was_left:
        raise asyncio.CancelledError
    return upstream.replies[-1].hand_over(caller.told, stream)


async def _leave(work: asyncio.Task[None]) -> None:
    """Leave a call, and wait until it is recorded."""
    work.cancel()
    await asyncio.wait({work})
    if not work.cancelled():
        work.exception()  # it has left: nobody else is told


class _Upstream:
    """The way, and the replies that came back on it: a count of the prompt, where one was asked for, and the call's."""

    def __init__(self, way: AsyncWay) -> None:
        self.way = way
        self.replies: list[AsyncHttpxReply] = []

    async def send(self, request: Outgoing) -> AsyncHttpxReply:
        reply = await self.way.send(request)
        self.replies.append(reply)
        return reply

    async def aclose(self) -> None:
        for reply in self.replies:
            await reply.aclose()


class _Caller:
    """Keeps what the driver hands over until it is taken; a cancellation always is the caller's."""

    def __init__(self, opened: Opened, ear: Ear | None, *, ahead: int | None) -> None:
        self._opened = opened
        self._ear = ear
        self._ahead = ahead
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self.parts: deque[bytes] = deque()
        self.told: list[tuple[bytes, bytes]] = []
        """Headers of ours."""
        self.own: OwnReply | None = None
        self.has_failed = False
        self.is_whole = False
        self.is_over = False

    @property
    def gone(self) -> bool:
        """In one program nobody else cancels a call."""
        return True

    @property
    def was_left(self) -> bool:
        """Whether the call was given up before its reply was whole."""
        return self.is_over and not (self.is_whole or self.has_failed or self.own is not None)

    def begin(self, status: int, headers: Headers) -> None:
        if self._ear is not None:  # for its caller they are the response's
            self._ear.begin(status, headers)
        self.told = own_headers(self._opened.call_id, self._opened.plan)

    async def send(self, chunk: bytes) -> None:
        if self._ear is not None:
            self._ear.take(chunk)
        self._put(chunk)
        while self._ahead is not None and len(self.parts) > self._ahead:
            self._room.clear()
            await self._room.wait()

    async def finish(self, chunk: bytes) -> None:
        self.is_whole = True
        self._put(chunk)
        if self._ear is not None:
            self._ear.finish(chunk)

    async def break_off(self) -> None:
        self.has_failed = True

    async def answer(self, answer: Answer) -> None:
        if answer.code in NO_REPLY:
            self.has_failed = True
        else:
            self.own = reply_to(answer, self._opened)

    def end(self) -> None:
        """Take the news that there is no more."""
        self.is_over = True
        self._news.set()

    async def wait(self) -> None:
        """Wait until there is a part of the body, or no more."""
        while not self.parts and not self.is_over:
            self._news.clear()
            await self._news.wait()

    async def take(self) -> bytes | None:
        """Return the next part of the body; None at its end."""
        await self.wait()
        if not self.parts:
            return None
        part = self.parts.popleft()
        self._room.set()
        return part

    def _put(self, chunk: bytes) -> None:
        if chunk:
            self.parts.append(chunk)
            self._news.set()


class _Body(httpx2.AsyncByteStream):
    """The rest of a stream."""

    def __init__(self, work: asyncio.Task[None], caller: _Caller, upstream: _Upstream) -> None:
        self._work = work
        self._caller = caller
        self._upstream = upstream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (part := await self._caller.take()) is not None:
            yield part
        await asyncio.wait({self._work})
        self._work.result()
        if self._caller.has_failed:
            raise self._upstream.way.failures.last
        if self._caller.was_left:
            raise httpx2.StreamClosed

    async def aclose(self) -> None:
        """End the call, if it has not ended."""
        if self._caller.is_whole:
            await asyncio.wait({self._work})
        else:
            await _leave(self._work)

    def __del__(self) -> None:
        """Leave a call whose stream was dropped without being closed."""
        if not self._work.done():
            with suppress(RuntimeError):  # the loop is closed
                self._work.get_loop().call_soon_threadsafe(self._work.cancel)
