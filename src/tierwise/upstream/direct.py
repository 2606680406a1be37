"""The upstream client of our own: pooled connections straight to the provider.

It does what a call needs and nothing else. Redirects are passed on, cookies fall, encodings stay: the bytes that come
are those that were sent.
"""

import asyncio
import socket
import ssl
from typing import Final
from urllib.parse import urlsplit

import aiohappyeyeballs

from tierwise.core.policy import Upstream as UpstreamConfig
from tierwise.errors import UpstreamUnreachable
from tierwise.upstream.addresses import KEEP_ALIVE_S, tls_of, urls_of
from tierwise.upstream.connection import Connection, ReplyInCourse, Stale
from tierwise.upstream.heads import Base, head_of
from tierwise.upstream.port import Outgoing

NEXT_FAMILY_S: Final = 0.25
"""How long a connection over one IP version is given before the other one is tried beside it.
https://www.rfc-editor.org/rfc/rfc8305#section-8"""

PROBE_AFTER_S: Final = 60
"""After how long a silent connection is probed, so that nothing between forgets it, in seconds."""

_REPEATABLE: Final = frozenset(("GET", "HEAD", "OPTIONS"))
"""Made again without harm where an idle connection turns out to be closed. A POST may be billed twice: its failure is
the machine's to answer, which counts each attempt."""


class DirectUpstream:
    """Sends requests to a provider's addresses over pooled connections."""

    def __init__(self, config: UpstreamConfig) -> None:
        """Prepare connections; call it with the event loop running.

        Raises:
            OSError: the file of certificates cannot be read.
        """
        urls = urls_of(config)
        tls = tls_of(config) if any(url.startswith("https:") for url in urls) else None
        self._pools = tuple(_Pool(url, config, tls) for url in urls)

    async def send(self, request: Outgoing) -> ReplyInCourse:
        """Send a request and return once the reply's headers are here.

        Raises:
            UpstreamUnreachable: no connection.
            UpstreamDropped: the connection closed before the first byte.
            UpstreamTimeout: nothing came in time.
        """
        pool = self._pools[request.address % len(self._pools)]
        head = head_of(request, pool.base)
        while True:
            connection = pool.idle_one() or await pool.connect()
            try:
                return await connection.exchange(head, request.body, for_head=request.method == "HEAD")
            except Stale:
                if request.method not in _REPEATABLE:
                    raise

    async def close(self) -> None:
        """Close all connections."""
        for pool in self._pools:
            pool.close()
        await asyncio.sleep(0)  # the transports say that they are lost in the loop's next turn


class _Pool:
    """The connections to one address."""

    def __init__(self, url: str, config: UpstreamConfig, tls: ssl.SSLContext | None) -> None:
        parts = urlsplit(url)
        is_tls = parts.scheme == "https"
        self.base = Base(url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if is_tls else 80)
        self._tls = tls if is_tls else None
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._all: set[Connection] = set()
        self._idle: list[Connection] = []
        """The one that was used last is used next, so that those beyond need fall idle."""
        self._sweep: asyncio.TimerHandle | None = None

    def idle_one(self) -> Connection | None:
        """Take the connection that was used last; None where all are busy, or too old to be trusted."""
        oldest_s = self._loop.time() - KEEP_ALIVE_S
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since_s >= oldest_s and not connection.is_closed:
                return connection
            connection.close()
        return None

    async def connect(self) -> Connection:
        """Make a new one.

        Raises:
            UpstreamUnreachable: it did not come about, or the other side could not be verified.
        """
        try:
            async with asyncio.timeout(self._config.connect_timeout_s):
                return await self._connect()
        except TimeoutError as error:
            raise UpstreamUnreachable(why=f"connecting to {self._host} timed out") from error
        except OSError as error:
            why = str(error) or type(error).__name__
            raise UpstreamUnreachable(why=f"cannot connect to {self._host}:{self._port}: {why}") from error

    async def _connect(self) -> Connection:
        found = await self._loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        opened = await aiohappyeyeballs.start_connection(  # pyright: ignore[reportUnknownMemberType] — its bare `tuple`
            found, happy_eyeballs_delay=NEXT_FAMILY_S
        )
        try:
            _set_options(opened)
            _, connection = await self._loop.create_connection(
                self._made,
                sock=opened,
                ssl=self._tls,
                server_hostname=self._host if self._tls is not None else None,
            )
        except BaseException:
            opened.close()
            raise
        self._all.add(connection)
        return connection

    def close(self) -> None:
        """Close all of them, in use or not."""
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in self._all:
            connection.close()

    def _made(self) -> Connection:
        return Connection(
            self._loop, timeout_s=self._config.read_timeout_s, idle=self._take_back, lost=self._forget
        )

    def _take_back(self, connection: Connection) -> None:
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep = self._loop.call_later(KEEP_ALIVE_S, self._close_old)

    def _forget(self, connection: Connection) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _close_old(self) -> None:
        """Close what was not used for long; look again as long as any is idle."""
        oldest_s = self._loop.time() - KEEP_ALIVE_S
        old = [connection for connection in self._idle if connection.idle_since_s <= oldest_s]
        self._idle = [connection for connection in self._idle if connection.idle_since_s > oldest_s]
        for connection in old:
            connection.close()
        self._sweep = self._loop.call_later(KEEP_ALIVE_S, self._close_old) if self._idle else None


def _set_options(opened: socket.socket) -> None:
    """Send small writes at once; probe a connection on which a long answer is thought out in silence."""
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_AFTER_S)
