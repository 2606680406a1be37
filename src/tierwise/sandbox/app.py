"""The provider as an ASGI application: which path does what, and how errors are answered.

Served: POST /v1/messages (JSON and SSE) and /v1/messages/count_tokens, GET /v1/models and /v1/models/{id},
POST and GET /v1/messages/batches and below, HEAD /api/hello; for OpenAI's clients POST /v1/chat/completions and
/v1/responses, GET /v1/models and /v1/models/{id}; and for whoever checks against it,
GET /sandbox/billing, GET /sandbox/openai/billing, GET /sandbox/calls?limit=N and POST /sandbox/reset.
"""

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from tierwise.sandbox import batches, catalogue, directive, intake, openai
from tierwise.sandbox.batches import Batches
from tierwise.sandbox.errors import ApiError, invalid
from tierwise.sandbox.exchange import Exchange, Receive, Send
from tierwise.sandbox.intake import Headers
from tierwise.sandbox.limits import HeaderList
from tierwise.sandbox.openai import OpenAI
from tierwise.sandbox.provider import Provider, Settings
from tierwise.sandbox.replies import World

Scope = MutableMapping[str, Any]

MAX_BODY_BYTES: Final = 32_000_000


class Sandbox:
    """The ASGI application."""

    def __init__(self, world: World, settings: Settings | None = None) -> None:
        """Serve replies drawn from `world`."""
        self.provider = Provider(world, settings or Settings())
        self._batches = Batches(self.provider)
        self._openai = OpenAI(self.provider)
        self._count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            return
        self._count += 1
        request_id = f"req_sandbox{self._count:016d}"
        headers: Headers = dict(scope["headers"])
        try:
            of_batches = scope["path"].startswith(batches.PATH)
            body = await _read(receive, batches.MAX_BODY_BYTES if of_batches else MAX_BODY_BYTES)
            if scope["method"] == "POST" and scope["path"] == "/v1/messages":
                intake.check_credentials(headers)
                await Exchange(self.provider, headers, request_id, receive=receive, send=send).run(body)
            elif openai.asks(scope["method"], scope["path"], headers):
                await self._openai.answer(
                    scope["path"], headers, body, request_id=request_id, receive=receive, send=send
                )
            else:
                value = self._value(scope["method"], scope["path"], headers, scope["query_string"], body)
                await _send_value(send, value, request_id)
        except ApiError as error:
            await _send_error(error, send, request_id, self.provider.limit.headers())

    def _value(self, method: str, path: str, headers: Headers, query_string: bytes, body: bytes) -> Any:
        """The JSON value that answers anything but a message; None for an empty answer."""
        query = parse_qs(query_string.decode())
        match method, path:
            case "POST", "/v1/messages/count_tokens":
                intake.check_credentials(headers)
                return {"input_tokens": _counted(headers, body)}
            case _, _ if path.startswith(batches.PATH):
                return self._batches.answer(method, path, headers, query, body)
            case "GET", _ if path == "/v1/models" or path.startswith("/v1/models/"):
                intake.check_credentials(headers)
                return catalogue.answer(path, query)
            case "HEAD", "/api/hello":
                return None
            case "GET", "/sandbox/billing":
                return self.provider.ledger.billing()
            case "GET", "/sandbox/openai/billing":
                return self._openai.bill.told()
            case "GET", "/sandbox/calls":
                return {"calls": self.provider.ledger.latest(_limit(query))}
            case "POST", "/sandbox/reset":
                self._batches.reset()
                self._openai.reset()
                return self.provider.reset()
            case _:
                raise ApiError(status=404, message=f"Not found: {method} {path}")


def _counted(headers: Headers, raw: bytes) -> int:
    body = intake.read_body(raw)
    model = intake.check_body(headers, body, counting=True)
    text = intake.last_text(body)
    return intake.measure(body, model, directive.find(text, body), text)[1]


def _limit(query: Mapping[str, Sequence[str]]) -> int:
    limit = query.get("limit", ["100"])[0]
    if not limit.isdecimal():
        raise invalid("limit: Input should be a valid integer")
    return int(limit)


async def _read(receive: Receive, largest: int) -> bytes:
    """The whole body. Raises ApiError (413) beyond the largest, after reading it, so that the answer arrives."""
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        size += len(message["body"])
        if size <= largest:
            parts.append(message["body"])
        more = message["more_body"]
    if size > largest:
        raise ApiError(status=413, message="Request exceeds the maximum size")
    return b"".join(parts)


async def _send_value(send: Send, value: Any, request_id: str) -> None:
    """Answer with JSON; with bytes, which are JSON lines, as they are."""
    is_lines = isinstance(value, bytes)
    kind = b"application/x-jsonl" if is_lines else b"application/json"
    body: bytes = value if is_lines else b"" if value is None else msgspec.json.encode(value)
    await _respond(send, 200, [(b"content-type", kind), (b"request-id", request_id.encode())], body)


async def _send_error(error: ApiError, send: Send, request_id: str, more: HeaderList) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"request-id", request_id.encode()),
        *error.headers,
        *more,
    ]
    await _respond(send, error.status, headers, error.body(request_id))


async def _respond(send: Send, status: int, headers: HeaderList, body: bytes) -> None:
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
