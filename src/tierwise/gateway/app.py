"""The ASGI app: which route a request takes."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from posixpath import normpath

import msgspec

from tierwise.engine.doors import MESSAGES
from tierwise.gateway.asgi import Message, Receive, Scope, Send, answer
from tierwise.gateway.batches import batches, is_of_batches
from tierwise.gateway.door import UNKNOWN_KEY
from tierwise.gateway.errors import answer_error, turn_away
from tierwise.gateway.messages import Parts, messages
from tierwise.gateway.models import MODELS, models
from tierwise.gateway.openai import is_openai, openai_family
from tierwise.gateway.outcomes import outcomes
from tierwise.gateway.passthrough import pass_through

log = logging.getLogger("tierwise.gateway")


class Gateway:
    """The app. Its parts are made when the server starts and unmade when it stops."""

    def __init__(self, parts: Callable[[], AbstractAsyncContextManager[Parts]]) -> None:
        """Serve with what `parts` makes."""
        self._make_parts = parts
        self._parts: Parts | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's event, as ASGI has it."""
        if scope["type"] == "http":
            assert self._parts is not None
            await self._serve(scope, receive, send, self._parts)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, parts: Parts) -> None:
        path: str = scope["path"]
        began = False

        def noted(message: Message) -> Awaitable[None]:
            nonlocal began
            began = True
            return send(message)

        try:
            if path == MESSAGES and scope["method"] == "POST":
                await messages(scope, receive, noted, parts)
            elif path != normpath(path):
                # The provider might read it as another one: as a way to spend that no entry tells of.
                await answer_error(
                    noted, "not-found", f"There is no {path} here; {normpath(path)} there may be."
                )
            elif path.startswith("/v1/") and is_openai(scope, parts):
                await openai_family(scope, receive, noted, parts)
            elif path == "/tierwise/outcomes" and scope["method"] == "POST":
                await outcomes(scope, receive, noted, parts)
            elif is_of_batches(path):
                await batches(scope, receive, noted, parts)
            elif path == MODELS or path.startswith(MODELS + "/"):
                await models(scope, receive, noted, parts)
            elif path.startswith("/v1/"):
                await pass_through(scope, receive, noted, parts)
            else:
                await self._own(path, scope, noted, parts)
        except Exception:
            log.exception("a request to %s failed", path)
            if not began:  # else the server closes the connection: the reply has no end
                await answer_error(send, "internal", "Tierwise failed on this request; its log says how.")

    async def _own(self, path: str, scope: Scope, send: Send, parts: Parts) -> None:
        match scope["method"], path:
            case "GET" | "HEAD", "/tierwise/health":
                health = parts.health()
                told = health if self._shows(scope, parts) else {"status": health["status"]}
                await _json(send, 200 if health["status"] == "ok" else 503, told)
            case "GET" | "HEAD", "/tierwise/meters" if not self._shows(scope, parts):
                await turn_away(send, UNKNOWN_KEY)
            case "GET" | "HEAD", "/tierwise/meters":
                await _json(send, 200, parts.meters.snapshot())
            case "GET" | "HEAD", "/" | "/api/hello":
                await answer(send, 200, ((b"content-type", b"text/plain"),), b"tierwise\n")
            case _:
                known = "The provider's API is under /v1/, Tierwise's own under /tierwise/."
                await answer_error(send, "not-found", f"There is no {path} here. {known}")

    def _shows(self, scope: Scope, parts: Parts) -> bool:
        return parts.door.shows(scope["headers"], parts.desk.book.policy.clients)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            async with self._make_parts() as parts:
                self._parts = parts
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except Exception as error:
            failed = "startup" if self._parts is None else "shutdown"
            log.log(
                logging.CRITICAL,
                "the gateway's %s failed: %s",
                failed,
                error,
                exc_info=not isinstance(error, OSError),
            )
            await send({"type": f"lifespan.{failed}.failed", "message": str(error)})
        else:
            await send({"type": "lifespan.shutdown.complete"})


def _json(send: Send, status: int, value: object) -> Awaitable[None]:
    return answer(send, status, ((b"content-type", b"application/json"),), msgspec.json.encode(value))
