"""The sandbox's OpenAI-compatible side: chat completions, responses and models, faults and a bill of its own.

Both providers have `/v1/models`. Anthropic's clients send `anthropic-version` there, and `x-api-key` as a rule;
OpenAI's send neither. `GET /sandbox/openai/billing` tells the bill. Faults are those of `faults`, but for refusals,
which are refused; the limit of requests a minute and the latency are the sandbox's own.
"""

from typing import Any, Final, NamedTuple

import msgspec

from tierwise.sandbox import directive, openai_models
from tierwise.sandbox.errors import ApiError, invalid
from tierwise.sandbox.exchange import Client, Receive, Send
from tierwise.sandbox.faults import Fault
from tierwise.sandbox.intake import Headers
from tierwise.sandbox.limits import HeaderList
from tierwise.sandbox.openai_bill import SEARCH_NANOS, Bill, Line, Tokens, price
from tierwise.sandbox.openai_models import PATH
from tierwise.sandbox.openai_replies import Answer, Frame, compose, error_body, last_text, prompt_tokens
from tierwise.sandbox.openai_wire import error_frame, frames, whole
from tierwise.sandbox.provider import Provider
from tierwise.sandbox.shapes import Object, is_object

KINDS: Final = {"/v1/chat/completions": "chat", "/v1/responses": "responses"}

_SHORTEST_CACHED: Final = 1024
_CACHED_STEP: Final = 128
"""Prompts are cached from 1,024 tokens on, in steps of 128."""

_RECORDED: Final = (
    "model", "max_completion_tokens", "max_tokens", "max_output_tokens", "reasoning_effort", "reasoning", "stream",
    "stream_options", "n",
)  # fmt: skip


def asks(method: str, path: str, headers: Headers) -> bool:
    """Whether a request is one of OpenAI's clients."""
    if method == "GET" and (path == PATH or path.startswith(f"{PATH}/")):
        return not {b"anthropic-version", b"x-api-key"} & headers.keys()
    return method == "POST" and path in KINDS


class OpenAI:
    """The state that its requests share."""

    def __init__(self, provider: Provider) -> None:
        """Play the provider's faults, with a bill and a cache of its own."""
        self._provider = provider
        self.bill = Bill()
        self._seen: set[bytes] = set()

    def reset(self) -> None:
        """Forget every call and every cached prompt."""
        self.bill = Bill()
        self._seen.clear()

    async def answer(
        self, path: str, headers: Headers, raw: bytes, *, request_id: str, receive: Receive, send: Send
    ) -> None:
        """Answer one call."""
        try:
            _check_key(headers)
            if path not in KINDS:
                told: HeaderList = [
                    (b"content-type", b"application/json"),
                    (b"x-request-id", request_id.encode()),
                ]
                return await _respond(send, 200, told, msgspec.json.encode(openai_models.answer(path)))
            body = _decoded(raw)
            await self._answer(KINDS[path], headers, body, request_id, _Wire(Client(receive), send))
        except ApiError as error:
            told = [
                (b"content-type", b"application/json"),
                (b"x-request-id", request_id.encode()),
                *error.headers,
            ]
            await _respond(send, error.status, told, error_body(error.status, error.message, error.code))

    async def _answer(
        self, kind: str, headers: Headers, body: Object, request_id: str, wire: "_Wire"
    ) -> None:
        self._provider.limit.admit()
        text = last_text(body, kind)
        asked = directive.find(text, body).get("fault") or headers.get(b"x-sandbox-fault", b"").decode()
        fault = self._provider.fault_of(asked, text)
        if fault.error is not None:
            raise fault.error
        if fault.refusal is not None:
            raise invalid("x-sandbox-fault: refusals are played on /v1/messages alone")
        answer = compose(body, kind=kind, request_id=request_id, text=text, cached=self._cached(body, kind))
        entry = _Entry(self.bill, answer, headers)
        try:
            pause = self._provider.settings.latency_seconds + fault.first_seconds
            if pause and await wire.client.leaves_within(pause):
                entry.close("left")
            elif body.get("stream"):
                await _Stream(wire, entry, fault, self._provider.settings.event_gap_seconds).run(answer)
            else:
                await _whole(wire.send, answer, entry, fault)
        finally:
            wire.client.forget()
            entry.close("left")

    def _cached(self, body: Object, kind: str) -> int:
        """How many tokens of a prompt were read before: all that could be cached, or none."""
        prompt = msgspec.json.encode([body.get("model"), body.get("messages"), body.get("input")])
        seen = prompt in self._seen
        self._seen.add(prompt)
        tokens = prompt_tokens(body, kind)
        return tokens - tokens % _CACHED_STEP if seen and tokens >= _SHORTEST_CACHED else 0


class _Wire(NamedTuple):
    """The connection of one call."""

    client: Client
    send: Send


class _Entry:
    """A call's line on the bill; the first `close` writes it, later ones do nothing."""

    def __init__(self, bill: Bill, answer: Answer, headers: Headers) -> None:
        self._bill = bill
        self._answer = answer
        self._headers = headers
        self._open = True
        self.sent_tokens = 0

    def close(self, ending: str | None = None, *, billed: bool = True) -> None:
        if not self._open:
            return
        self._open = False
        answer, tokens = self._answer, self._answer.tokens
        if ending is not None:
            tokens = Tokens(prompt=tokens.prompt, cached=tokens.cached, output=self.sent_tokens, reasoning=0)
        self._bill.lines.append(
            Line(
                request_id=answer.id,
                model=answer.model,
                kind=answer.kind,
                tokens=tokens,
                searches=answer.searches,
                nanos=price(answer.model, tokens) + answer.searches * SEARCH_NANOS if billed else 0,
                ending=ending or ("length" if answer.cut else "stop"),
                fields=tuple(answer.body),
                sent={name: answer.body[name] for name in _RECORDED if name in answer.body},
                headers=_told(self._headers),
            )
        )


def _told(headers: Headers) -> dict[str, str]:
    return {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in headers.items()
        if name not in {b"authorization", b"x-api-key", b"cookie"}
    }


async def _whole(send: Send, answer: Answer, entry: _Entry, fault: Fault) -> None:
    body = whole(answer, usage=not fault.no_usage, later=fault.unknown_fields)
    headers = _headers(answer, b"application/json", fault)
    if fault.break_kind == "error-after":
        entry.close("error", billed=False)
        raise ApiError(status=500, message="The server had an error.")
    if fault.break_kind is None:
        entry.close()
        return await _respond(send, 200, headers, body)
    entry.close("cut")
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    return await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})


class _Stream:
    """One reply as a stream."""

    def __init__(self, wire: "_Wire", entry: _Entry, fault: Fault, gap_seconds: float) -> None:
        self._send = wire.send
        self._client = wire.client
        self._entry = entry
        self._fault = fault
        self._gap = gap_seconds + fault.gap_seconds

    async def run(self, answer: Answer) -> None:
        fault, entry = self._fault, self._entry
        headers = _headers(answer, b"text/event-stream; charset=utf-8", fault)
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        events = list(frames(answer, usage=not fault.no_usage, later=fault.unknown_fields))
        broken = fault.break_kind is not None and fault.break_after < len(events)
        for place, frame in enumerate(events[: fault.break_after] if broken else events):
            if await self._left_before(place):
                return entry.close("left")
            if place == len(events) - 1:
                entry.close()
                return await self._send({"type": "http.response.body", "body": frame.data})
            entry.sent_tokens = frame.tokens
            await self._send({"type": "http.response.body", "body": frame.data, "more_body": True})
        return await self._break(answer, events[fault.break_after])

    async def _left_before(self, place: int) -> bool:
        fault = self._fault
        pause = self._gap + (fault.stall_seconds if place == fault.stall_after else 0.0)
        return bool(pause) and await self._client.leaves_within(pause)

    async def _break(self, answer: Answer, following: Frame) -> None:
        failed = self._fault.break_kind == "error-after"
        self._entry.close("error" if failed else "cut")
        rest = error_frame(answer, "The server had an error.") if failed else b""
        if self._fault.break_kind == "half-event":
            rest = following.data[: len(following.data) // 2]
        await self._send({"type": "http.response.body", "body": rest, "more_body": not failed})


def _headers(answer: Answer, kind: bytes, fault: Fault) -> HeaderList:
    headers = [
        (b"content-type", kind),
        (b"x-request-id", answer.id.encode()),
        (b"openai-version", b"2020-10-01"),
    ]
    return [*headers, (b"openai-sandbox-later", b"kept")] if fault.unknown_fields else headers


def _check_key(headers: Headers) -> None:
    if not headers.get(b"authorization", b"").startswith(b"Bearer "):
        raise ApiError(status=401, message="You didn't provide an API key.")


def _decoded(raw: bytes) -> dict[str, Any]:
    try:
        body: Any = msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise invalid("We could not parse the JSON body of your request.") from error
    if not is_object(body):
        raise invalid("We could not parse the JSON body of your request.")
    return body


async def _respond(send: Send, status: int, headers: HeaderList, body: bytes) -> None:
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
