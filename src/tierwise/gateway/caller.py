"""The caller at the other end of an ASGI connection, for one attempt at its request or several."""

from collections.abc import Awaitable, Callable

from tierwise.core.call import Family
from tierwise.core.effects import Answer
from tierwise.engine.headers import budget_headers, returned_headers
from tierwise.gateway.asgi import Send
from tierwise.gateway.errors import answer_error
from tierwise.upstream.port import Headers


class AsgiCaller:
    """Hands a reply to an ASGI server."""

    __slots__ = ("_call_id", "_family", "_own_headers", "_send", "_start", "_started", "gone", "served")

    def __init__(self, send: Send, family: Family = "anthropic") -> None:
        """Answer through `send`, for the call that `answers_for` names, a caller of a family."""
        self._send = send
        self._family: Family = family
        self._start: dict[str, object] | None = None
        self._started = False
        self.gone = False
        self.served = False
        """Whether the reply's end is on its way: a closed connection then means nothing."""

    def answers_for(self, call_id: str, own_headers: Callable[[], list[tuple[bytes, bytes]]]) -> None:
        """Name the call whose reply it will be; `own_headers` makes the headers that the gateway adds."""
        self._call_id = call_id
        self._own_headers = own_headers

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
            last=answer.last,
            family=self._family,
        )

    def _of_budget(self, answer: Answer) -> list[tuple[bytes, bytes]]:
        if answer.denied is None:
            return []
        told = budget_headers(answer.denied, at_us=answer.at_us)
        if self._family == "anthropic":
            return told
        return [pair for pair in told if not pair[0].startswith(b"anthropic-")]

    async def _start_once(self) -> None:
        if not self._started:
            self._started = True
            assert self._start is not None
            await self._send(self._start)


class CallerWithCutReply:
    """The caller of another attempt at a cut reply: another reply takes its place, an error does not."""

    def __init__(self, caller: AsgiCaller, cut: Callable[[], Awaitable[None]]) -> None:
        """Hand replies to `caller`; `cut` hands it the cut one."""
        self._caller = caller
        self._cut = cut
        self._begun: tuple[int, Headers] | None = None

    @property
    def gone(self) -> bool:
        """Whether the caller closed its connection."""
        return self._caller.gone

    def begin(self, status: int, headers: Headers) -> None:
        """Take the reply's status and headers; an error's are let fall."""
        self._begun = (status, headers) if status < 400 else None

    async def send(self, chunk: bytes) -> None:
        """Take bytes that are not the last: there are none, for a reply that may be tried again does not stream."""

    async def finish(self, chunk: bytes) -> None:
        """Take the body, whole."""
        if self._begun is None:
            return await self._cut()
        self._caller.begin(*self._begun)
        return await self._caller.finish(chunk)

    async def break_off(self) -> None:
        """Take the news that there will be no whole reply."""
        await self._cut()

    async def answer(self, answer: Answer) -> None:  # noqa: ARG002 — as all callers have it
        """Take an error of ours in place of a reply."""
        await self._cut()
