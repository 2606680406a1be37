"""Bodies on their way in: each has its size, and all together have their room. Their time is the protocol's."""

from dataclasses import dataclass

from tierwise.gateway.asgi import LARGEST_BODY, Receive, Scope


@dataclass(slots=True, kw_only=True)
class Intake:
    """How much of bodies a process takes in."""

    room: int = 8 * LARGEST_BODY
    """Bytes that may be held of bodies that are still coming in."""
    held: int = 0
    """How many are."""


class BodyRefused(Exception):
    """The request's body is not taken in."""

    def __init__(self, code: str, sentence: str) -> None:
        """Say which error it is, and what the caller is told."""
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


class CallerLeftEarly(Exception):
    """The caller closed its connection before its request was whole."""


async def read_body(scope: Scope, receive: Receive, intake: Intake, *, largest: int = LARGEST_BODY) -> bytes:
    """Return the request's whole body.

    Raises:
        BodyRefused: it is larger than `largest` bytes, or says that it is; or other bodies have filled the room. The
            rest is not read.
        CallerLeftEarly: the connection closed before its end.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value[:20]) > largest:
            raise _too_large(largest)
    body, more = await _part(receive)
    if more:
        return await _gather(body, receive, intake, largest)
    if len(body) > largest:
        raise _too_large(largest)
    return body


async def _gather(first: bytes, receive: Receive, intake: Intake, largest: int) -> bytes:
    """Read on, within the room that all bodies share."""
    parts, size, more = [first], len(first), True
    intake.held += size
    try:
        while more:
            part, more = await _part(receive)
            parts.append(part)
            size += len(part)
            intake.held += len(part)
            if size > largest:
                raise _too_large(largest)
            if intake.held > intake.room:
                raise _no_room()
        return b"".join(parts)
    finally:
        intake.held -= size


async def _part(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise CallerLeftEarly
    return message.get("body", b""), message.get("more_body", False)


def _too_large(largest: int) -> BodyRefused:
    return BodyRefused(
        "too-large", f"The request is larger than the {largest >> 20} MB that the provider takes."
    )


def _no_room() -> BodyRefused:
    return BodyRefused(
        "busy", "Too many large requests are coming in at once. Send this one again in a moment."
    )
