"""The rest of the provider's API: passed through as it is, because it costs nothing or cannot be priced yet.

`count_tokens` takes a virtual model name and is asked for the model that a call of that type would go to. The
old text completions cost money that would be missing in the ledger: they are refused.
"""

from tierwise.engine.doors import COUNT_TOKENS, counted_body, why_refused
from tierwise.engine.endings import why_no_reply
from tierwise.engine.headers import has_credential, outgoing_headers, readable_headers, returned_headers
from tierwise.errors import MalformedRequest, UpstreamError
from tierwise.gateway.asgi import BodyTooLarge, CallerLeftEarly, Receive, Scope, Send, read_body
from tierwise.gateway.errors import answer_error
from tierwise.gateway.messages import NO_CREDENTIAL, TOO_LARGE, Parts, target
from tierwise.upstream.port import Outgoing, Reply


async def pass_through(scope: Scope, receive: Receive, send: Send, parts: Parts) -> None:
    """Pass a request on and its reply back, untouched but for a virtual model name in `count_tokens`."""
    path: str = scope["path"]
    refused = why_refused(path)
    if refused is not None:
        return await answer_error(send, "not-supported", refused)
    if parts.key is None and not has_credential(scope["headers"]):
        return await answer_error(send, "no-credential", NO_CREDENTIAL)
    parts.meters.passed_through += 1
    try:
        body = await read_body(receive)
        if path == COUNT_TOKENS:
            body = counted_body(parts.desk, body, readable_headers(scope["headers"]))
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
    return await relay(reply, send)


async def relay(reply: Reply, send: Send) -> None:
    """Pass a reply back, its bytes as they come."""
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
