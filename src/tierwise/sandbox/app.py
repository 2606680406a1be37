"""The provider as an ASGI application: a request is read, checked, answered, billed and sent.

Served: POST /v1/messages (JSON and SSE) and /v1/messages/count_tokens, GET /v1/models and /v1/models/{id},
HEAD /api/hello; and for whoever checks against it, GET /sandbox/billing, GET /sandbox/calls?limit=N and
POST /sandbox/reset.

A call is billed before its last byte leaves, so that who has read a reply finds it in the bill. One that the
client leaves or the sandbox cuts is billed for its prompt and the output that was sent. Without a gap between
events a stream leaves in one piece, and is sent as soon as it begins.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from tierwise.sandbox import binding, catalogue, directive, encode, faults, tokens, validate
from tierwise.sandbox.bill import Call, Charge, Ledger, Speed, Usage, price
from tierwise.sandbox.cache import Cache, Split
from tierwise.sandbox.encode import Envelope, Frame
from tierwise.sandbox.errors import ApiError, invalid
from tierwise.sandbox.faults import NO_FAULT, Fault
from tierwise.sandbox.models import Model, find
from tierwise.sandbox.replies import Ask, Reply, World, compose, refuse
from tierwise.sandbox.shapes import is_object, parts_of

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Mapping[bytes, bytes]

MAX_BODY_BYTES: Final = 32_000_000
ORGANIZATION: Final = b"00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the sandbox behaves; nothing here changes what a reply says or costs."""

    rpm: int | None = None
    """Requests a minute before a 429; None for no limit."""
    latency_seconds: float = 0.0
    """Before every reply."""
    event_gap_seconds: float = 0.0
    """Before every event of a stream."""
    now: Callable[[], float] = time.time
    """The clock, in seconds since the epoch: the prompt cache and the rate limit go by it."""


class Sandbox:
    """The ASGI application. One event loop owns it."""

    def __init__(self, world: World, settings: Settings | None = None) -> None:
        """Serve replies drawn from `world`."""
        self.world = world
        self.settings = settings or Settings()
        self.ledger = Ledger()
        self._cache = Cache()
        self._limit = _Limit(self.settings)
        self._count = 0
        self._strikes: dict[tuple[str, str], int] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            return
        self._count += 1
        request_id = f"req_sandbox{self._count:016d}"
        try:
            await self._route(scope, receive, send, request_id)
        except ApiError as error:
            await _send_error(error, send, request_id, self._limit.headers())

    async def _route(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        method, path = scope["method"], scope["path"]
        headers: Headers = dict(scope["headers"])
        match method, path:
            case "POST", "/v1/messages":
                body = await _read(receive)
                _check_credentials(headers)
                await _Exchange(self, headers, request_id, receive, send).run(body)
            case "POST", "/v1/messages/count_tokens":
                body = await _read(receive)
                _check_credentials(headers)
                count = self._counted(headers, body)
                await _send_json(send, {"input_tokens": count}, request_id)
            case "GET", _ if path == "/v1/models" or path.startswith("/v1/models/"):
                _check_credentials(headers)
                query = parse_qs(scope["query_string"].decode())
                await _send_json(send, catalogue.answer(path, query), request_id)
            case "HEAD", "/api/hello":
                await _respond(send, 200, [(b"request-id", request_id.encode())], b"")
            case "GET", "/sandbox/billing":
                await _send_json(send, self.ledger.billing(), request_id)
            case "GET", "/sandbox/calls":
                limit = parse_qs(scope["query_string"].decode()).get("limit", ["100"])[0]
                if not limit.isdecimal():
                    raise invalid("limit: Input should be a valid integer")
                await _send_json(send, {"calls": self.ledger.latest(int(limit))}, request_id)
            case "POST", "/sandbox/reset":
                self.reset()
                await _send_json(send, {"reset": True}, request_id)
            case _:
                await _read(receive)
                raise ApiError(status=404, message=f"Not found: {method} {path}")

    def reset(self) -> None:
        """Forget every call, every cached prompt and every fault that was counted."""
        self.ledger.reset()
        self._cache.clear()
        self._limit.clear()
        self._strikes.clear()

    def admit(self) -> None:
        """Count a request against the limit. Raises ApiError (429)."""
        self._limit.admit()

    def rate_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of the organization and its rate limits."""
        return self._limit.headers()

    def read_cache(self, prompt: list[tokens.Block], ask: Ask) -> Split:
        """Divide a prompt by what the cache holds, and remember it."""
        return self._cache.split(
            prompt,
            ask.model,
            length=ask.prompt_tokens,
            auto=ask.body.get("cache_control"),
            at=self.settings.now(),
        )

    def fault_of(self, asked: str | None, text: str) -> Fault:
        """The fault to play, if it has not had its turns. Raises ApiError (400) for an unknown one."""
        if not asked:
            return NO_FAULT
        fault = faults.parse(asked)
        if fault.times is None:
            return fault
        strikes = self._strikes.get((asked, text), 0)
        self._strikes[asked, text] = strikes + 1
        return fault if strikes < fault.times else NO_FAULT

    def _counted(self, headers: Headers, raw: bytes) -> int:
        body, model = _checked(headers, raw, counting=True)
        text = _last_text(body)
        apart = directive.told_apart(directive.find(text, body), text)
        prompt = tokens.blocks(body, model, stands_for=apart)
        return tokens.prompt_tokens(prompt, model)


class _Exchange:
    """One POST /v1/messages, from its bytes to its bill."""

    def __init__(
        self, sandbox: Sandbox, headers: Headers, request_id: str, receive: Receive, send: Send
    ) -> None:
        self._sandbox = sandbox
        self._headers = headers
        self._request_id = request_id
        self._send = send
        self._client = _Client(receive)

    async def run(self, raw: bytes) -> None:
        """Answer. Raises ApiError before anything is sent."""
        sandbox = self._sandbox
        sandbox.admit()
        body, model = _checked(self._headers, raw)
        text = _last_text(body)
        asked = directive.find(text, body)
        fault = sandbox.fault_of(
            asked.get("fault") or self._headers.get(b"x-sandbox-fault", b"").decode(), text
        )
        if fault.error is not None:
            raise fault.error
        prompt = tokens.blocks(body, model, stands_for=directive.told_apart(asked, text))
        length = tokens.prompt_tokens(prompt, model)
        _check_length(length, model)
        ask = Ask(
            body=body,
            model=model,
            directive=asked,
            text=text,
            thinking=validate.thinking_of(body, model),
            effort=validate.effort_of(body, model),
            prompt_tokens=length,
        )
        reply = compose(ask, sandbox.world)
        if fault.refusal is not None:
            reply = refuse(reply, midstream=fault.refusal == "refusal-midstream", category=fault.category)
        bill = _bill(ask, reply, sandbox.read_cache(prompt, ask))
        await self._answer(ask, reply, bill, fault)

    async def _answer(self, ask: Ask, reply: Reply, bill: "_Bill", fault: Fault) -> None:
        envelope = replace(
            bill.envelope,
            message_id=f"msg_{self._request_id.removeprefix('req_')}",
            no_usage=fault.no_usage,
            unknown_fields=fault.unknown_fields,
        )
        entry = _Entry(
            ledger=self._sandbox.ledger,
            request_id=self._request_id,
            ask=ask,
            reply=reply,
            bill=bill,
            headers=self._headers,
            is_billed=fault.refusal != "refusal",
        )
        try:
            first = self._sandbox.settings.latency_seconds + fault.first_seconds
            if first and await self._client.leaves_within(first):
                entry.close("left", tokens=0)
            elif ask.body.get("stream"):
                await self._stream(encode.frames(reply, envelope), entry, fault)
            else:
                await self._whole(encode.message(reply, envelope), entry, fault)
        finally:
            self._client.forget()
            entry.close("left")

    async def _whole(self, body: bytes, entry: "_Entry", fault: Fault) -> None:
        if fault.break_kind == "error-after":
            entry.close("error", tokens=0, billed=False)
            raise ApiError(status=529, message="Overloaded")
        headers = self._reply_headers(b"application/json", fault)
        headers.append((b"content-length", str(len(body)).encode()))
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        if fault.break_kind is not None:
            entry.close("cut")
            await self._send(
                {"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True}
            )
            return  # without the rest, the server closes the connection
        entry.close()
        await self._send({"type": "http.response.body", "body": body})

    async def _stream(self, frames: list[Frame], entry: "_Entry", fault: Fault) -> None:
        headers = self._reply_headers(b"text/event-stream; charset=utf-8", fault)
        headers.append((b"cache-control", b"no-cache"))
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        broken = fault.break_kind is not None and fault.break_after < len(frames)
        kept = frames[: fault.break_after] if broken else frames
        gap = self._sandbox.settings.event_gap_seconds + fault.gap_seconds
        rest = await self._paced(kept, entry, fault, gap)
        if rest is None:
            return
        if broken:
            await self._break(rest, frames[fault.break_after], entry, fault)
            return
        entry.close()
        await self._send({"type": "http.response.body", "body": rest})

    async def _paced(self, frames: list[Frame], entry: "_Entry", fault: Fault, gap: float) -> bytes | None:
        """Send all events but those after the last pause, which are returned; None when the client left."""
        waiting: list[bytes] = []
        for place, frame in enumerate(frames):
            pause = gap + (fault.stall_seconds if place == fault.stall_after else 0.0)
            if pause:
                if waiting:
                    await self._send(
                        {"type": "http.response.body", "body": b"".join(waiting), "more_body": True}
                    )
                    waiting = []
                if await self._client.leaves_within(pause):
                    entry.close("left")
                    return None
            waiting.append(frame.data)
            entry.sent_tokens = frame.tokens
        return b"".join(waiting)

    async def _break(self, rest: bytes, following: Frame, entry: "_Entry", fault: Fault) -> None:
        last = fault.break_kind != "error-after"
        entry.close("cut" if last else "error")
        match fault.break_kind:
            case "error-after":
                rest += encode.error_event(ApiError(status=529, message="Overloaded").body(self._request_id))
            case "half-event":
                rest += following.data[: len(following.data) // 2]
            case _:
                pass
        await self._send({"type": "http.response.body", "body": rest, "more_body": last})

    def _reply_headers(self, content_type: bytes, fault: Fault) -> list[tuple[bytes, bytes]]:
        headers = [
            (b"content-type", content_type),
            (b"request-id", self._request_id.encode()),
            *self._sandbox.rate_headers(),
        ]
        if fault.unknown_fields:
            headers.append((b"anthropic-sandbox-later", b"kept"))
        return headers


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bill:
    """What a finished reply is charged, and how its usage is told."""

    charges: tuple[Charge, ...]
    """The last one is the reply's own."""
    envelope: Envelope


_HELPER_USAGE: Final = {
    "compaction": Usage(input_tokens=2_400, output_tokens=320),
    "advisor_message": Usage(input_tokens=1_200, output_tokens=150),
}
_DECLINED_TOKENS: Final = 12
"""What a model that declines and hands over has written by then."""


def _bill(ask: Ask, reply: Reply, split: Split) -> _Bill:
    usage = Usage(
        input_tokens=split.fresh,
        cache_write_5m_tokens=split.write_5m,
        cache_write_1h_tokens=split.write_1h,
        cache_read_tokens=split.read,
        output_tokens=reply.output_tokens,
        thinking_tokens=reply.thinking_tokens,
        web_searches=directive.number(ask.directive, "searches") or 0,
    )
    us_only = ask.body.get("inference_geo") == "us"
    speed: Speed = "fast" if validate.runs_fast(ask.body, ask.model) else "standard"
    own = Charge(model=ask.model.id, usage=usage, us_only=us_only, speed=speed)
    kind = ask.directive.get("iterations")
    if kind is None:
        return _Bill(charges=(own,), envelope=_envelope(own))
    return _bill_of_iterations(ask, own, kind)


def _bill_of_iterations(ask: Ask, own: Charge, kind: str) -> _Bill:
    named = ask.directive.get("helper") or _HELPERS.get(kind)
    helper = ask.model if kind == "compaction" else find(named or "")
    if helper is None:
        raise invalid(f"sandbox: no iterations {kind!r}, or no model {named!r} to help")
    if kind == "fallback_message":
        declined = replace(own, usage=replace(own.usage, output_tokens=_DECLINED_TOKENS, thinking_tokens=0))
        serving = Charge(
            model=helper.id,
            usage=Usage(input_tokens=own.usage.prompt_tokens, output_tokens=own.usage.output_tokens),
            us_only=own.us_only,
        )
        block = {
            "type": "fallback",
            "from": {"model": str(ask.body["model"])},
            "to": {"model": helper.id},
            "trigger": {"type": "refusal", "category": None},
        }
        told = [_iteration("message", declined), _iteration(kind, serving)]
        return _Bill(
            charges=(declined, serving), envelope=replace(_envelope(serving), iterations=told, fallback=block)
        )
    extra = Charge(
        model=helper.id,
        usage=_HELPER_USAGE[kind],
        us_only=own.us_only,
        speed=own.speed if kind == "compaction" else "standard",
    )
    told = [_iteration(kind, extra), _iteration("message", own)]
    return _Bill(charges=(extra, own), envelope=replace(_envelope(own), iterations=told))


_HELPERS: Final = {"advisor_message": "claude-opus-5-5", "fallback_message": "claude-sonnet-5"}


def _envelope(charge: Charge) -> Envelope:
    return Envelope(
        message_id="",
        model=charge.model,
        usage=charge.usage,
        speed=charge.speed,
        geo="us" if charge.us_only else "global",
    )


def _iteration(kind: str, charge: Charge) -> dict[str, Any]:
    usage = charge.usage
    fields: dict[str, Any] = {
        "type": kind,
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m_tokens,
            "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
        },
        "output_tokens": usage.output_tokens,
    }
    return fields if kind == "compaction" else fields | {"model": charge.model}


@dataclass(slots=True, kw_only=True)
class _Entry:
    """A call's line in the ledger; the first `close` writes it, later ones do nothing."""

    ledger: Ledger
    request_id: str
    ask: Ask
    reply: Reply
    bill: _Bill
    headers: Headers
    is_billed: bool
    sent_tokens: int = 0
    """Output tokens that have been sent."""
    is_open: bool = True

    def close(self, ending: str | None = None, *, tokens: int | None = None, billed: bool = True) -> None:
        """Write the line: the whole reply when it has no other `ending`, else what was sent of it."""
        if not self.is_open:
            return
        self.is_open = False
        finished = ending is None
        whole_cut = ending == "cut" and not self.ask.body.get("stream")
        sent = self.sent_tokens if tokens is None else tokens
        charges = self.bill.charges if finished or whole_cut else self._partly(sent)
        billed = billed and self.is_billed
        self.ledger.add(
            Call(
                request_id=self.request_id,
                model=self.bill.envelope.model,
                charges=charges,
                nanos=price(charges) if billed else 0,
                billed=billed,
                ending=ending or self.reply.stop_reason,
                cut_tokens=self.reply.cut_tokens if finished else 0,
                sent=_sent(self.ask.body, self.headers),
            )
        )

    def _partly(self, sent: int) -> tuple[Charge, ...]:
        *before, own = self.bill.charges
        usage = replace(
            own.usage,
            output_tokens=sent,
            thinking_tokens=min(own.usage.thinking_tokens, sent),
            web_searches=0,
        )
        return (*before, replace(own, usage=usage))


_RECORDED: Final = (
    "model",
    "max_tokens",
    "stream",
    "thinking",
    "output_config",
    "tool_choice",
    "speed",
    "metadata",
)


def _sent(body: Mapping[str, Any], headers: Headers) -> dict[str, Any]:
    fields: dict[str, Any] = {field: body[field] for field in _RECORDED if field in body}
    fields["fields"] = sorted(body)
    fields["version"] = headers[b"anthropic-version"].decode()
    fields["headers"] = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in headers.items()
        if name.startswith(b"x-") and name != b"x-api-key" and not name.startswith(b"x-stainless-")
    }
    return fields


class _Client:
    """The other end of the connection: whether it leaves while we wait."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._leaving: asyncio.Future[Message] | None = None

    async def leaves_within(self, seconds: float) -> bool:
        """Wait; True as soon as the client has closed the connection."""
        if self._leaving is None:
            self._leaving = asyncio.ensure_future(self._receive())
        done, _ = await asyncio.wait({self._leaving}, timeout=seconds)
        return bool(done)

    def forget(self) -> None:
        """Stop watching."""
        if self._leaving is not None:
            self._leaving.cancel()


class _Limit:
    """Requests in the last minute against the limit, and the headers that tell it."""

    def __init__(self, settings: Settings) -> None:
        self._rpm = settings.rpm
        self._now = settings.now
        self._times: deque[float] = deque()
        self._told: tuple[int, int] | None = None
        self._headers: list[tuple[bytes, bytes]] = []

    def admit(self) -> None:
        if self._rpm is None:
            return
        now = self._now()
        while self._times and self._times[0] <= now - 60:
            self._times.popleft()
        if len(self._times) >= self._rpm:
            wait = max(1, round(self._times[0] + 60 - now))
            raise ApiError(
                status=429,
                message=f"This request would exceed your rate limit of {self._rpm} requests per minute.",
                headers=((b"retry-after", str(wait).encode()),),
            )
        self._times.append(now)

    def clear(self) -> None:
        self._times.clear()

    def headers(self) -> list[tuple[bytes, bytes]]:
        second, used = int(self._now()), len(self._times)
        if self._told != (second, used):
            self._told = (second, used)
            self._headers = list(_rate_headers(self._rpm or _UNLIMITED_RPM, used, second))
        return self._headers


_UNLIMITED_RPM: Final = 1_000_000
_TOKEN_LIMIT: Final = b"100000000"


def _rate_headers(rpm: int, used: int, second: int) -> list[tuple[bytes, bytes]]:
    reset = datetime.fromtimestamp(second + 60, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    headers = [
        (b"anthropic-organization-id", ORGANIZATION),
        (b"anthropic-ratelimit-requests-limit", str(rpm).encode()),
        (b"anthropic-ratelimit-requests-remaining", str(rpm - used).encode()),
        (b"anthropic-ratelimit-requests-reset", reset),
    ]
    for kind in (b"tokens", b"input-tokens", b"output-tokens"):
        headers += [
            (b"anthropic-ratelimit-%s-limit" % kind, _TOKEN_LIMIT),
            (b"anthropic-ratelimit-%s-remaining" % kind, _TOKEN_LIMIT),
            (b"anthropic-ratelimit-%s-reset" % kind, reset),
        ]
    return headers


def _check_credentials(headers: Headers) -> None:
    bearer = headers.get(b"authorization", b"")
    if not headers.get(b"x-api-key") and not (bearer[:7].lower() == b"bearer " and bearer[7:].strip()):
        raise ApiError(status=401, message="x-api-key header is required")
    version = headers.get(b"anthropic-version")
    if version is None:
        raise invalid("anthropic-version: header is required")
    if version.decode("latin-1") not in validate.VERSIONS:
        raise invalid(f'anthropic-version: "{version.decode("latin-1")}" is not a valid version')


def _checked(headers: Headers, raw: bytes, *, counting: bool = False) -> tuple[dict[str, Any], Model]:
    """The body and its model, once nothing is wrong with them."""
    try:
        decoded: Any = msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise invalid("The request body is not valid JSON.") from error
    if not is_object(decoded):
        raise invalid("The request body is not a JSON object.")
    body = decoded
    if "model" not in body:
        raise invalid("model: Field required")
    if not isinstance(body["model"], str):
        raise invalid("model: Input should be a valid string")
    model = find(body["model"])
    if model is None:
        raise ApiError(status=404, message=f"model: {body['model']}")
    validate.check_shape(body, counting=counting)
    validate.check_version(body, headers[b"anthropic-version"].decode())
    validate.check_model(
        body, model, betas=headers.get(b"anthropic-beta", b"").decode("latin-1"), counting=counting
    )
    binding.check(body, model)
    return body, model


def _check_length(length: int, model: Model) -> None:
    if length > model.context_tokens:
        raise invalid(f"prompt is too long: {length} tokens > {model.context_tokens} maximum")


def _last_text(body: Mapping[str, Any]) -> str:
    """The text of the last user turn."""
    message = next((message for message in reversed(body["messages"]) if message["role"] == "user"), None)
    content: Any = "" if message is None else message["content"]
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in parts_of(content) if part["type"] == "text")


async def _read(receive: Receive) -> bytes:
    """The whole body. Raises ApiError (413) beyond 32 MB, after reading it, so that the answer arrives."""
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        size += len(message["body"])
        if size <= MAX_BODY_BYTES:
            parts.append(message["body"])
        more = message["more_body"]
    if size > MAX_BODY_BYTES:
        raise ApiError(status=413, message="Request exceeds the maximum size")
    return b"".join(parts)


async def _send_json(send: Send, value: Any, request_id: str) -> None:
    headers = [(b"content-type", b"application/json"), (b"request-id", request_id.encode())]
    await _respond(send, 200, headers, msgspec.json.encode(value))


async def _send_error(error: ApiError, send: Send, request_id: str, more: list[tuple[bytes, bytes]]) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"request-id", request_id.encode()),
        *error.headers,
        *more,
    ]
    await _respond(send, error.status, headers, error.body(request_id))


async def _respond(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
