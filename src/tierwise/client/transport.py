"""`httpx2` transports: any client that is built on them is routed, budgeted and recorded."""

from dataclasses import replace
from pathlib import Path

import httpx2

from tierwise.client import handed, pulled
from tierwise.client.paths import Kind, kind_of
from tierwise.client.replies import AsyncHttpxReply, Failures, HttpxReply, lower, response_of
from tierwise.client.session import DEFAULT_LEDGER, Session, session_of
from tierwise.core.changes import Change
from tierwise.engine.desk import Opened
from tierwise.engine.doors import COUNT_TOKENS, MESSAGES
from tierwise.engine.headers import as_another_call, betas_for, outgoing_headers
from tierwise.engine.relay import COUNTING_S
from tierwise.engine.router import Router
from tierwise.upstream.port import Outgoing
from tierwise.wire.errors import OwnReply
from tierwise.wire.requests import counting_body, rewrite


class Transport(httpx2.BaseTransport):
    """Between an `httpx2.Client` and its connections.

    client = anthropic.Anthropic(http_client=httpx2.Client(transport=tierwise.Transport(router)))
    """

    def __init__(
        self,
        router: Router | Session,
        *,
        ledger: Path | str | None = DEFAULT_LEDGER,
        inner: httpx2.BaseTransport | None = None,
    ) -> None:
        """Send by `inner`, or by a transport of its own; raise as `Session` does.

        Args:
            router: the policy; or a session, which has a ledger already.
            ledger: a file, or a database's address; None records nothing, and holds no budget.
            inner: the transport that has the connections, with its proxy and certificates where those are needed.
        """
        self._session = session_of(router, ledger)
        self._inner = inner or httpx2.HTTPTransport()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request as the policy has it."""
        match kind_of(request.method, request.url.path):
            case Kind.OTHER:
                return self._inner.handle_request(request)
            case Kind.CALL:
                got = self._call(request)
            case kind:
                got = self._session.aside(kind, request.url.path, request.read(), lower(request.headers))
                if isinstance(got, bytes):
                    return self._inner.handle_request(_counted(request, got))
        return response_of(got, request) if isinstance(got, OwnReply) else got

    def _call(self, request: httpx2.Request) -> httpx2.Response | OwnReply:
        begun = self._session.begin(request.read(), lower(request.headers))
        if isinstance(begun, OwnReply):
            return begun
        return pulled.relay(self._session, begun, _Way(request, begun.opened, self._inner))

    def close(self) -> None:
        """Close the connections. The session stays open, for others that use it."""
        self._inner.close()


class AsyncTransport(httpx2.AsyncBaseTransport):
    """Between an `httpx2.AsyncClient` and its connections; for asyncio alone.

    client = anthropic.AsyncAnthropic(http_client=httpx2.AsyncClient(transport=tierwise.AsyncTransport(router)))
    """

    def __init__(
        self,
        router: Router | Session,
        *,
        ledger: Path | str | None = DEFAULT_LEDGER,
        inner: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """Send by `inner`, or by a transport of its own; as `Transport` does."""
        self._session = session_of(router, ledger)
        self._inner = inner or httpx2.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request as the policy has it."""
        match kind_of(request.method, request.url.path):
            case Kind.OTHER:
                return await self._inner.handle_async_request(request)
            case Kind.CALL:
                got = await self._call(request)
            case kind:
                raw = await request.aread()
                got = self._session.aside(kind, request.url.path, raw, lower(request.headers))
                if isinstance(got, bytes):
                    return await self._inner.handle_async_request(_counted(request, got))
        return response_of(got, request) if isinstance(got, OwnReply) else got

    async def _call(self, request: httpx2.Request) -> httpx2.Response | OwnReply:
        begun = await self._session.begin_async(await request.aread(), lower(request.headers))
        if isinstance(begun, OwnReply):
            return begun
        return await handed.relay(self._session, begun, _AsyncWay(request, begun.opened, self._inner))

    async def aclose(self) -> None:
        """Close the connections. The session stays open, for others that use it."""
        await self._inner.aclose()


class _Asking:
    """Makes the requests of a call out of the one that came."""

    def __init__(self, request: httpx2.Request, opened: Opened) -> None:
        self.failures = Failures()
        self._request = request
        self._opened = opened

    def outgoing(self, changes: tuple[Change, ...]) -> Outgoing:
        return self._made(_target(self._request), rewrite(self._opened.body, changes), changes)

    def counting(self, changes: tuple[Change, ...]) -> Outgoing:
        return self._made(_counting_target(self._request), counting_body(self._opened.body, changes), changes)

    def again(self, changes: tuple[Change, ...]) -> Outgoing:
        return as_another_call(replace(self.outgoing(changes), target=str(self._request.url)))

    def _made(self, target: str, body: bytes, changes: tuple[Change, ...]) -> Outgoing:
        headers = outgoing_headers(lower(self._request.headers), key=None, betas=betas_for(changes))
        return Outgoing(method="POST", target=target, headers=headers, body=body)


class _Way(_Asking):
    """By a transport."""

    def __init__(self, request: httpx2.Request, opened: Opened, inner: httpx2.BaseTransport) -> None:
        super().__init__(request, opened)
        self._inner = inner

    def send(self, request: Outgoing) -> HttpxReply:
        with self.failures.noted():
            return HttpxReply(self._inner.handle_request(_rebuilt(self._request, request)), self.failures)


class _AsyncWay(_Asking):
    """By an async transport."""

    def __init__(self, request: httpx2.Request, opened: Opened, inner: httpx2.AsyncBaseTransport) -> None:
        super().__init__(request, opened)
        self._inner = inner

    async def send(self, request: Outgoing) -> AsyncHttpxReply:
        with self.failures.noted():
            response = await self._inner.handle_async_request(_rebuilt(self._request, request))
            return AsyncHttpxReply(response, self.failures)


def _counted(request: httpx2.Request, body: bytes) -> httpx2.Request:
    headers = outgoing_headers(lower(request.headers), key=None)
    return _rebuilt(
        request, Outgoing(method=request.method, target=_target(request), headers=headers, body=body)
    )


def _rebuilt(request: httpx2.Request, outgoing: Outgoing) -> httpx2.Request:
    """The request that leaves, to the address of the one that came, within its times."""
    extensions = dict(request.extensions)
    if outgoing.target != _target(request):  # a count is not worth a call's patience
        extensions["timeout"] = httpx2.Timeout(COUNTING_S).as_dict()
    return httpx2.Request(
        outgoing.method,
        request.url.copy_with(raw_path=outgoing.target.encode("ascii")),
        headers=list(outgoing.headers),
        content=outgoing.body,
        extensions=extensions,
    )


def _target(request: httpx2.Request) -> str:
    return request.url.raw_path.decode("ascii")


def _counting_target(request: httpx2.Request) -> str:
    path, question, query = _target(request).partition("?")
    return path.removesuffix(MESSAGES) + COUNT_TOKENS + question + query
