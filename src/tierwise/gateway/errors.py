"""An error of ours, as an answer to a request."""

from typing import Protocol

from tierwise.core.call import Family
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


async def turn_away(send: Send, why: Refusing, *, family: Family = "anthropic") -> None:
    """Answer a request that goes no further."""
    await answer_error(send, why.code, why.sentence, family=family)


async def answer_error(
    send: Send,
    code: str,
    sentence: str,
    *,
    call_id: str = "none",
    headers: tuple[tuple[bytes, bytes], ...] = (),
    last: bool = False,
    family: Family = "anthropic",
) -> None:
    """Answer with an error of ours in the shape of a family; `last` where it was tried again as often as is of use."""
    reply = own_reply(code, sentence, call_id=call_id, headers=headers, last=last, family=family)
    await answer(send, reply.status, reply.headers, reply.body)
