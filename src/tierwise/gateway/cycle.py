"""One request and its reply on a caller's connection: the server's own cycle, in fewer steps and fewer writes.

The head of a reply waits for its first bytes and leaves with them, unless it says otherwise. Who sees a call through
is told at once that its caller has left, without a task that waits for it.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from tierwise.gateway.asgi import AT_ONCE

JOINED: Final = 64 * 2**10
"""Bytes that are copied to leave together with a head; more leave beside it."""


class Cycle(RequestResponseCycle):
    """A request whose reply is written here. Names of headers come in lower case."""

    _head = b""
    """Waits for the first bytes of the body."""
    _on_left: Callable[[], None] | None = None

    def when_left(self, act: Callable[[], None]) -> Callable[[], None]:
        """Call `act` once if the caller leaves before its reply is out; return what makes that undone."""
        self._on_left = act
        if self.disconnected:
            asyncio.get_running_loop().call_soon(self.left)
        self.flow.resume_reading()  # a connection that is not read does not tell that it ends
        return self._forget

    def left(self) -> None:
        """Tell whoever wants to know that the caller has gone."""
        act, self._on_left = self._on_left, None
        if act is not None:
            act()

    async def send(self, message: Any) -> None:
        """Take a part of the reply, as ASGI has it.

        Raises:
            RuntimeError: it comes after the last one, its header would break a line, or its length is not the one
                that was told.
        """
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if not self.response_started:
            self._begin(message["status"], message.get("headers", ()))
            if AT_ONCE in message:
                self._write(b"")
        elif not self.response_complete:
            self._go_on(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError("the reply has ended")

    def _begin(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self.response_started = True
        self.waiting_for_100_continue = False
        lines = [STATUS_LINE[status]]
        closes = False
        headers = [*self.default_headers, *headers]
        for name, value in headers:
            if name in _FRAMING:
                closes = self._frame(name, value) or closes
            lines += (name, b": ", value, b"\r\n")
        head = b"".join(lines)
        if not head.count(b"\r") == head.count(b"\n") == len(headers) + 1 or b"\0" in head:
            raise RuntimeError("a header would break a line")
        if not self.keep_alive and not closes:
            head += b"connection: close\r\n"
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in _WITHOUT_BODY:
            self.chunked_encoding = True
            head += b"transfer-encoding: chunked\r\n"
        self._head = head + b"\r\n"

    def _frame(self, name: bytes, value: bytes) -> bool:
        """Take what a header says of the body's length; return whether it ends the connection."""
        if name == b"content-length":
            if self.chunked_encoding is None:
                self.expected_content_length = int(value)
                self.chunked_encoding = False
        elif name == b"transfer-encoding":
            if value.lower() == b"chunked":
                self.expected_content_length = 0
                self.chunked_encoding = True
        elif b"close" in [token.strip() for token in value.lower().split(b",")]:
            self.keep_alive = False
            return True
        return False

    def _go_on(self, body: bytes, *, more: bool) -> None:
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
            body = b""
        elif self.chunked_encoding:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if not more:
                body += b"0\r\n\r\n"
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0:
                raise RuntimeError("the body is longer than its length")
        self._write(body)
        if not more:
            self._end()

    def _write(self, body: bytes) -> None:
        head, self._head = self._head, b""
        if head and len(body) > JOINED:
            self.transport.writelines((head, body))
        elif head or body:
            self.transport.write(head + body)

    def _end(self) -> None:
        if self.expected_content_length:
            raise RuntimeError("the body is shorter than its length")
        self.response_complete = True
        self._on_left = None
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    def _forget(self) -> None:
        self._on_left = None


_FRAMING: Final = frozenset((b"content-length", b"transfer-encoding", b"connection"))
_WITHOUT_BODY: Final = frozenset((204, 304))
