"""The rest of the provider's API: passed through as it is, because it costs nothing or cannot be priced yet.

`count_tokens` takes a virtual model name and is asked for the model that a call of that type would go to. Message
Batches and the old text completions cost money that would be missing in the ledger: they are refused.
"""

from collections.abc import Mapping
from typing import Final

from tierwise.core.planning import Refused
from tierwise.core.tasks import virtual_type
from tierwise.engine.endings import why_no_reply
from tierwise.errors import MalformedRequest, UpstreamError
from tierwise.gateway.asgi import BodyTooLarge, CallerLeftEarly, Receive, Scope, Send, read_body
from tierwise.gateway.errors import answer_error
from tierwise.gateway.headers import has_credential, outgoing_headers, readable_headers, returned_headers
from tierwise.gateway.messages import NO_CREDENTIAL, TOO_LARGE, Parts, target
from tierwise.upstream.port import Outgoing, Reply
from tierwise.wire.requests import rewrite

COUNT_TOKENS: Final = "/v1/messages/count_tokens"

NOT_SUPPORTED: Final[Mapping[str, str]] = {
    "/v1/messages/batches": "Tierwise does not route or price Message Batches yet. Send them to the provider itself.",
    "/v1/complete": "Tierwise does not price text completions. Use the Messages API.",
}
"""Paths, with all below them, that are refused, and why."""


async def pass_through(scope: Scope, receive: Receive, send: Send, parts: Parts) -> None:
    """Pass a request on and its reply back, untouched but for a virtual model name in `count_tokens`."""
    path: str = scope["path"]
    for refused, why in NOT_SUPPORTED.items():
        if path == refused or path.startswith(refused + "/"):
            return await answer_error(send, "not-supported", why)
    if parts.key is None and not has_credential(scope["headers"]):
        return await answer_error(send, "no-credential", NO_CREDENTIAL)
    parts.meters.passed_through += 1
    try:
        body = await read_body(receive)
        if path == COUNT_TOKENS:
            body = _counted_body(body, scope, parts)
        outgoing = Outgoing(
            method=scope["method"],
            target=target(scope),
            headers=outgoing_headers(scope["headers"], key=parts.key),
            body=body,
        )
        reply = await parts.upstream.send(outgoing)
    except BodyTooLarge:
        return await answer_error(send, "too-large", TOO_LARGE)
    except CallerLeftEarly:
        return None
    except MalformedRequest as error:
        return await answer_error(send, "malformed", str(error))
    except UpstreamError as error:
        return await answer_error(send, why_no_reply(error), str(error))
    return await _return(reply, send)


async def _return(reply: Reply, send: Send) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": reply.status,
            "headers": returned_headers(reply.headers),
        }
    )
    try:
        async for chunk in reply.chunks():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    except UpstreamError:
        return  # the server closes the connection: the caller must not take the body for a whole one
    finally:
        reply.close()
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _counted_body(raw: bytes, scope: Scope, parts: Parts) -> bytes:
    """The body as the decided model would be sent it, where the caller named a task type for a model."""
    preview = parts.desk.preview(raw, readable_headers(scope["headers"]), counting=True)
    if virtual_type(preview.plan.call.requested_model) is None:
        return raw
    if isinstance(preview.plan, Refused):
        raise MalformedRequest(why=preview.plan.refusal.sentence)
    changes = tuple(change for change in preview.plan.changes if change.path != ("max_tokens",))
    return rewrite(preview.body, changes)
