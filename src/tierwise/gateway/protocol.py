"""HTTP on one connection, with an end to patience: what is too long, or never whole, costs a connection.

The server's own protocol reads a request for as long as a caller likes, and a head of any size. Here each has a limit.
A timer is set only where a read leaves a request unfinished, so that an ordinary one costs none; the one that ends an
idle connection looks when it was last used, and is not set anew at each call.
"""

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tierwise.gateway.asgi import LEAVING
from tierwise.gateway.cycle import Cycle
from tierwise.wire.errors import own_reply

LARGEST_HEAD: Final = 64 * 2**10
"""Bytes of a request's line and headers."""

MOST_HEADERS: Final = 200

HEAD_S: Final = 20.0
"""How long a request's head may take, in seconds; and whatever a caller sends after its request was refused."""


GAP_S: Final = 20.0
"""Longest silence within a body, in seconds."""

BODY_S: Final = 300.0
"""How long a body may take, in seconds."""


class Protocol(HttpToolsProtocol):
    """The server's protocol, with limits on heads, and on the time of bodies."""

    app: Any
    parser: Any
    _in_head = False
    _size = 0
    """Bytes since the last head's end, or the connection's beginning, that may belong to a head."""
    _timer: asyncio.TimerHandle | None = None
    _began = 0.0
    """When a body was first seen to be unfinished."""
    _heard = 0.0
    """When a part of it came last."""
    _complaint = "malformed"
    _idle_since = 0.0
    """When the last reply was out."""
    _answered: Cycle | None = None
    """The request that is answered now, or was last; others wait in the pipeline."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """As the server makes it."""
        super().__init__(*args, **options)
        self._extensions: dict[str, Any] = {}

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._extensions[LEAVING] = self._when_left
        self._set_timer(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more.

        The server's own protocol lets its timer for idle connections run on where a caller reset one, and all that
        the connection held stays with it until then.
        """
        self._stop_timer()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._extensions.clear()  # what it holds leads back here
        answered = self._answered
        if answered is not None and not answered.response_complete:
            answered.disconnected = True
            answered.left()

    def data_received(self, data: bytes) -> None:
        """Read, and wait for the rest of a request only so long."""
        self._size += len(data)
        self._feed(data)
        if not self._in_head:
            self._size = 0
        elif self._size > LARGEST_HEAD and not self.transport.is_closing():
            self._refuse("head-too-large")
        if self.transport.is_closing():
            return
        if self._waits():
            if self._timer is None:
                self._set_timer(HEAD_S)
        elif self.cycle.more_body:
            self._heard = self.loop.time()
            if self._timer is None:
                self._began = self._heard
                self._set_timer(GAP_S)

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head = True
        if self._answers():
            self._size = 0  # what came before it in this read is of the request that is answered
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        """A head is whole."""
        self._in_head = False
        self._stop_timer()
        most = self.limit_concurrency
        if most is not None and (len(self.connections) >= most or len(self.tasks) >= most):
            self._complaint = "busy"
            raise ValueError  # the parser stops, and `send_400_response` answers
        if len(self.headers) > MOST_HEADERS or (self._size > LARGEST_HEAD and self._head() > LARGEST_HEAD):
            self._complaint = "head-too-large"
            raise ValueError
        waits = self._answers()
        self.cycle = self._new_cycle()
        if waits:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
        else:
            self._start(self.cycle)

    def on_message_complete(self) -> None:
        """A body is whole."""
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """A reply is out: the next request's turn, or an idle connection."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start(self.pipeline.pop()[0])
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._await_use(self.timeout_keep_alive)

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be read, as the gateway answers all errors, and close."""
        del msg
        self._refuse(self._complaint)

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.logger.warning("a request asks for another protocol; it is answered in this one")
        except httptools.HttpParserError:
            self.send_400_response("")

    def _new_cycle(self) -> Cycle:
        version = self.parser.get_http_version()
        path, raw_path, query = _parts_of(self.url)
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": self.parser.get_method().decode("ascii"),
            "scheme": self.scheme,
            "server": self.server,
            "client": self.client,
            "root_path": "",
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": self.headers,
            "extensions": self._extensions,
        }
        return Cycle(
            scope=scope,  # pyright: ignore[reportArgumentType] — the server's own type of it
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )

    def _start(self, cycle: Any) -> None:
        self._answered = cycle
        self._start_asgi_task(cycle, self.app)

    def _when_left(self, act: Callable[[], None]) -> Callable[[], None]:
        assert self._answered is not None
        return self._answered.when_left(act)

    def _await_use(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self._close_idle)

    def _close_idle(self) -> None:
        """Close a connection that was not used for long, or look again when it may have been."""
        self.timeout_keep_alive_task = None
        if self.transport.is_closing() or self._answers():
            return
        left_s = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left_s > 0 or self._in_head:
            self._await_use(max(left_s, 1.0))
        else:
            self.transport.close()

    def _refuse(self, code: str) -> None:
        """Answer with an error, where no other answer is due first, and close."""
        if self._answers() and code != "too-slow":
            return self.transport.close()
        reply = own_reply(code, _SENTENCES[code], headers=((b"connection", b"close"),))
        lines = b"".join(b"%b: %b\r\n" % header for header in reply.headers)
        head = b"HTTP/1.1 %d %b\r\n%bcontent-length: %d\r\n\r\n"
        self.transport.write(
            head % (reply.status, _PHRASES[reply.status], lines, len(reply.body)) + reply.body
        )
        return self.transport.close()

    def _answers(self) -> bool:
        """Whether a request is read, or being read, and its answer not out."""
        return self.cycle is not None and not self.cycle.response_complete

    def _waits(self) -> bool:
        """Whether nothing is under way but what a caller has yet to send."""
        return self._in_head or not self._answers()

    def _look(self) -> None:
        """Give up on a caller that is too slow, unless an earlier request's reply is still on its way to it."""
        self._timer = None
        if self.transport.is_closing():
            return
        answers = self._answers()
        if answers and not self._in_head and not self.pipeline and not self.cycle.response_started:
            self._look_at_body()
        elif answers:
            self._set_timer(HEAD_S)
        elif self._in_head:
            self._refuse("too-slow")
        else:
            self.transport.close()

    def _look_at_body(self) -> None:
        now = self.loop.time()
        left_s = min(self._heard + GAP_S, self._began + BODY_S) - now
        if left_s <= 0:
            self._refuse("too-slow")
        else:
            self._set_timer(left_s)

    def _set_timer(self, seconds: float) -> None:
        self._timer = self.loop.call_later(seconds, self._look)

    def _head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


@lru_cache(maxsize=64)
def _parts_of(url: bytes) -> tuple[str, bytes, bytes]:
    """Return a request's path, decoded and as it came, and its query."""
    parsed = httptools.parse_url(url)
    path = parsed.path.decode("ascii")
    return unquote(path) if "%" in path else path, parsed.path, parsed.query or b""


_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}

_PHRASES: Final = {
    400: b"Bad Request",
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}
_SENTENCES: Final = {
    "malformed": "This is not an HTTP request that can be read.",
    "head-too-large": f"A request has at most {MOST_HEADERS} headers, and {LARGEST_HEAD:,} bytes of them.",
    "busy": "The gateway has as many connections as it takes. Send this again in a moment.",
    "too-slow": f"The request did not come in time: its headers may take {HEAD_S:.0f} seconds, its body {BODY_S:.0f}, "
    f"{GAP_S:.0f} of them in silence.",
}
