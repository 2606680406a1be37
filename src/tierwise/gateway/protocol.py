"""HTTP on one connection, with an end to patience: a head that is too long or never whole costs a connection.

The server's own protocol reads a head for as long, in time and in bytes, as a caller likes. Here each has a limit. A
timer is set only where a read leaves a head unfinished, so that an ordinary request costs none.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tierwise.wire.errors import own_reply

LARGEST_HEAD: Final = 64 * 2**10
"""Bytes of a request's line and headers."""

MOST_HEADERS: Final = 200

HEAD_S: Final = 20.0
"""How long a request's head may take, in seconds; and whatever a caller sends after its request was refused."""


class Protocol(HttpToolsProtocol):
    """The server's protocol, with limits on heads."""

    _in_head = False
    _size = 0
    """Bytes since the last head's end, or the connection's beginning, that may belong to a head."""
    _timer: asyncio.TimerHandle | None = None
    _complaint = "malformed"

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEAD_S, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read, and wait for the rest of a head only so long."""
        self._size += len(data)
        super().data_received(data)
        if not self._in_head:
            self._size = 0
        elif self._size > LARGEST_HEAD and not self.transport.is_closing():
            self._refuse("head-too-large")
        if self._timer is None and self._waits() and not self.transport.is_closing():
            self._timer = self.loop.call_later(HEAD_S, self._too_slow)

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A head is whole."""
        self._in_head = False
        self._stop_timer()
        if len(self.headers) > MOST_HEADERS or (self._size > LARGEST_HEAD and self._head() > LARGEST_HEAD):
            self._complaint = "head-too-large"
            raise ValueError  # the parser stops, and `send_400_response` answers
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be read, as the gateway answers all errors, and close."""
        del msg
        self._refuse(self._complaint)

    def _refuse(self, code: str) -> None:
        reply = own_reply(code, _SENTENCES[code], headers=((b"connection", b"close"),))
        lines = b"".join(b"%b: %b\r\n" % header for header in reply.headers)
        head = b"HTTP/1.1 %d %b\r\n%bcontent-length: %d\r\n\r\n"
        self.transport.write(
            head % (reply.status, _PHRASES[reply.status], lines, len(reply.body)) + reply.body
        )
        self.transport.close()

    def _waits(self) -> bool:
        """Whether nothing is under way but what a caller has yet to send."""
        return self._in_head or self.cycle is None or self.cycle.response_complete

    def _too_slow(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._timer = self.loop.call_later(HEAD_S, self._too_slow)  # a reply is on its way before it
        elif self._in_head:
            self._refuse("too-slow")
        else:
            self.transport.close()

    def _head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


_PHRASES: Final = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}
_SENTENCES: Final = {
    "malformed": "This is not an HTTP request that can be read.",
    "head-too-large": f"A request has at most {MOST_HEADERS} headers, and {LARGEST_HEAD:,} bytes of them.",
    "too-slow": f"The request's headers did not come within {HEAD_S:.0f} seconds.",
}
