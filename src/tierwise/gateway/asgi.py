"""The few ASGI types that the gateway speaks, and a whole answer in one go."""

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

LARGEST_BODY: Final = 32 * 2**20
"""The provider's own limit of a request, in bytes; beyond it the answer is 413."""

LARGEST_BATCH: Final = 256 * 2**20
"""The same, of a Message Batch."""


class BodyTooLarge(Exception):
    """The request's body is larger than the provider takes."""


class CallerLeftEarly(Exception):
    """The caller closed its connection before its request was whole."""


async def read_body(receive: Receive, largest: int = LARGEST_BODY) -> bytes:
    """Return the request's whole body.

    Raises:
        BodyTooLarge: it is larger than `largest` bytes; the rest is not read.
        CallerLeftEarly: the connection closed before its end.
    """
    message = await receive()
    if message["type"] == "http.disconnect":
        raise CallerLeftEarly
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        if len(body) > largest:
            raise BodyTooLarge
        return body
    parts = [body]
    size = len(body)
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerLeftEarly
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > largest:
            raise BodyTooLarge
    return b"".join(parts)


async def answer(send: Send, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
    """Send a whole answer."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
