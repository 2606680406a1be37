"""The sandbox as an upstream in memory: the provider's own checks and replies, without a socket."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from support.transcripts import JSON
from tierwise.sandbox import fleet
from tierwise.sandbox.app import Sandbox
from tierwise.sandbox.replies import World
from tierwise.upstream.port import Headers, Outgoing

NOT_TEXT: Final = (
    b'{"type":"error","error":{"type":"invalid_request_error","message":"The body is not UTF-8."}}'
)
"""What the provider says where the sandbox says nothing."""


class SandboxUpstream:
    """Plays the provider to coroutines, and remembers what it was asked and what it answered."""

    def __init__(self, *, seed: int = 0) -> None:
        self._sandbox = Sandbox(World(seed=seed, fleet=fleet.load()))
        self.requests: list[Outgoing] = []
        self.replies: list[WholeReply] = []

    async def send(self, request: Outgoing) -> "WholeReply":
        self.requests.append(request)
        path, _, query = request.target.partition("?")
        scope = {
            "type": "http",
            "method": request.method,
            "path": path,
            "query_string": query.encode("latin-1"),
            "headers": list(request.headers),
        }
        asked = iter([{"type": "http.request", "body": request.body, "more_body": False}])
        reply = WholeReply()

        async def receive() -> Any:
            part = next(asked, None)
            return part if part is not None else await asyncio.Event().wait()

        async def take(part: Any) -> None:
            if part["type"] == "http.response.start":
                reply.status, reply.headers = part["status"], part["headers"]
            else:
                reply.body += part.get("body", b"")

        try:
            await self._sandbox(scope, receive, take)
        except UnicodeDecodeError:
            reply.status, reply.headers, reply.body = 400, JSON, NOT_TEXT
        self.replies.append(reply)
        return reply


class WholeReply:
    """A reply that is here as a whole, and is handed out in small pieces."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = ()
        self.body = b""

    async def read(self) -> bytes:
        return self.body

    async def chunks(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self.body), 997):
            yield self.body[at : at + 997]

    def close(self) -> None:
        pass
