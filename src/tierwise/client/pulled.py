"""A thread's call: the sync driver goes as far as the reply's first bytes, and then as the caller takes them."""

import inspect
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import Final

import httpx2

from tierwise.client.auditing import Ear
from tierwise.client.replies import HttpxReply
from tierwise.client.session import Begun, Session
from tierwise.client.streams import Streams
from tierwise.client.ways import NO_REPLY, Way, reply_to
from tierwise.core.effects import Answer
from tierwise.engine.clock import now_us
from tierwise.engine.desk import Opened
from tierwise.engine.headers import own_headers
from tierwise.engine.relay_sync import SyncRelayDriver
from tierwise.errors import CallerGone
from tierwise.upstream.port import Headers, Outgoing
from tierwise.wire.errors import OwnReply


def relay(session: Session, begun: Begun, way: Way) -> httpx2.Response | OwnReply:
    """See a call through, a stream up to its first bytes; return the provider's reply, or ours in its place.

    The rest of a stream is read by the response's stream. Closing that before its end is how the caller leaves.

    Raises:
        Exception: what the client raises where it gets no reply, or not the whole of one.
    """
    opened, upstream = begun.opened, _Upstream(way)
    caller = _Caller(opened, session.ear(begun, way.again))
    pace = SyncRelayDriver(
        opened,
        outgoing=way.outgoing,
        counting=way.counting,
        upstream=upstream,
        ledger=session.ledger,
        budgets=session.balances.store,
        warnings=session.warnings,
        caller=caller,
        clock=now_us,
        sleep=time.sleep,
    ).paced()
    try:
        is_over = next(pace, _OVER) is _OVER
    except BaseException:
        upstream.close()
        raise
    if caller.own is not None:
        return caller.own
    if caller.has_failed:
        raise way.failures.last
    reply = upstream.replies[-1]
    if is_over:
        return reply.hand_over(caller.told, httpx2.ByteStream(b"".join(caller.parts)))
    return reply.hand_over(caller.told, _Body(_Call(pace, caller, upstream), session.streams))


_OVER: Final = object()


class _Upstream:
    """The way, and the replies that came back on it: a count of the prompt, where one was asked for, and the call's."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.replies: list[HttpxReply] = []

    def send(self, request: Outgoing) -> HttpxReply:
        reply = self.way.send(request)
        self.replies.append(reply)
        return reply

    def close(self) -> None:
        for reply in self.replies:
            reply.close()


class _Caller:
    """Keeps what the driver hands over until it is taken."""

    def __init__(self, opened: Opened, ear: Ear | None) -> None:
        self._opened = opened
        self._ear = ear
        self.parts: list[bytes] = []
        self.told: list[tuple[bytes, bytes]] = []
        """Headers of ours."""
        self.own: OwnReply | None = None
        self.has_failed = False
        self.is_whole = False

    def begin(self, status: int, headers: Headers) -> None:
        if self._ear is not None:  # for its caller they are the response's
            self._ear.begin(status, headers)
        self.told = own_headers(self._opened.call_id, self._opened.plan)

    def send(self, chunk: bytes) -> None:
        if self._ear is not None:
            self._ear.take(chunk)
        self.parts.append(chunk)

    def finish(self, chunk: bytes) -> None:
        self.is_whole = True
        self.parts.append(chunk)
        if self._ear is not None:
            self._ear.finish(chunk)

    def break_off(self) -> None:
        self.has_failed = True

    def answer(self, answer: Answer) -> None:
        if answer.code in NO_REPLY:
            self.has_failed = True
        else:
            self.own = reply_to(answer, self._opened)

    def take(self) -> Iterator[bytes]:
        parts, self.parts = self.parts, []
        return (part for part in parts if part)


class _Call:
    """A call whose stream is read, as far as it has come."""

    def __init__(self, pace: Generator[None], caller: _Caller, upstream: _Upstream) -> None:
        self._pace = pace
        self._caller = caller
        self._upstream = upstream
        self.is_read = True

    @property
    def is_over(self) -> bool:
        return inspect.getgeneratorstate(self._pace) == inspect.GEN_CLOSED

    def parts(self) -> Iterator[bytes]:
        yield from self._caller.take()
        while self.is_read and next(self._pace, _OVER) is not _OVER:
            yield from self._caller.take()
        yield from self._caller.take()
        if self._caller.has_failed:
            raise self._upstream.way.failures.last
        if not self._caller.is_whole:
            raise httpx2.StreamClosed

    def leave(self) -> None:
        with suppress(
            StopIteration, CallerGone, ValueError
        ):  # it has ended; or another thread is within, and reads
            self._pace.throw(CallerGone())
        self._upstream.close()


class _Body(httpx2.SyncByteStream):
    """The rest of a stream, at the caller's pace."""

    def __init__(self, call: _Call, streams: Streams) -> None:
        self._call = call
        self._streams = streams
        streams.hold(call)

    def __iter__(self) -> Iterator[bytes]:
        yield from self._call.parts()  # not `return`: it is not dropped while it is read

    def close(self) -> None:
        """Have the call ended, if it has not ended. This may be a finalizer's: the SDK's streams are generators."""
        self._call.is_read = False
        if self._call.is_over:
            self._streams.let_go(self._call)
        else:
            self._streams.end(self._call)

    def __del__(self) -> None:
        """Have a call ended whose stream was dropped without being closed."""
        self.close()
