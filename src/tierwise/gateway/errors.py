"""An error of ours, as an answer to a request."""

from typing import Protocol

from tierwise.gateway.asgi import Send, answer
from tierwise.wire.errors import own_reply


class Refusing(Protocol):
    """Why a request goes no further."""

    @property
    def code(self) -> str:
        """The error, by the name that it has among the gateway's own."""
        ...

    @property
    def sentence(self) -> str:
        """What the caller is told."""
        ...


async def turn_away(send: Send, why: Refusing) -> None:
    """Answer a request that goes no further."""
    await answer_error(send, why.code, why.sentence)


async def answer_error(
    send: Send,
    code: str,
    sentence: str,
    *,
    call_id: str = "none",
    headers: tuple[tuple[bytes, bytes], ...] = (),
    last: bool = False,
) -> None:
    """Answer with an error of ours in the provider's shape; `last` where it was tried again as often as is of use."""
    reply = own_reply(code, sentence, call_id=call_id, headers=headers, last=last)
    await answer(send, reply.status, reply.headers, reply.body)
