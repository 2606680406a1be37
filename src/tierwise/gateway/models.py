"""`GET /v1/models`: the provider's list, with the policy's task types after it, as models that can be named.

They come on the last page; where that is asked for backwards, or another lifecycle than the active one, they do not.
"""

from contextlib import closing
from typing import Final
from urllib.parse import parse_qs

from tierwise.core.policy import Policy
from tierwise.core.tasks import virtual_type
from tierwise.engine.endings import readable, why_no_reply
from tierwise.engine.headers import returned_headers
from tierwise.errors import UpstreamError
from tierwise.gateway.asgi import Receive, Scope, Send, answer
from tierwise.gateway.door import Stopped, Visitor
from tierwise.gateway.errors import answer_error, turn_away
from tierwise.gateway.intake import BodyRefused, CallerLeftEarly, read_body
from tierwise.gateway.messages import Parts, headers_for, target
from tierwise.gateway.passthrough import pass_through, relay
from tierwise.upstream.port import Outgoing
from tierwise.wire.models import VirtualModel, virtual_model, virtual_page, with_virtual_models

MODELS: Final = "/v1/models"

JSON: Final = ((b"content-type", b"application/json"),)


async def models(scope: Scope, receive: Receive, send: Send, parts: Parts) -> None:
    """Serve a request about models."""
    path: str = scope["path"]
    if scope["method"] != "GET":
        return await pass_through(scope, receive, send, parts)
    visitor = parts.door.enter(scope["headers"], parts.desk.book.policy.clients, key=parts.key)
    if isinstance(visitor, Stopped):
        return await turn_away(send, visitor)
    listed = virtual_models(parts.desk.book.policy, visitor)
    if path == MODELS:
        return await _list(scope, receive, send, parts, visitor=visitor, listed=listed)
    name = virtual_type(path.removeprefix(MODELS + "/"))
    if name is None:
        return await pass_through(scope, receive, send, parts)
    found = next((model for model in listed if virtual_type(model.id) == name), None)
    if found is None:
        return await answer_error(send, "not-found", f"model: the policy has no task type {name}")
    return await answer(send, 200, JSON, virtual_model(found))


def virtual_models(policy: Policy, visitor: Visitor) -> list[VirtualModel]:
    """The policy's task types, in its order; for a client, those that it may call."""
    return [
        VirtualModel(
            id=f"task/{name}",
            display_name=name if contract.description is None else f"{name}: {contract.description}",
        )
        for name, contract in policy.contracts.items()
        if visitor.client is None or visitor.client.may_call(name)
    ]


async def _list(
    scope: Scope,
    receive: Receive,
    send: Send,
    parts: Parts,
    *,
    visitor: Visitor,
    listed: list[VirtualModel],
) -> None:
    query = parse_qs(scope["query_string"].decode("latin-1"))
    (after,) = query.get("after_id", [""])[:1]
    if virtual_type(after) is not None:
        return await answer(send, 200, JSON, virtual_page(_after(after, listed)))
    lifecycles = query.get("lifecycle[]", query.get("lifecycle", ["active"]))
    if "before_id" in query or "active" not in lifecycles:
        return await pass_through(scope, receive, send, parts)
    return await _appended(scope, receive, send, parts, visitor=visitor, listed=listed)


def _after(after: str, listed: list[VirtualModel]) -> list[VirtualModel]:
    ids = [model.id for model in listed]
    return listed[ids.index(after) + 1 :] if after in ids else []


async def _appended(
    scope: Scope,
    receive: Receive,
    send: Send,
    parts: Parts,
    *,
    visitor: Visitor,
    listed: list[VirtualModel],
) -> None:
    parts.meters.passed_through += 1
    try:
        body = await read_body(scope, receive, parts.intake)
        headers = headers_for(scope, parts, visitor)
        outgoing = Outgoing(method="GET", target=target(scope), headers=headers, body=body)
        reply = await parts.upstream.send(outgoing)
        if reply.status != 200 or not readable(reply.headers):
            return await relay(reply, send)
        with closing(reply):
            page = await reply.read()
    except BodyRefused as refused:
        return await turn_away(send, refused)
    except CallerLeftEarly:
        return None
    except UpstreamError as error:
        return await answer_error(send, why_no_reply(error), str(error))
    headers = [each for each in returned_headers(reply.headers) if each[0] != b"content-length"]
    return await answer(send, 200, headers, with_virtual_models(page, listed))
