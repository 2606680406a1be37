"""An error of ours, as an answer to a request."""

from tierwise.gateway.asgi import Send, answer
from tierwise.wire.errors import own_reply


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
