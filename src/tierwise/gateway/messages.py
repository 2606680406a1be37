"""`POST /v1/messages`: the road that this project is about. The hot path."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tierwise.core.changes import Change
from tierwise.core.planning import Plan
from tierwise.engine.balances import SharedConversations
from tierwise.engine.budgets import AsyncBudgets, Warnings
from tierwise.engine.desk import Desk, Opened, Reading
from tierwise.engine.doors import COUNT_TOKENS
from tierwise.engine.headers import (
    betas_for,
    credential_id,
    has_credential,
    outgoing_headers,
    own_headers,
    readable_headers,
)
from tierwise.engine.ledger import AsyncLedger
from tierwise.engine.relay import RelayDriver
from tierwise.errors import MalformedRequest
from tierwise.gateway.asgi import BodyTooLarge, CallerLeftEarly, Receive, Scope, Send, read_body
from tierwise.gateway.caller import AsgiCaller, CallerWithCutReply
from tierwise.gateway.errors import answer_error
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
    """The gateway's own credential, for callers that bring none."""
    health: Callable[[], dict[str, Any]]
    """Tells how the gateway is."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    """Waits for some seconds."""
    conversations: SharedConversations | None = None
    """Conversations that other gateways may know; None where there is no other."""


async def messages(scope: Scope, receive: Receive, send: Send, parts: Parts) -> None:
    """Read, decide, send, relay, record."""
    headers = scope["headers"]
    if parts.ledger.trouble is not None:
        sentence = f"Tierwise cannot record calls now and sends none: {parts.ledger.trouble}"
        return await answer_error(send, "ledger", sentence)
    if parts.key is None and not has_credential(headers):
        return await answer_error(send, "no-credential", NO_CREDENTIAL)
    try:
        raw = await read_body(receive)
        reading = parts.desk.read(raw, readable_headers(headers))
    except BodyTooLarge:
        return await answer_error(send, "too-large", TOO_LARGE)
    except CallerLeftEarly:
        return None
    except MalformedRequest as error:
        return await answer_error(send, "malformed", str(error))
    kept = None
    if reading.is_strange and reading.conversation is not None and parts.conversations is not None:
        kept = await parts.conversations.tier(reading.conversation)
    opened = parts.desk.begin(reading, key_id=credential_id(headers), kept=kept, tries_again=True)
    caller = AsgiCaller(send)
    watch = _watch(receive, caller)
    parts.meters.in_flight += 1
    try:
        await _attempts(_Request(scope=scope, parts=parts, caller=caller, reading=reading), opened)
    finally:
        parts.meters.in_flight -= 1
        watch.cancel()
    return None


NO_CREDENTIAL = (
    "There is no key: send `x-api-key` or `authorization`, or start the gateway with ANTHROPIC_API_KEY in its "
    "environment."
)
TOO_LARGE = "The request is larger than the 32 MB that the provider takes."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """What is the same at all attempts at one request."""

    scope: Scope
    parts: Parts
    caller: AsgiCaller
    reading: Reading


async def _attempts(request: _Request, opened: Opened) -> None:
    """Make one attempt after the other, until one has a reply that is passed on."""
    parts, caller = request.parts, request.caller
    taker: AsgiCaller | CallerWithCutReply = caller
    while True:
        driver = await _attempt(request, opened, taker)
        again = driver.again
        if again is None:
            return
        if again.lengthens:
            taker = CallerWithCutReply(caller, _cut_reply(caller, opened, driver))
        try:
            await parts.sleep((again.at_us - parts.clock()) / 1_000_000)
        except asyncio.CancelledError:
            if caller.gone:
                return
            raise
        key_id = credential_id(request.scope["headers"])
        opened = parts.desk.begin_again(request.reading, again, key_id=key_id)


async def _attempt(request: _Request, opened: Opened, taker: AsgiCaller | CallerWithCutReply) -> RelayDriver:
    scope, parts, caller = request.scope, request.parts, request.caller
    _answer_for(caller, opened)
    driver = RelayDriver(
        opened,
        outgoing=lambda changes: _outgoing(scope, parts, opened, changes),
        counting=lambda changes: _counting(scope, parts, opened, changes),
        upstream=parts.upstream,
        ledger=parts.ledger,
        budgets=parts.budgets,
        warnings=parts.warnings,
        caller=taker,
        clock=parts.clock,
    )
    parts.meters.calls += 1
    await driver.run()
    upstream_us = opened.exchange.upstream_us
    if upstream_us is not None and not caller.gone:
        parts.meters.added.add(parts.clock() - opened.exchange.read_us - upstream_us)
    return driver


def _answer_for(caller: AsgiCaller, opened: Opened) -> None:
    number = opened.exchange.attempt.number
    caller.answers_for(opened.call_id, lambda: own_headers(opened.call_id, opened.plan, attempt=number))


def _cut_reply(caller: AsgiCaller, opened: Opened, driver: RelayDriver) -> Callable[[], Awaitable[None]]:
    """Passes on the reply that was cut, as if there had been no attempt after it."""
    status, headers, body = driver.cut_reply

    async def pass_on() -> None:
        plan = opened.plan
        if isinstance(plan, Plan) and plan.decision.tier is not None:
            opened.keep_tier(plan.decision.tier)
        _answer_for(caller, opened)
        caller.begin(status, headers)
        await caller.finish(body)

    return pass_on


def _outgoing(scope: Scope, parts: Parts, opened: Opened, changes: tuple[Change, ...]) -> Outgoing:
    return Outgoing(
        method="POST",
        target=target(scope),
        headers=outgoing_headers(scope["headers"], key=parts.key, betas=betas_for(changes)),
        body=rewrite(opened.body, changes),
        address=opened.exchange.attempt.number - 1,
    )


def _counting(scope: Scope, parts: Parts, opened: Opened, changes: tuple[Change, ...]) -> Outgoing:
    query: bytes = scope["query_string"]
    return Outgoing(
        method="POST",
        target=f"{COUNT_TOKENS}?{query.decode('latin-1')}" if query else COUNT_TOKENS,
        headers=outgoing_headers(scope["headers"], key=parts.key, betas=betas_for(changes)),
        body=counting_body(opened.body, changes),
        address=opened.exchange.attempt.number - 1,
    )


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
