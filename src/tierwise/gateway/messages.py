"""`POST /v1/messages`, and the calls of OpenAI's clients: the road that this project is about. The hot path."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tierwise.core.call import Family
from tierwise.core.changes import Change
from tierwise.core.planning import Plan
from tierwise.engine.auditor import Auditor
from tierwise.engine.balances import SharedConversations
from tierwise.engine.batches import BatchDesk
from tierwise.engine.budgets import AsyncBudgets, Warnings
from tierwise.engine.candidates import Candidate
from tierwise.engine.checking import Checker
from tierwise.engine.desk import Desk, Opened, Reading
from tierwise.engine.doors import COUNT_TOKENS
from tierwise.engine.headers import (
    as_another_call,
    betas_for,
    outgoing_headers,
    outgoing_to_openai,
    own_headers,
    readable_headers,
    without_openai_keys,
)
from tierwise.engine.ledger import AsyncLedger
from tierwise.engine.monitoring import Monitor, Watched
from tierwise.engine.relay import Caller, RelayDriver
from tierwise.errors import MalformedRequest, UnsupportedRequest
from tierwise.gateway.asgi import Receive, Scope, Send, when_left
from tierwise.gateway.caller import AsgiCaller, CallerWithCutReply
from tierwise.gateway.door import Door, Stopped, Visitor, stopped_by_type
from tierwise.gateway.errors import answer_error, turn_away
from tierwise.gateway.intake import BodyRefused, CallerLeftEarly, Intake, read_body
from tierwise.gateway.meters import Meters
from tierwise.stores.ledger.query import Reader
from tierwise.upstream.port import Outgoing, Upstream
from tierwise.values import maker
from tierwise.wire.dialects import MESSAGES, Dialect
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
    batches: BatchDesk
    read: Callable[[], Reader]
    """Opens the ledger for reading."""
    door: Door = field(default_factory=Door)
    intake: Intake = field(default_factory=Intake)
    checker: Checker = field(default_factory=Checker)
    """Holds replies against checks."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    """Waits for some seconds."""
    conversations: SharedConversations | None = None
    """Conversations that other gateways may know; None where there is no other."""
    auditor: Auditor | None = None
    """Compares tiers in the background; None compares nothing."""
    monitor: Monitor | None = None
    """Checks replies in the background; None checks none."""
    openai: Upstream | None = None
    """Where calls of OpenAI's clients go; None serves none."""
    openai_key: str | None = None
    """The gateway's own credential for it."""

    def key_for(self, family: Family) -> str | None:
        """Return the gateway's own credential for the provider of a family."""
        return self.key if family == "anthropic" else self.openai_key


async def messages(
    scope: Scope, receive: Receive, send: Send, parts: Parts, dialect: Dialect = MESSAGES
) -> None:
    """Read, decide, send, relay, record."""
    headers, family = scope["headers"], dialect.family
    visitor = parts.door.enter(
        headers, parts.desk.book.policy.clients, key=parts.key_for(family), family=family
    )
    if isinstance(visitor, Stopped):
        return await turn_away(send, visitor, family=family)
    if parts.ledger.trouble is not None:
        sentence = f"Tierwise cannot record calls now and sends none: {parts.ledger.trouble}"
        return await answer_error(send, "ledger", sentence, family=family)
    try:
        raw = await read_body(scope, receive, parts.intake)
        reading = parts.desk.read(raw, readable_headers(headers), dialect)
    except BodyRefused as refused:
        return await turn_away(send, refused, family=family)
    except CallerLeftEarly:
        return None
    except UnsupportedRequest as error:
        return await answer_error(send, "not-supported", str(error), family=family)
    except MalformedRequest as error:
        return await answer_error(send, "malformed", str(error), family=family)
    stopped = stopped_by_type(visitor.client, reading.task.type)
    if stopped is not None:
        return await turn_away(send, stopped, family=family)
    kept = None
    if reading.is_strange and reading.conversation is not None and parts.conversations is not None:
        kept = await parts.conversations.tier(reading.conversation)
    opened = parts.desk.begin(reading, key_id=visitor.key_id, kept=kept, tries_again=True)
    caller = AsgiCaller(send, family)
    request = _Request(scope, parts, visitor, caller, reading)
    candidate = _candidate(request, opened)
    watched = None if parts.monitor is None else parts.monitor.consider(opened)
    unwatch = when_left(scope, receive, _leave_of(caller))
    parts.meters.in_flight += 1
    try:
        await _attempts(request, opened, candidate, watched)
    finally:
        parts.meters.in_flight -= 1
        unwatch()
    if parts.auditor is not None and candidate is not None:
        parts.auditor.offer(candidate)
    if parts.monitor is not None and watched is not None:
        parts.monitor.offer(watched)
    return None


@dataclass(frozen=True, slots=True)
class _Request:
    """What is the same at all attempts at one request."""

    scope: Scope
    parts: Parts
    visitor: Visitor
    caller: AsgiCaller
    reading: Reading


def _candidate(request: _Request, opened: Opened) -> Candidate | None:
    """Draw whether the call's first attempt is to be compared with another tier's."""
    auditor = request.parts.auditor
    if auditor is None or request.reading.dialect is not MESSAGES:
        return None
    return auditor.consider(
        request.reading,
        opened,
        key_id=request.visitor.key_id,
        outgoing=lambda changes: as_another_call(_outgoing(request, opened, changes)),
    )


async def _attempts(
    request: _Request, opened: Opened, candidate: Candidate | None, watched: Watched | None
) -> None:
    """Make one attempt after the other, until one has a reply that is passed on."""
    parts, caller = request.parts, request.caller
    first: Caller = caller if candidate is None else candidate.listen(caller)
    first = first if watched is None else watched.listen(first)
    taker = first
    while True:
        driver = await _attempt(request, opened, taker)
        again = driver.again
        if again is None:
            return
        if again.lengthens:
            taker = CallerWithCutReply(caller, _cut_reply(caller, opened, driver))
        elif taker is first:
            taker = caller
        try:
            await parts.sleep((again.at_us - parts.clock()) / 1_000_000)
        except asyncio.CancelledError:
            if caller.gone:
                return
            raise
        opened = parts.desk.begin_again(request.reading, again, key_id=request.visitor.key_id)


async def _attempt(request: _Request, opened: Opened, taker: Caller) -> RelayDriver:
    parts, caller = request.parts, request.caller
    _answer_for(caller, opened)
    driver = RelayDriver(
        opened,
        outgoing=lambda changes: _outgoing(request, opened, changes),
        counting=lambda changes: _counting(request, opened, changes),
        upstream=_upstream(request),
        ledger=parts.ledger,
        budgets=parts.budgets,
        warnings=parts.warnings,
        caller=taker,
        clock=parts.clock,
        checker=parts.checker,
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


def _upstream(request: _Request) -> Upstream:
    if request.reading.dialect is MESSAGES:
        return request.parts.upstream
    assert request.parts.openai is not None
    return request.parts.openai


def _outgoing(request: _Request, opened: Opened, changes: tuple[Change, ...]) -> Outgoing:
    if request.reading.dialect is not MESSAGES:
        return to_openai(
            request.scope,
            request.parts,
            request.visitor,
            body=rewrite(opened.body, changes),
            address=opened.exchange.attempt.number - 1,
        )
    return _make_outgoing(
        method="POST",
        target=target(request.scope),
        headers=headers_for(request.scope, request.parts, request.visitor, betas=betas_for(changes)),
        body=rewrite(opened.body, changes),
        address=opened.exchange.attempt.number - 1,
    )


def _counting(request: _Request, opened: Opened, changes: tuple[Change, ...]) -> Outgoing:
    query: bytes = request.scope["query_string"]
    return Outgoing(
        method="POST",
        target=f"{COUNT_TOKENS}?{query.decode('latin-1')}" if query else COUNT_TOKENS,
        headers=headers_for(request.scope, request.parts, request.visitor, betas=betas_for(changes)),
        body=counting_body(opened.body, changes),
        address=opened.exchange.attempt.number - 1,
    )


def headers_for(
    scope: Scope, parts: Parts, visitor: Visitor, *, betas: tuple[bytes, ...] = ()
) -> list[tuple[bytes, bytes]]:
    """The headers that go to the provider for a visitor: a client's key stays here."""
    replaces = visitor.client is not None
    headers = scope["headers"]
    if parts.desk.book.policy.openai is not None:
        headers = without_openai_keys(headers)
    return outgoing_headers(headers, key=parts.key, betas=betas, replaces=replaces)


def to_openai(scope: Scope, parts: Parts, visitor: Visitor, *, body: bytes, address: int = 0) -> Outgoing:
    """The request that goes to the OpenAI-compatible server, whose `base_url` has the path's `/v1`."""
    return Outgoing(
        method=scope["method"],
        target=target(scope).removeprefix("/v1"),
        headers=outgoing_to_openai(
            scope["headers"], key=parts.openai_key, replaces=visitor.client is not None
        ),
        body=body,
        address=address,
    )


def target(scope: Scope) -> str:
    """Path and query, as the caller sent them."""
    query: bytes = scope["query_string"]
    path: bytes = scope["raw_path"]
    return (path + b"?" + query if query else path).decode("latin-1")


def _leave_of(caller: AsgiCaller) -> Callable[[], None]:
    """What the caller's leaving does: it cancels the call's task, unless the reply's end is on its way."""
    working = asyncio.current_task()
    assert working is not None

    def leave() -> None:
        if not caller.served:
            caller.gone = True
            working.cancel()

    return leave


_make_outgoing: Final = maker(Outgoing)
