"""The rest of the provider's API: passed through as it is, because it costs nothing or cannot be priced yet.

`count_tokens` takes a virtual model name and is asked for the model that a call of that type would go to. The
old text completions cost money that would be missing in the ledger: they are refused.
"""

from tierwise.engine.doors import COUNT_TOKENS, counted_body, why_refused
from tierwise.engine.endings import why_no_reply
from tierwise.engine.headers import readable_headers, returned_headers
from tierwise.errors import MalformedRequest, UpstreamError
from tierwise.gateway.asgi import Receive, Scope, Send, begin
from tierwise.gateway.door import Stopped, stopped_on_the_way
from tierwise.gateway.errors import answer_error, turn_away
from tierwise.gateway.intake import BodyRefused, CallerLeftEarly, read_body
from tierwise.gateway.messages import Parts, headers_for, target
from tierwise.upstream.port import Outgoing, Reply


async def pass_through(scope: Scope, receive: Receive, send: Send, parts: Parts) -> None:
    """Pass a request on and its reply back, untouched but for a virtual model name in `count_tokens`."""
    path: str = scope["path"]
    visitor = parts.door.enter(scope["headers"], parts.desk.book.policy.clients, key=parts.key)
    if isinstance(visitor, Stopped):
        return await turn_away(send, visitor)
    refused = why_refused(path)
    if refused is not None:
        return await answer_error(send, "not-supported", refused)
    stopped = stopped_on_the_way(visitor.client, scope["method"], path)
    if stopped is not None:
        return await turn_away(send, stopped)
    parts.meters.passed_through += 1
    try:
        body = await read_body(scope, receive, parts.intake)
        if path == COUNT_TOKENS:
            body = counted_body(parts.desk, body, readable_headers(scope["headers"]))
        outgoing = Outgoing(
            method=scope["method"],
            target=target(scope),
            headers=headers_for(scope, parts, visitor),
            body=body,
        )
        reply = await parts.upstream.send(outgoing)
    except BodyRefused as error:
        return await turn_away(send, error)
    except CallerLeftEarly:
        return None
    except MalformedRequest as error:
        return await answer_error(send, "malformed", str(error))
    except UpstreamError as error:
        return await answer_error(send, why_no_reply(error), str(error))
    return await relay(reply, send)


async def relay(reply: Reply, send: Send) -> None:
    """Pass a reply back, its bytes as they come."""
    await begin(send, reply.status, returned_headers(reply.headers))
    try:
        async for chunk in reply.chunks():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    except UpstreamError:
        return  # the server closes the connection: the caller must not take the body for a whole one
    finally:
        reply.close()
    await send({"type": "http.response.body", "body": b"", "more_body": False})
