"""What OpenAI's clients ask for that costs nothing: passed to their server as it is, and the models with a few more.

`GET /v1/models` is the server's list, with the policy's task types after it that have a tier there.
"""

from collections.abc import Callable
from contextlib import closing

from tierwise.core.tasks import virtual_type
from tierwise.engine.endings import readable, why_no_reply
from tierwise.engine.headers import returned_headers
from tierwise.errors import UpstreamError
from tierwise.gateway.asgi import Receive, Scope, Send, answer
from tierwise.gateway.door import Stopped, Visitor, stopped_on_the_way
from tierwise.gateway.errors import answer_error, turn_away
from tierwise.gateway.intake import BodyRefused, CallerLeftEarly, read_body
from tierwise.gateway.messages import Parts, to_openai
from tierwise.gateway.models import JSON, MODELS, virtual_models
from tierwise.gateway.passthrough import relay
from tierwise.upstream.port import Reply
from tierwise.wire.models import VirtualModel
from tierwise.wire.openai_models import openai_model, with_openai_models


async def pass_to_openai(scope: Scope, receive: Receive, send: Send, parts: Parts) -> None:
    """Pass a request on and its reply back; task types are the gateway's own to tell."""
    method, path = scope["method"], scope["path"]
    visitor = parts.door.enter(
        scope["headers"], parts.desk.book.policy.clients, key=parts.openai_key, family="openai"
    )
    if isinstance(visitor, Stopped):
        return await turn_away(send, visitor, family="openai")
    stopped = stopped_on_the_way(visitor.client, method, path)
    if stopped is not None:
        return await turn_away(send, stopped, family="openai")
    if method == "GET" and path == MODELS:
        listed = _task_types(parts, visitor)
        return await _passed(
            scope, receive, send, parts, visitor=visitor, read=lambda body: with_openai_models(body, listed)
        )
    name = virtual_type(path.removeprefix(f"{MODELS}/")) if method == "GET" else None
    if name is not None:
        return await _told(name, _task_types(parts, visitor), send)
    return await _passed(scope, receive, send, parts, visitor=visitor)


def _task_types(parts: Parts, visitor: Visitor) -> list[VirtualModel]:
    """Those that a visitor may call, and whose tier has a counterpart at the server."""
    policy = parts.desk.book.policy
    assert policy.openai is not None
    served = {
        f"task/{name}" for name, contract in policy.contracts.items() if contract.tier in policy.openai.tiers
    }
    return [model for model in virtual_models(policy, visitor) if model.id in served]


async def _told(name: str, listed: list[VirtualModel], send: Send) -> None:
    found = next((model for model in listed if virtual_type(model.id) == name), None)
    if found is None:
        sentence = f"model: there is no task type {name} that you can call"
        return await answer_error(send, "not-found", sentence, family="openai")
    return await answer(send, 200, JSON, openai_model(found))


async def _passed(
    scope: Scope,
    receive: Receive,
    send: Send,
    parts: Parts,
    *,
    visitor: Visitor,
    read: Callable[[bytes], bytes] | None = None,
) -> None:
    """Pass a request on and its reply back; `read` makes another body of a reply that is a whole one."""
    assert parts.openai is not None
    parts.meters.passed_through += 1
    try:
        body = await read_body(scope, receive, parts.intake)
        reply = await parts.openai.send(to_openai(scope, parts, visitor, body=body))
        if read is None or reply.status != 200 or not readable(reply.headers):
            return await relay(reply, send)
        return await _changed(reply, send, read)
    except BodyRefused as error:
        return await turn_away(send, error, family="openai")
    except CallerLeftEarly:
        return None
    except UpstreamError as error:
        return await answer_error(send, why_no_reply(error), str(error), family="openai")


async def _changed(reply: Reply, send: Send, read: Callable[[bytes], bytes]) -> None:
    with closing(reply):
        body = await reply.read()
    headers = [each for each in returned_headers(reply.headers) if each[0] != b"content-length"]
    await answer(send, 200, headers, read(body))
