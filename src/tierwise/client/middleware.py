"""The anthropic SDK's own hook: each attempt of a call is routed, budgeted and recorded.

The hook stands between the SDK's parsed request and one HTTP attempt. It makes the body's bytes of the first, and takes
over the stream of the response before anybody reads it, so that every byte passes the exchange. An answer of ours is a
response too: the SDK makes its own exception of it.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType
from typing import Any, Final, TypeAlias, cast

import anthropic
import httpx2
import msgspec
from anthropic import APIRequest, APIResponse, AsyncAPIResponse, AsyncCallNext, CallNext

from tierwise.client import handed, pulled
from tierwise.client.auditing import Again
from tierwise.client.paths import Kind, kind_of
from tierwise.client.replies import AsyncHttpxReply, Failures, HttpxReply, response_of
from tierwise.client.session import DEFAULT_LEDGER, Session, session_of
from tierwise.core.changes import Change
from tierwise.engine.desk import Opened
from tierwise.engine.doors import COUNT_TOKENS, MESSAGES
from tierwise.engine.headers import as_another_call, betas_for, outgoing_headers
from tierwise.engine.relay import COUNTING_S
from tierwise.engine.router import Router
from tierwise.upstream.port import Headers, Outgoing
from tierwise.wire.errors import OwnReply
from tierwise.wire.requests import counting_body, rewrite

log: Final = logging.getLogger("tierwise.client")


def middleware(
    router: Router | Session, *, ledger: Path | str | None = DEFAULT_LEDGER
) -> anthropic.Middleware:
    """Return what to put last among an SDK client's `middleware`; it serves sync and async clients.

    client = anthropic.Anthropic(middleware=[tierwise.middleware(router)])

    Args:
        router: the policy; or a session, which has a ledger already.
        ledger: a file, or a database's address; None records nothing, and holds no budget. The middleware and the
            transports of one router and one ledger share a session.

    Raises:
        NeedsLedger: the policy has hard budgets, and `ledger` is None.
        LedgerError: the ledger cannot be opened, or another process holds its budgets.
        BudgetStoreError: the store that the policy names for its budgets is not set up to hold money.
    """
    return _Middleware(session_of(router, ledger))


class _Middleware(anthropic.Middleware):
    """One object for both kinds of client."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def handle(self, request: APIRequest, call_next: CallNext) -> APIResponse[Any]:
        kind = kind_of(request.method, request.url)
        if kind is Kind.OTHER:
            return call_next(request)
        hook = _Hook(request, call_next)
        if kind is not Kind.CALL:
            got = self._session.aside(kind, request.url, hook.raw, hook.headers)
            return call_next(hook.with_body(got)) if isinstance(got, bytes) else hook.answer(got)
        begun = self._session.begin(hook.raw, hook.headers)
        if isinstance(begun, OwnReply):
            return hook.answer(begun)
        way = _Way(hook, begun.opened, call_next)
        got = pulled.relay(self._session, begun, way)
        return hook.answer(got) if isinstance(got, OwnReply) else way.responses.pop()

    async def handle_async(self, request: APIRequest, call_next: AsyncCallNext) -> AsyncAPIResponse[Any]:
        kind = kind_of(request.method, request.url)
        if kind is Kind.OTHER:
            return await call_next(request)
        hook = _Hook(request, call_next)
        if kind is not Kind.CALL:
            got = self._session.aside(kind, request.url, hook.raw, hook.headers)
            return await call_next(hook.with_body(got)) if isinstance(got, bytes) else hook.answer_async(got)
        begun = await self._session.begin_async(hook.raw, hook.headers)
        if isinstance(begun, OwnReply):
            return hook.answer_async(begun)
        way = _AsyncWay(hook, begun.opened, call_next)
        got = await handed.relay(self._session, begun, way)
        return hook.answer_async(got) if isinstance(got, OwnReply) else way.responses.pop()


class _Hook:
    """One attempt, as the SDK has it and as the door reads it."""

    def __init__(self, request: APIRequest, call_next: CallNext | AsyncCallNext) -> None:
        self.request = request
        self.json = _json_of(request)
        self.raw: bytes = _encode(self.json)
        client = _client_of(call_next)
        self._seen = _headers_of(request, client)
        self.address = None if client is None else _address(request, client)
        """Where the call goes, as a whole address; None where the SDK does not tell."""

    @property
    def headers(self) -> Headers:
        """What is known of the headers: the client's own, the call's and the count of retries, lower case."""
        counted = (b"x-stainless-retry-count", b"%d" % self.request.retries_taken)
        return [*((name.encode(), value.encode()) for name, value in self._seen.items()), counted]

    def changed(self, url: str, fields: Mapping[str, Any], betas: tuple[bytes, ...]) -> APIRequest:
        """Make the request that leaves: to this address, with these fields, without headers that are ours."""
        request = self.request
        ours = {name: anthropic.omit for name in self._seen if name.startswith("x-tierwise-")}
        headers = {name: value for name, value in request.headers.items() if name.lower() not in ours}
        headers |= {**ours, "accept-encoding": "identity", **self._with_betas(betas)}
        told: dict[str, Any] = {"url": url, "headers": headers, "json_data": dict(fields), "extra_json": None}
        if url != request.url:  # a count is not worth a call's patience
            told["timeout"] = COUNTING_S
        return APIRequest(
            options=request.options.model_copy(update=told),
            cast_to=request.cast_to,
            stream=request.stream,
            stream_cls=request.stream_cls,
            retries_taken=request.retries_taken,
        )

    def with_body(self, body: bytes) -> APIRequest:
        """Make the request with another body."""
        return self.changed(self.request.url, msgspec.json.decode(body), ())

    def answer(self, own: OwnReply) -> APIResponse[Any]:
        """Make a response of an answer of ours; an error, so that the client never parses it."""
        return APIResponse(**self._answer(own))

    def answer_async(self, own: OwnReply) -> AsyncAPIResponse[Any]:
        """Make a response of an answer of ours, for an async client."""
        return AsyncAPIResponse(**self._answer(own))

    def _answer(self, own: OwnReply) -> dict[str, Any]:
        request = self.request
        sent = httpx2.Request(request.method, httpx2.URL("https://api.anthropic.com").join(request.url))
        return {
            "raw": response_of(own, sent),
            "cast_to": request.cast_to,
            "client": None,
            "stream": False,
            "stream_cls": None,
            "options": request.options,
            "retries_taken": request.retries_taken,
        }

    def _with_betas(self, betas: tuple[bytes, ...]) -> dict[str, str]:
        known = self._seen.get(_BETA, "")
        added = [beta.decode() for beta in betas if beta.decode() not in known]
        return {_BETA: ",".join((known, *added) if known else added)} if added else {}


_BETA: Final = "anthropic-beta"
_Client: TypeAlias = anthropic.Anthropic | anthropic.AsyncAnthropic


class _Asking:
    """Makes the requests of a call out of the attempt's."""

    def __init__(self, hook: _Hook, opened: Opened) -> None:
        self.failures = Failures()
        self._hook = hook
        self._opened = opened

    def outgoing(self, changes: tuple[Change, ...]) -> Outgoing:
        return self._made(self._hook.request.url, rewrite(self._opened.body, changes), changes)

    @property
    def again(self) -> Again | None:
        """Makes the audit's request; None where the SDK does not tell where calls go."""
        return None if self._hook.address is None else self._again

    def counting(self, changes: tuple[Change, ...]) -> Outgoing:
        url = self._hook.request.url.replace(MESSAGES, COUNT_TOKENS, 1)
        return self._made(url, counting_body(self._opened.body, changes), changes)

    def _again(self, changes: tuple[Change, ...]) -> Outgoing:
        assert self._hook.address is not None
        headers = outgoing_headers(self._hook.headers, key=None, betas=betas_for(changes))
        body = rewrite(self._opened.body, changes)
        return as_another_call(Outgoing(method="POST", target=self._hook.address, headers=headers, body=body))

    def _made(self, url: str, body: bytes, changes: tuple[Change, ...]) -> Outgoing:
        headers = [(_BETA.encode(), beta) for beta in betas_for(changes)]
        return Outgoing(method="POST", target=url, headers=headers, body=body)

    def _request(self, outgoing: Outgoing) -> APIRequest:
        """The SDK's request: of the fields, those that are as they came stay the SDK's own objects."""
        came, asked = self._opened.body.fields, self._hook.json
        fields = {
            name: asked[name] if raw == came.get(name) else msgspec.json.decode(raw)
            for name, raw in _fields(outgoing.body).items()
        }
        return self._hook.changed(outgoing.target, fields, tuple(value for _, value in outgoing.headers))


class _Way(_Asking):
    """By the rest of the chain."""

    def __init__(self, hook: _Hook, opened: Opened, call_next: CallNext) -> None:
        super().__init__(hook, opened)
        self._call_next = call_next
        self.responses: list[APIResponse[Any]] = []

    def send(self, request: Outgoing) -> HttpxReply:
        with self.failures.noted():
            self.responses.append(self._call_next(self._request(request)))
        return HttpxReply(self.responses[-1].http_response, self.failures)


class _AsyncWay(_Asking):
    """By the rest of an async client's chain."""

    def __init__(self, hook: _Hook, opened: Opened, call_next: AsyncCallNext) -> None:
        super().__init__(hook, opened)
        self._call_next = call_next
        self.responses: list[AsyncAPIResponse[Any]] = []

    async def send(self, request: Outgoing) -> AsyncHttpxReply:
        with self.failures.noted():
            self.responses.append(await self._call_next(self._request(request)))
        return AsyncHttpxReply(self.responses[-1].http_response, self.failures)


def _json_of(request: APIRequest) -> dict[str, Any]:
    """The body, which the SDK has made ready for JSON."""
    body = request.json
    fields = dict(cast("Mapping[str, Any]", body)) if isinstance(body, Mapping) else {}
    return {**fields, **(request.options.extra_json or {})}


def _dumped(value: Any) -> Any:
    """What JSON has no word for: a model that another middleware put into the body."""
    if isinstance(value, anthropic.BaseModel):
        return value.model_dump(exclude_unset=True, mode="json", by_alias=True)
    raise NotImplementedError  # so msgspec asks for it: it raises a TypeError that names the type


_encode: Final = msgspec.json.Encoder(enc_hook=_dumped).encode
_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _headers_of(request: APIRequest, client: _Client | None) -> dict[str, str]:
    """The headers that an attempt will have, by lower-case name, as far as they can be known here."""
    headers: dict[str, str] = {}
    for layer in ({} if client is None else client.default_headers, request.headers):
        for name, value in layer.items():
            if isinstance(value, str):
                headers[name.lower()] = value
            else:  # it is left out on purpose
                headers.pop(name.lower(), None)
    return headers


def _address(request: APIRequest, client: _Client) -> str | None:
    """The whole address of a request, whose own is most often what follows the client's; None if it has parameters."""
    own = request.url
    if request.options.params:
        return None
    return own if "://" in own else f"{str(client.base_url).rstrip('/')}/{own.lstrip('/')}"


def _client_of(call_next: object) -> _Client | None:
    """The client, which has the headers of every call: its key, its version, its `default_headers`; and the address.

    The SDK does not tell a middleware of its client. The last link of the chain is a function that holds it, and each
    link before holds the next. Where an SDK is built otherwise, only a call's own headers are seen; the log says so.
    """
    link = call_next
    while isinstance(link, FunctionType):
        held = dict(zip(link.__code__.co_freevars, link.__closure__ or (), strict=True))
        client = held["self"].cell_contents if "self" in held else None
        if isinstance(client, anthropic.Anthropic | anthropic.AsyncAnthropic):
            return client
        link = held["call_next"].cell_contents if "call_next" in held else None
    _say_once()
    return None


_said: Final[list[str]] = []


def _say_once() -> None:
    if not _said:
        _said.append(anthropic.__version__)
        log.warning(
            "this anthropic SDK (%s) does not show a middleware its client: `default_headers` declare nothing, and "
            "calls are not told apart by key; tierwise.Transport sees both",
            anthropic.__version__,
        )
