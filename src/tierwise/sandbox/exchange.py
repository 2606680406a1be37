"""One POST /v1/messages: its request is answered, billed and sent, whole or as a stream, or broken on demand.

A call is billed before its last byte leaves, so that who has read a reply finds it in the bill. One that the
client leaves or the sandbox cuts is billed for its prompt and the output that was sent. Without a pause between
events a stream leaves in one piece.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from tierwise.sandbox import directive, encode, intake, validate
from tierwise.sandbox.bill import Call, Ledger, price
from tierwise.sandbox.charges import Bill, bill_of
from tierwise.sandbox.encode import Envelope, Frame
from tierwise.sandbox.errors import ApiError, invalid
from tierwise.sandbox.faults import Fault
from tierwise.sandbox.intake import Headers
from tierwise.sandbox.limits import HeaderList
from tierwise.sandbox.provider import Provider
from tierwise.sandbox.replies import Ask, Reply, compose, refuse
from tierwise.sandbox.shapes import Object
from tierwise.sandbox.threads import Turn

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a request is answered with, before any of it is sent."""

    turn: Turn
    ask: Ask
    reply: Reply
    bill: Bill
    fault: Fault


def reply_to(provider: Provider, headers: Headers, raw: bytes) -> Answered:
    """Check a request, draw its reply and work out its bill. Raises ApiError where it is refused."""
    betas = headers.get(b"anthropic-beta", b"").decode("latin-1")
    turn = provider.threads.turn(intake.read_body(raw), betas=betas, at=provider.settings.now())
    body = turn.body
    model = intake.check_body(headers, body)
    text = intake.last_text(body)
    asked = directive.find(text, body)
    fault_text = asked.get("fault") or headers.get(b"x-sandbox-fault", b"").decode()
    fault = provider.fault_of(fault_text, text)
    if fault.error is not None:
        raise fault.error
    prompt, length = intake.measure(body, model, asked, text)
    if length > model.context_tokens:
        raise invalid(f"prompt is too long: {length} tokens > {model.context_tokens} maximum")
    ask = Ask(
        body=body,
        model=model,
        directive=asked,
        text=text,
        thinking=validate.thinking_of(body, model),
        effort=validate.effort_of(body, model),
        prompt_tokens=length,
    )
    reply = compose(ask, provider.world)
    if fault.refusal is not None:
        reply = refuse(reply, midstream=fault.refusal == "refusal-midstream", category=fault.category)
    bill = bill_of(ask, reply, provider.read_cache(prompt, ask))
    return Answered(turn=turn, ask=ask, reply=reply, bill=bill, fault=fault)


class Exchange:
    """One POST /v1/messages, from its bytes to its bill."""

    def __init__(
        self, provider: Provider, headers: Headers, request_id: str, *, receive: Receive, send: Send
    ) -> None:
        """Answer one request of `provider`; its body has been read."""
        self._provider = provider
        self._headers = headers
        self._request_id = request_id
        self._message_id = f"msg_{request_id.removeprefix('req_')}"
        self._send = send
        self._client = _Client(receive)

    async def run(self, raw: bytes) -> None:
        """Answer. Raises ApiError before anything is sent."""
        provider = self._provider
        provider.limit.admit()
        answered = reply_to(provider, self._headers, raw)
        answered.turn.begin()
        try:
            await self._answer(answered)
        finally:
            answered.turn.end()

    async def _answer(self, answered: Answered) -> None:
        ask, reply, bill, fault = answered.ask, answered.reply, answered.bill, answered.fault
        envelope = Envelope(
            message_id=self._message_id,
            told=bill.told,
            no_usage=fault.no_usage,
            unknown_fields=fault.unknown_fields,
        )
        entry = _Entry(
            ledger=self._provider.ledger,
            request_id=self._request_id,
            answered=answered,
            headers=self._headers,
            is_billed=fault.refusal != "refusal",
        )
        try:
            pause = self._provider.settings.latency_seconds + fault.first_seconds
            if pause and await self._client.leaves_within(pause):
                entry.close("left")
            elif ask.body.get("stream"):
                await self._stream(encode.frames(reply, envelope), entry, fault)
            else:
                await self._whole(encode.message(reply, envelope), entry, fault)
        finally:
            self._client.forget()
            entry.close("left")

    async def _whole(self, body: bytes, entry: "_Entry", fault: Fault) -> None:
        if fault.break_kind == "error-after":
            entry.is_billed = False
            entry.close("error")
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
        self._finish(entry)
        await self._send({"type": "http.response.body", "body": body})

    async def _stream(self, frames: list[Frame], entry: "_Entry", fault: Fault) -> None:
        headers = self._reply_headers(b"text/event-stream; charset=utf-8", fault)
        headers.append((b"cache-control", b"no-cache"))
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        broken = fault.break_kind is not None and fault.break_after < len(frames)
        kept = frames[: fault.break_after] if broken else frames
        gap = self._provider.settings.event_gap_seconds + fault.gap_seconds
        rest = await self._paced(kept, entry, fault, gap)
        if rest is None:
            return
        if broken:
            await self._break(rest, frames[fault.break_after], entry, fault)
            return
        self._finish(entry)
        await self._send({"type": "http.response.body", "body": rest})

    def _finish(self, entry: "_Entry") -> None:
        """Write the line of a reply that goes out whole, and hold its thread."""
        entry.close()
        answered = entry.answered
        if answered.reply.stop_reason != "refusal" and answered.bill.told.fallback is None:
            content = encode.contents(answered.reply)
            answered.turn.hold(self._message_id, content, at=self._provider.settings.now())

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

    def _reply_headers(self, content_type: bytes, fault: Fault) -> HeaderList:
        headers = [
            (b"content-type", content_type),
            (b"request-id", self._request_id.encode()),
            *self._provider.limit.headers(),
        ]
        if fault.unknown_fields:
            headers.append((b"anthropic-sandbox-later", b"kept"))
        return headers


@dataclass(slots=True, kw_only=True)
class _Entry:
    """A call's line in the ledger; the first `close` writes it, later ones do nothing."""

    ledger: Ledger
    request_id: str
    answered: Answered
    headers: Headers
    is_billed: bool
    sent_tokens: int = 0
    """Output tokens that have been sent."""
    is_open: bool = True

    def close(self, ending: str | None = None) -> None:
        """Write the line: of the whole reply when it has no other `ending`, else of what was sent of it."""
        if not self.is_open:
            return
        self.is_open = False
        reply, bill, sent = self.answered.reply, self.answered.bill, self.answered.turn.sent
        was_generated = ending is None or (ending == "cut" and not sent.get("stream"))
        charges = bill.charges if was_generated else bill.for_sent(self.sent_tokens)
        self.ledger.add(
            Call(
                request_id=self.request_id,
                model=bill.told.model,
                charges=charges,
                nanos=price(charges) if self.is_billed else 0,
                billed=self.is_billed,
                ending=ending or reply.stop_reason,
                cut_tokens=reply.cut_tokens if ending is None else 0,
                sent=what_was_sent(sent, self.headers),
            )
        )


_RECORDED: Final = (
    "model",
    "max_tokens",
    "stream",
    "thinking",
    "output_config",
    "tool_choice",
    "speed",
    "metadata",
    "thread",
)


def what_was_sent(body: Object, headers: Headers) -> dict[str, Any]:
    """What the sandbox remembers of a request."""
    fields: dict[str, Any] = {field: body[field] for field in _RECORDED if field in body}
    fields["fields"] = sorted(body)
    fields["turns"] = len(body["messages"])
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
