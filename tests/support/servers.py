"""Small servers on real sockets that say exactly what a test has them say."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager


class Peer:
    """One connection, as a server's script sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def request(self) -> bytes:
        """Read one request: its head, and a body as long as it says."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        return head + (await self._reader.readexactly(int(length[0].split(b":")[1])) if length else b"")

    async def take(self, size: int) -> None:
        """Read so many bytes."""
        await self._reader.readexactly(size)

    async def say(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def gone(self) -> None:
        """Wait until the other side has closed the connection."""
        while await self._reader.read(65536):
            pass

    def reset(self) -> None:
        self._writer.transport.abort()


class Server:
    """A server that plays a script at each connection."""

    def __init__(self) -> None:
        self.base_url = ""
        self.requests: list[bytes] = []
        self.connections = 0
        self.closed = 0
        """Connections that the client closed."""


Script = Callable[[Peer, Server], Awaitable[None]]


@asynccontextmanager
async def served(script: Script, *, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Server]:
    told = Server()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told.connections += 1
        try:
            await script(Peer(reader, writer), told)
        except (asyncio.IncompleteReadError, ConnectionError):
            told.closed += 1
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    scheme = "http" if tls is None else "https"
    told.base_url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield told


def saying(reply: bytes) -> Script:
    """Answer every request of a connection so."""

    async def script(peer: Peer, server: Server) -> None:
        while True:
            server.requests.append(await peer.request())
            await peer.say(reply)

    return script


def once(reply: bytes, *, then: Script | None = None) -> Script:
    """Answer one request so, and close the connection, or go on."""

    async def script(peer: Peer, server: Server) -> None:
        server.requests.append(await peer.request())
        await peer.say(reply)
        if then is not None:
            await then(peer, server)

    return script


async def silence(peer: Peer, server: Server) -> None:
    await peer.gone()
    server.closed += 1


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
