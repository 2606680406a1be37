"""The caller at the other end of an ASGI connection."""

from collections.abc import Callable

from tierwise.core.effects import Answer
from tierwise.engine.headers import budget_headers, returned_headers
from tierwise.gateway.asgi import Send
from tierwise.gateway.errors import answer_error
from tierwise.upstream.port import Headers


class AsgiCaller:
    """Hands a reply to an ASGI server."""

    __slots__ = ("_call_id", "_own_headers", "_send", "_start", "_started", "gone", "served")

    def __init__(
        self, send: Send, *, call_id: str, own_headers: Callable[[], list[tuple[bytes, bytes]]]
    ) -> None:
        """Answer through `send`; `own_headers` makes the headers that the gateway adds."""
        self._send = send
        self._call_id = call_id
        self._own_headers = own_headers
        self._start: dict[str, object] | None = None
        self._started = False
        self.gone = False
        self.served = False
        """Whether the reply's end is on its way: a closed connection then means nothing."""

    def begin(self, status: int, headers: Headers) -> None:
        """Take the reply's status and headers; they go out with the first bytes."""
        self._start = {
            "type": "http.response.start",
            "status": status,
            "headers": [*returned_headers(headers), *self._own_headers()],
        }

    async def send(self, chunk: bytes) -> None:
        """Take bytes of the body that are not its last."""
        await self._start_once()
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def finish(self, chunk: bytes) -> None:
        """Take the body's last bytes."""
        self.served = True
        await self._start_once()
        await self._send({"type": "http.response.body", "body": chunk, "more_body": False})

    async def break_off(self) -> None:
        """Close the connection without an end of the body; before its beginning, answer with an error."""
        self.served = True
        if not self._started:
            await self.answer(Answer(code="dropped", sentence="The provider's reply broke off."))

    async def answer(self, answer: Answer) -> None:
        """Take an error of ours in place of a reply."""
        self._started = self.served = True
        await answer_error(
            self._send,
            answer.code,
            answer.sentence,
            call_id=self._call_id,
            headers=(*self._own_headers(), *self._of_budget(answer)),
        )

    def _of_budget(self, answer: Answer) -> list[tuple[bytes, bytes]]:
        return [] if answer.denied is None else budget_headers(answer.denied, at_us=answer.at_us)

    async def _start_once(self) -> None:
        if not self._started:
            self._started = True
            assert self._start is not None
            await self._send(self._start)
