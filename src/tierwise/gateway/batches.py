"""`/v1/messages/batches`: a batch goes out item by item decided, and its results come back read.

Everything else about batches passes through; a client's requests, where they are about batches of its own. Where a
reply names the address of results, it becomes a path, so that the SDKs, which follow it, fetch them here and not from
the provider.
"""

import re
from contextlib import closing
from typing import Final

from tierwise.core.budgets import Denied
from tierwise.engine.batch_results import BatchResults
from tierwise.engine.batches import Declined, OpenedBatch
from tierwise.engine.doors import BATCHES
from tierwise.engine.endings import readable, why_no_reply
from tierwise.engine.headers import as_another_call, budget_headers, readable_headers, returned_headers
from tierwise.errors import MalformedRequest, UpstreamError
from tierwise.gateway.asgi import LARGEST_BATCH, LARGEST_BODY, Receive, Scope, Send, answer, begin
from tierwise.gateway.batch_owners import list_own, lists, stopped_by_owner
from tierwise.gateway.door import Stopped, Visitor, stopped_by_type
from tierwise.gateway.errors import answer_error, turn_away
from tierwise.gateway.intake import BodyRefused, CallerLeftEarly, read_body
from tierwise.gateway.messages import Parts, headers_for, target
from tierwise.gateway.passthrough import relay
from tierwise.upstream.port import Outgoing, Reply
from tierwise.wire.batches import at_this_address
from tierwise.wire.replies import read_reply

_RESULTS: Final = re.compile(re.escape(BATCHES) + "/([^/]+)/results")


def is_of_batches(path: str) -> bool:
    """Whether a path is one of Message Batches."""
    return path == BATCHES or path.startswith(BATCHES + "/")


async def batches(scope: Scope, receive: Receive, send: Send, parts: Parts) -> None:
    """Serve a request about batches."""
    visitor = parts.door.enter(scope["headers"], parts.desk.book.policy.clients, key=parts.key)
    if isinstance(visitor, Stopped):
        return await turn_away(send, visitor)
    creates = scope["method"] == "POST" and scope["path"] == BATCHES
    stopped = None if creates else await stopped_by_owner(scope, parts, visitor)
    if stopped is not None:
        return await turn_away(send, stopped)
    if creates and parts.ledger.trouble is not None:
        sentence = f"Tierwise cannot record calls now and sends none: {parts.ledger.trouble}"
        return await answer_error(send, "ledger", sentence)
    try:
        body = await read_body(
            scope, receive, parts.intake, largest=LARGEST_BATCH if creates else LARGEST_BODY
        )
    except BodyRefused as refused:
        return await turn_away(send, refused)
    except CallerLeftEarly:
        return None
    if creates:
        return await _create(scope, send, parts, visitor, body)
    return await _pass(scope, send, parts, visitor, body)


async def _create(scope: Scope, send: Send, parts: Parts, visitor: Visitor, body: bytes) -> None:
    def forbids(task_type: str | None) -> str | None:
        stopped = stopped_by_type(visitor.client, task_type)
        return None if stopped is None else stopped.sentence

    try:
        opened = await parts.batches.open(
            body,
            readable_headers(scope["headers"]),
            key_id=visitor.key_id,
            forbids=forbids,
            conversations=parts.conversations,
        )
    except MalformedRequest as error:
        return await answer_error(send, "malformed", str(error))
    if isinstance(opened, Declined):
        return await _decline(send, opened)
    if not await parts.batches.book(opened):
        sentence = "The reservations of this batch could not be written down in time, so it was not sent."
        return await answer_error(send, "ledger", sentence)
    parts.meters.calls += len(opened.items)
    return await _send_out(scope, send, parts, visitor, opened)


async def _decline(send: Send, declined: Declined) -> None:
    headers = () if declined.denied is None else _of_budget(declined.denied, declined.at_us)
    await answer_error(send, declined.code, declined.sentence, call_id=declined.call_id, headers=headers)


def _of_budget(denied: Denied, at_us: int) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(budget_headers(denied, at_us=at_us))


async def _send_out(scope: Scope, send: Send, parts: Parts, visitor: Visitor, opened: OpenedBatch) -> None:
    try:
        outgoing = _outgoing(scope, parts, visitor, opened.body, opened.betas)
        reply = await parts.upstream.send(as_another_call(outgoing))
        with closing(reply):
            body = await reply.read()
    except UpstreamError as error:
        code = await parts.batches.unanswered(opened, error)
        return await answer_error(send, code, str(error))
    if reply.status >= 400:
        error_type = read_reply(body, status=reply.status).error
        await parts.batches.turned_down(opened, error_type or "api_error")
    else:
        await parts.batches.taken(opened, body if readable(reply.headers) else b"")
    return await _answer(send, reply, body)


async def _pass(scope: Scope, send: Send, parts: Parts, visitor: Visitor, body: bytes) -> None:
    parts.meters.passed_through += 1
    if visitor.client is not None and lists(scope):
        return await list_own(scope, send, parts, visitor)
    try:
        reply = await parts.upstream.send(_outgoing(scope, parts, visitor, body))
        if reply.status != 200 or not readable(reply.headers):
            return await relay(reply, send)
        if scope["method"] == "GET" and (fetched := _RESULTS.fullmatch(scope["path"])):
            return await _relay_results(fetched[1], reply, send, parts)
        with closing(reply):
            body = await reply.read()
        return await _answer(send, reply, body)
    except UpstreamError as error:
        return await answer_error(send, why_no_reply(error), str(error))


async def _relay_results(batch_id: str, reply: Reply, send: Send, parts: Parts) -> None:
    """Let chunks past as they are, each once the next is here: the last one waits for its endings to be durable."""
    results = BatchResults(
        batch_id,
        desk=parts.desk,
        ledger=parts.ledger,
        budgets=parts.budgets,
        read=parts.read,
        clock=parts.clock,
    )
    headers = returned_headers(reply.headers)
    held = b""
    try:
        await begin(send, reply.status, headers)
        async for chunk in reply.chunks():
            if held:
                await send({"type": "http.response.body", "body": held, "more_body": True})
            await results.take(chunk)
            held = chunk
        await results.end(whole=True)
    except UpstreamError:
        await results.end(whole=False)
        return  # the server closes the connection: the caller must not take the body for a whole one
    finally:
        reply.close()
        results.close()
    await send({"type": "http.response.body", "body": held, "more_body": False})


async def _answer(send: Send, reply: Reply, body: bytes) -> None:
    headers = [each for each in returned_headers(reply.headers) if each[0] != b"content-length"]
    if readable(reply.headers):
        body = at_this_address(body)
    await answer(send, reply.status, headers, body)


def _outgoing(
    scope: Scope, parts: Parts, visitor: Visitor, body: bytes, betas: tuple[bytes, ...] = ()
) -> Outgoing:
    headers = headers_for(scope, parts, visitor, betas=betas)
    return Outgoing(method=scope["method"], target=target(scope), headers=headers, body=body)
