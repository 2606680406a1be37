"""What a driver needs of an upstream client: send one request, get a reply whose bytes stream.

Twice, for coroutines and for threads.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Protocol, TypeAlias

from tierwise.values import value

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Header names, lower case, and values, in order, as they were on the wire."""


@value
class Outgoing:
    """One request to the provider."""

    method: str
    target: str
    """Path and query, as the caller sent them."""
    headers: Headers
    body: bytes
    address: int = 0
    """Which of the provider's addresses it goes to, counted from 0, and on from the first after the last."""


class Reply(Protocol):
    """A reply whose status and headers are here."""

    @property
    def status(self) -> int:
        """HTTP status."""
        ...

    @property
    def headers(self) -> Headers:
        """Response headers."""
        ...

    async def read(self) -> bytes:
        """Return the whole body; raise UpstreamError where it breaks."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Return the body's bytes as they arrive; raise UpstreamError where it breaks."""
        ...

    def close(self) -> None:
        """Close the connection if the body has not ended; the provider stops generating."""
        ...


class Upstream(Protocol):
    """Sends requests to the provider."""

    async def send(self, request: Outgoing) -> Reply:
        """Send a request and return once the reply's headers are here.

        Raises:
            UpstreamUnreachable: no connection.
            UpstreamDropped: the connection closed before the first byte.
            UpstreamTimeout: nothing came in time.
        """
        ...


class SyncReply(Protocol):
    """A reply whose status and headers are here, read by a thread."""

    @property
    def status(self) -> int:
        """HTTP status."""
        ...

    @property
    def headers(self) -> Headers:
        """Response headers."""
        ...

    def read(self) -> bytes:
        """Return the whole body; raise UpstreamError where it breaks."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """Return the body's bytes as they arrive; raise UpstreamError where it breaks."""
        ...

    def close(self) -> None:
        """Close the connection if the body has not ended; the provider stops generating."""
        ...


class SyncUpstream(Protocol):
    """Sends requests to the provider from a thread."""

    def send(self, request: Outgoing) -> SyncReply:
        """Send a request and return once the reply's headers are here; raise as `Upstream.send` does."""
        ...
