"""A call's way to the provider: what each hook of a client brings, and both drivers go."""

from typing import Protocol

from tierwise.client.auditing import Again
from tierwise.client.replies import AsyncHttpxReply, Failures, HttpxReply
from tierwise.core.changes import Change
from tierwise.core.effects import Answer
from tierwise.engine.desk import Opened
from tierwise.engine.headers import budget_headers, own_headers
from tierwise.upstream.port import Outgoing
from tierwise.wire.errors import OwnReply, own_reply


class _Asks(Protocol):
    """Makes the requests of a call."""

    @property
    def failures(self) -> Failures:
        """What failed."""
        ...

    def outgoing(self, changes: tuple[Change, ...]) -> Outgoing:
        """Make the request that leaves, its body changed so."""
        ...

    def counting(self, changes: tuple[Change, ...]) -> Outgoing:
        """Make the request that has the prompt counted, its body changed so."""
        ...

    @property
    def again(self) -> Again | None:
        """Makes the audit's request; None where it is not known where calls go."""
        ...


class Way(_Asks, Protocol):
    """The way of a thread's call."""

    def send(self, request: Outgoing) -> HttpxReply:
        """Send a request and return once the reply's headers are here; raise UpstreamError where there is none."""
        ...


class AsyncWay(_Asks, Protocol):
    """The way of a coroutine's call."""

    async def send(self, request: Outgoing) -> AsyncHttpxReply:
        """Send a request and return once the reply's headers are here; raise UpstreamError where there is none."""
        ...


NO_REPLY = frozenset(("unreachable", "dropped", "timeout"))
"""Answers in place of which the caller gets the client's own error, as without Tierwise."""


def reply_to(answer: Answer, opened: Opened) -> OwnReply:
    """Write an answer of ours as the gateway does."""
    budget = [] if answer.denied is None else budget_headers(answer.denied, at_us=answer.at_us)
    told = (*own_headers(opened.call_id, opened.plan), *budget)
    return own_reply(answer.code, answer.sentence, call_id=opened.call_id, headers=told)
