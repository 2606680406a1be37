"""`POST /v1/messages`: the road that this project is about. The hot path."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tierwise.core.changes import Change
from tierwise.engine.balances import SharedConversations
from tierwise.engine.budgets import AsyncBudgets, Warnings
from tierwise.engine.desk import Desk, Opened
from tierwise.engine.doors import COUNT_TOKENS
from tierwise.engine.headers import (
    betas_for,
    outgoing_headers,
    own_headers,
    readable_headers,
)
from tierwise.engine.ledger import AsyncLedger
from tierwise.engine.relay import RelayDriver
from tierwise.errors import MalformedRequest
from tierwise.gateway.asgi import Receive, Scope, Send
from tierwise.gateway.caller import AsgiCaller
from tierwise.gateway.door import Door, Stopped, Visitor, stopped_by_type
from tierwise.gateway.errors import answer_error, turn_away
from tierwise.gateway.intake import BodyRefused, CallerLeftEarly, Intake, read_body
from tierwise.gateway.meters import Meters
from tierwise.upstream.port import Outgoing, Upstream
from tierwise.wire.requests import counting_body, rewrite


@dataclass(slots=True, kw_only=True)
class Parts:
    """What the routes of a running gateway share."""

    desk: Desk
    ledger: AsyncLedger
    budgets: AsyncBudgets
    warnings: Warnings
    upstream: Upstream
    meters: Meters
    clock: Callable[[], int]
    key: str | None
    """The gateway's own credential: for callers that bring none, and for clients. A file of it may change."""
    health: Callable[[], dict[str, Any]]
    """Tells how the gateway is."""
    door: Door = field(default_factory=Door)
    intake: Intake = field(default_factory=Intake)
    conversations: SharedConversations | None = None
    """Conversations that other gateways may know; None where there is no other."""


async def messages(scope: Scope, receive: Receive, send: Send, parts: Parts) -> None:
    """Read, decide, send, relay, record."""
    headers = scope["headers"]
    visitor = parts.door.enter(headers, parts.desk.book.policy.clients, key=parts.key)
    if isinstance(visitor, Stopped):
        return await turn_away(send, visitor)
    if parts.ledger.trouble is not None:
        sentence = f"Tierwise cannot record calls now and sends none: {parts.ledger.trouble}"
        return await answer_error(send, "ledger", sentence)
    try:
        raw = await read_body(scope, receive, parts.intake)
        reading = parts.desk.read(raw, readable_headers(headers))
    except BodyRefused as refused:
        return await turn_away(send, refused)
    except CallerLeftEarly:
        return None
    except MalformedRequest as error:
        return await answer_error(send, "malformed", str(error))
    stopped = stopped_by_type(visitor.client, reading.task.type)
    if stopped is not None:
        return await turn_away(send, stopped)
    kept = None
    if reading.is_strange and reading.conversation is not None and parts.conversations is not None:
        kept = await parts.conversations.tier(reading.conversation)
    opened = parts.desk.begin(reading, key_id=visitor.key_id, kept=kept)
    return await _relay(_Request(scope, parts, visitor), receive, send, opened)


@dataclass(frozen=True, slots=True)
class _Request:
    """What a call's requests to the provider are made from, beside its body."""

    scope: Scope
    parts: Parts
    visitor: Visitor


async def _relay(request: _Request, receive: Receive, send: Send, opened: Opened) -> None:
    parts = request.parts
    meters = parts.meters
    caller = AsgiCaller(
        send, call_id=opened.call_id, own_headers=lambda: own_headers(opened.call_id, opened.plan)
    )
    driver = RelayDriver(
        opened,
        outgoing=lambda changes: _outgoing(request, opened, changes),
        counting=lambda changes: _counting(request, opened, changes),
        upstream=parts.upstream,
        ledger=parts.ledger,
        budgets=parts.budgets,
        warnings=parts.warnings,
        caller=caller,
        clock=parts.clock,
    )
    watch = _watch(receive, caller)
    meters.calls += 1
    meters.in_flight += 1
    try:
        await driver.run()
    finally:
        meters.in_flight -= 1
        watch.cancel()
    upstream_us = opened.exchange.upstream_us
    if upstream_us is not None and not caller.gone:
        meters.added.add(parts.clock() - opened.exchange.read_us - upstream_us)


def _outgoing(request: _Request, opened: Opened, changes: tuple[Change, ...]) -> Outgoing:
    return Outgoing(
        method="POST",
        target=target(request.scope),
        headers=headers_for(request.scope, request.parts, request.visitor, betas=betas_for(changes)),
        body=rewrite(opened.body, changes),
    )


def _counting(request: _Request, opened: Opened, changes: tuple[Change, ...]) -> Outgoing:
    query: bytes = request.scope["query_string"]
    return Outgoing(
        method="POST",
        target=f"{COUNT_TOKENS}?{query.decode('latin-1')}" if query else COUNT_TOKENS,
        headers=headers_for(request.scope, request.parts, request.visitor, betas=betas_for(changes)),
        body=counting_body(opened.body, changes),
    )


def headers_for(
    scope: Scope, parts: Parts, visitor: Visitor, *, betas: tuple[bytes, ...] = ()
) -> list[tuple[bytes, bytes]]:
    """The headers that go to the provider for a visitor: a client's key stays here."""
    replaces = visitor.client is not None
    return outgoing_headers(scope["headers"], key=parts.key, betas=betas, replaces=replaces)


def target(scope: Scope) -> str:
    """Path and query, as the caller sent them."""
    query: bytes = scope["query_string"]
    path: bytes = scope["raw_path"]
    return (path + b"?" + query if query else path).decode("latin-1")


def _watch(receive: Receive, caller: AsgiCaller) -> asyncio.Task[None]:
    """Wait for the caller to leave, and cancel the call's task when it does."""
    working = asyncio.current_task()
    assert working is not None

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        if not caller.served:
            caller.gone = True
            working.cancel()

    return asyncio.get_running_loop().create_task(watch())
