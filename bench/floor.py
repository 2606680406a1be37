"""The floor: a pass-through that does nothing else, on the libraries that the gateway is built on.

    python bench/floor.py UPSTREAM PORT

What a gateway takes above it is the gateway's own doing.
"""

import sys
from typing import Any, Final

import aiohttp
import uvicorn

PASSED_ON: Final = frozenset((b"content-type", b"x-api-key", b"anthropic-version", b"user-agent"))


class Floor:
    """The app."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        message = await receive()
        body = message["body"]
        while message["more_body"]:
            message = await receive()
            body += message["body"]
        headers = {name.decode(): value.decode() for name, value in scope["headers"] if name in PASSED_ON}
        async with self._session.post(self._upstream + scope["path"], data=body, headers=headers) as reply:
            kind = reply.headers["content-type"].encode()
            await send(
                {"type": "http.response.start", "status": reply.status, "headers": [(b"content-type", kind)]}
            )
            async for chunk in reply.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    uvicorn.run(
        Floor(sys.argv[1]),
        port=int(sys.argv[2]),
        http="httptools",
        loop="uvloop",
        lifespan="off",
        access_log=False,
        log_level="error",
        server_header=False,
        date_header=False,
    )
