"""The few ASGI types that the gateway speaks, a whole answer in one go, and news of a caller that leaves."""

import asyncio
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


async def answer(send: Send, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
    """Send a whole answer."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def begin(send: Send, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Send an answer's head at once; else it waits for the answer's first bytes, and leaves with them."""
    await send({"type": "http.response.start", "status": status, "headers": headers, AT_ONCE: True})


AT_ONCE: Final = "tierwise.at_once"
"""Of a head that is not to wait. Other servers hold none back, and do not look at it."""

LEAVING: Final = "tierwise.leaving"
"""The extension of a server that tells of a caller's leaving without being asked."""


def when_left(scope: Scope, receive: Receive, act: Callable[[], None]) -> Callable[[], object]:
    """Call `act` once if the caller closes its connection; return what makes that undone.

    The request's body must have been received whole.
    """
    told = scope.get("extensions", _NONE).get(LEAVING)
    if told is not None:
        return told(act)
    return asyncio.get_running_loop().create_task(_wait(receive, act)).cancel


async def _wait(receive: Receive, act: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    act()


_NONE: Final[dict[str, Any]] = {}
