"""The provider's replies as `httpx2` has them, in the words of the drivers; and what fails, in both."""

from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from typing import Final, cast

import httpx2

from tierwise.errors import UpstreamDropped, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from tierwise.upstream.port import Headers
from tierwise.wire.errors import OwnReply

_NOT_SENT: Final = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)


class Failures:
    """What failed on the way to the provider, as the caller is to see it: as without Tierwise."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._last: Exception | None = None

    @property
    def last(self) -> Exception:
        """The last failure."""
        assert self._last is not None
        return self._last

    @contextmanager
    def noted(self) -> Generator[None]:
        """Tell the driver of a failure in its words, and keep it for the caller in its own."""
        try:
            yield
        except Exception as error:
            known = _in_our_words(error)
            if known is None:
                raise
            self._last = error
            raise known from error


def _in_our_words(error: Exception) -> UpstreamError | None:
    """Name what a client's error means for a call; an SDK's error has the client's as its cause."""
    for each in (error, error.__cause__):
        why = str(each) or type(each).__name__
        if isinstance(each, _NOT_SENT):
            return UpstreamUnreachable(why=why)
        if isinstance(each, httpx2.TimeoutException):
            return UpstreamTimeout(why=why)
        if isinstance(each, httpx2.TransportError | httpx2.StreamError | OSError):
            return UpstreamDropped(why=why)
    return None


def lower(headers: httpx2.Headers) -> list[tuple[bytes, bytes]]:
    """Return headers in order, their names in lower case."""
    return [(name.lower(), value) for name, value in headers.raw]


def response_of(own: OwnReply, request: httpx2.Request) -> httpx2.Response:
    """Make a response of a reply of ours."""
    return httpx2.Response(own.status, headers=list(own.headers), content=own.body, request=request)


class _Reply:
    """A response whose stream is taken over: the caller gets it with another.

    It is let go of then: a caller that drops it without closing it is noticed by that alone.
    """

    def __init__(self, response: httpx2.Response, failures: Failures) -> None:
        self.status = response.status_code
        self.headers = _as_read(response)
        self._response: httpx2.Response | None = response
        self._stream = response.stream
        self._read = response.content if response.is_stream_consumed else None
        """The body, where the client has read it already."""
        self._failures = failures

    def hand_over(
        self, told: Headers, stream: httpx2.SyncByteStream | httpx2.AsyncByteStream
    ) -> httpx2.Response:
        """Return the response, with what is told besides, and with `stream` for the bytes that are not yet read."""
        response = self._response
        assert response is not None
        self._response = None
        response.headers = httpx2.Headers([*response.headers.raw, *told])
        if self._read is None:
            response.stream = stream
        return response


def _as_read(response: httpx2.Response) -> Headers:
    """The headers; of a body that the client has read, and so decoded, without its encoding."""
    headers = lower(response.headers)
    if not response.is_stream_consumed:
        return headers
    return [each for each in headers if each[0] != b"content-encoding"]


class HttpxReply(_Reply):
    """A reply, for threads."""

    def read(self) -> bytes:
        """Return the whole body; raise UpstreamError where it breaks."""
        return b"".join(self.chunks()) if self._read is None else self._read

    def chunks(self) -> Iterator[bytes]:
        """Return the body's bytes as they arrive; raise UpstreamError where it breaks."""
        with self._failures.noted():
            yield from cast("httpx2.SyncByteStream", self._stream)
        self.close()

    def close(self) -> None:
        """Close the connection if the body has not ended."""
        cast("httpx2.SyncByteStream", self._stream).close()


class AsyncHttpxReply(_Reply):
    """A reply, for coroutines."""

    async def read(self) -> bytes:
        """Return the whole body; raise UpstreamError where it breaks."""
        if self._read is not None:
            return self._read
        return b"".join([chunk async for chunk in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        """Return the body's bytes as they arrive; raise UpstreamError where it breaks."""
        with self._failures.noted():
            async for chunk in cast("httpx2.AsyncByteStream", self._stream):
                yield chunk
        await self.aclose()

    def close(self) -> None:
        """Do nothing yet: `aclose` follows, whatever becomes of the call."""

    async def aclose(self) -> None:
        """Close the connection if the body has not ended."""
        await cast("httpx2.AsyncByteStream", self._stream).aclose()
