"""The upstream client on aiohttp, told to leave bytes and headers alone: the one that knows proxies."""

from collections.abc import AsyncIterator
from functools import lru_cache

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from tierwise.core.policy import Upstream as UpstreamConfig
from tierwise.errors import UpstreamDropped, UpstreamTimeout, UpstreamUnreachable
from tierwise.upstream.addresses import KEEP_ALIVE_S, proxy_from_environment, tls_of, urls_of
from tierwise.upstream.port import Headers, Outgoing, Reply


class AiohttpUpstream:
    """Sends requests to a provider's addresses over pooled connections."""

    def __init__(self, config: UpstreamConfig) -> None:
        """Prepare connections; call it with the event loop running.

        Raises:
            OSError: the file of certificates cannot be read.
        """
        self._addresses = tuple(
            (url.rstrip("/"), config.proxy or proxy_from_environment(url)) for url in urls_of(config)
        )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S, ssl=tls_of(config)),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=config.connect_timeout_s, sock_read=config.read_timeout_s
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        )

    async def send(self, request: Outgoing) -> Reply:
        """Send a request and return once the reply's headers are here.

        Raises:
            UpstreamUnreachable: no connection.
            UpstreamDropped: the connection closed before the first byte.
            UpstreamTimeout: nothing came in time.
        """
        base, proxy = self._addresses[request.address % len(self._addresses)]
        headers = CIMultiDict((name.decode("latin-1"), _text(value)) for name, value in request.headers)
        try:
            response = await self._session.request(
                request.method,
                _url(base + request.target),
                data=request.body or None,
                headers=headers,
                proxy=proxy,
                allow_redirects=False,
            )
        except (
            aiohttp.ConnectionTimeoutError,
            aiohttp.ClientConnectorError,
            aiohttp.ClientHttpProxyError,
        ) as error:
            raise UpstreamUnreachable(why=str(error) or "the connection timed out") from error
        except TimeoutError as error:
            raise UpstreamTimeout(why="no reply within the read timeout") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamDropped(why=str(error) or type(error).__name__) from error
        return _HttpReply(response)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


class _HttpReply:
    """A reply of aiohttp's."""

    __slots__ = ("_response",)

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> Headers:
        return [(name.lower(), value) for name, value in self._response.raw_headers]

    async def read(self) -> bytes:
        try:
            return await self._response.read()
        except TimeoutError as error:
            raise UpstreamTimeout(why="the reply stopped within the read timeout") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamDropped(why=str(error) or type(error).__name__) from error

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except TimeoutError as error:
            raise UpstreamTimeout(why="the reply stopped within the read timeout") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamDropped(why=str(error) or type(error).__name__) from error

    def close(self) -> None:
        self._response.close()


@lru_cache(maxsize=64)
def _url(address: str) -> URL:
    """The address as it is: paths differ by their query alone, and mostly by nothing."""
    return URL(address, encoded=True)


def _text(value: bytes) -> str:
    """A header's value as aiohttp takes it: it writes UTF-8, so that only what is none cannot keep its bytes."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
