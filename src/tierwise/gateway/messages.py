"""`POST /v1/messages`: the road that this project is about. The hot path."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tierwise.core.changes import Change
from tierwise.engine.auditor import Auditor, Candidate
from tierwise.engine.balances import SharedConversations
from tierwise.engine.budgets import AsyncBudgets, Warnings
from tierwise.engine.desk import Desk, Opened
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
from tierwise.gateway.caller import AsgiCaller
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
    conversations: SharedConversations | None = None
    """Conversations that other gateways may know; None where there is no other."""
    auditor: Auditor | None = None
    """Compares tiers in the background; None compares nothing."""


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
    key_id = credential_id(headers)
    opened = parts.desk.begin(reading, key_id=key_id, kept=kept)
    candidate = None
    if parts.auditor is not None:
        candidate = parts.auditor.consider(
            reading,
            opened,
            key_id=key_id,
            outgoing=lambda changes: _again(_outgoing(scope, parts, opened, changes)),
        )
    caller = AsgiCaller(
        send, call_id=opened.call_id, own_headers=lambda: own_headers(opened.call_id, opened.plan)
    )
    await _relay(scope, receive, parts, opened, caller, candidate)
    if parts.auditor is not None and candidate is not None:
        parts.auditor.offer(candidate)
    return None


NO_CREDENTIAL = (
    "There is no key: send `x-api-key` or `authorization`, or start the gateway with ANTHROPIC_API_KEY in its "
    "environment."
)
TOO_LARGE = "The request is larger than the 32 MB that the provider takes."


async def _relay(  # noqa: PLR0917 — the parts of one call
    scope: Scope,
    receive: Receive,
    parts: Parts,
    opened: Opened,
    caller: AsgiCaller,
    candidate: Candidate | None,
) -> None:
    meters = parts.meters
    driver = RelayDriver(
        opened,
        outgoing=lambda changes: _outgoing(scope, parts, opened, changes),
        counting=lambda changes: _counting(scope, parts, opened, changes),
        upstream=parts.upstream,
        ledger=parts.ledger,
        budgets=parts.budgets,
        warnings=parts.warnings,
        caller=caller if candidate is None else candidate.listen(caller),
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


def _outgoing(scope: Scope, parts: Parts, opened: Opened, changes: tuple[Change, ...]) -> Outgoing:
    return Outgoing(
        method="POST",
        target=target(scope),
        headers=outgoing_headers(scope["headers"], key=parts.key, betas=betas_for(changes)),
        body=rewrite(opened.body, changes),
    )


def _again(outgoing: Outgoing) -> Outgoing:
    """The same request as another call: without the key by which the provider would give the first one's reply."""
    headers = [(name, value) for name, value in outgoing.headers if name != b"idempotency-key"]
    return replace(outgoing, headers=headers)


def _counting(scope: Scope, parts: Parts, opened: Opened, changes: tuple[Change, ...]) -> Outgoing:
    query: bytes = scope["query_string"]
    return Outgoing(
        method="POST",
        target=f"{COUNT_TOKENS}?{query.decode('latin-1')}" if query else COUNT_TOKENS,
        headers=outgoing_headers(scope["headers"], key=parts.key, betas=betas_for(changes)),
        body=counting_body(opened.body, changes),
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
