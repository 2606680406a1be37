"""The desk: where a call is read, planned and given its machine. Every door, gateway or client, begins here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tierwise.config import Book
from tierwise.core.exchange import Exchange
from tierwise.core.planning import Plan, Refused, plan
from tierwise.core.reserving import Asked, ask, is_counted
from tierwise.core.tasks import continues, conversation_key, name_task
from tierwise.stores.conversations import Conversations
from tierwise.wire.contents import measure
from tierwise.wire.requests import Body, read_request


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A call on its way: what it is, and the machine that sees it through."""

    call_id: str
    body: Body
    exchange: Exchange

    @property
    def plan(self) -> Plan | Refused:
        """What the call is sent as, as far as is known by now."""
        return self.exchange.plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a call would be sent as."""

    body: Body
    plan: Plan | Refused


class Desk:
    """Opens calls under the policy that is in force; a call in flight keeps the one it began with."""

    def __init__(
        self,
        book: Book,
        *,
        conversations: Conversations,
        clock: Callable[[], int],
        new_id: Callable[[], str],
    ) -> None:
        """Open calls by `book`; `clock` tells microseconds since 1970, `new_id` makes call ids."""
        self.book = book
        self._conversations = conversations
        self._clock = clock
        self._new_id = new_id

    def open(self, raw: bytes, headers: Mapping[str, str], *, key_id: str = "") -> Opened:
        """Read and plan one call, and work out what it asks of its budgets.

        Args:
            raw: the body.
            headers: request headers by lower-case name, credentials left out.
            key_id: names the caller's credential, without telling it; empty where there is none to tell apart.

        Raises:
            MalformedRequest: the body cannot be read as a Messages request.
        """
        at_us = self._clock()
        book = self.book
        call, body = read_request(raw, headers)
        task = name_task(call, policy=book.policy)
        key = conversation_key(call, task) if task.type is not None else None
        kept = None
        if key is not None and continues(call, task):
            kept = self._conversations.tier(key, at_us=at_us)
        planned = plan(call, task, policy=book.policy, kept=kept)
        if key is not None and isinstance(planned, Plan) and planned.decision.tier is not None:
            until_us = at_us + book.policy.conversation_ttl_s * 1_000_000
            self._conversations.keep(key, planned.decision.tier, until_us=until_us)
        call_id = self._new_id()
        asked: Asked = planned
        if isinstance(planned, Plan) and is_counted(planned):
            asked = ask(
                planned,
                measure(raw, call),
                call_id=call_id,
                key_id=key_id,
                prices=book.prices,
                at_us=at_us,
            )
        exchange = Exchange(asked, prices=book.prices, call_id=call_id, read_us=at_us)
        return Opened(call_id=call_id, body=body, exchange=exchange)

    def preview(self, raw: bytes, headers: Mapping[str, str], *, counting: bool = False) -> Preview:
        """Plan a call without making it: nothing is remembered.

        Args:
            raw: the body.
            headers: request headers by lower-case name, credentials left out.
            counting: whether it is a `count_tokens` request, which has no `max_tokens`.

        Raises:
            MalformedRequest: the body cannot be read as a Messages request.
        """
        policy = self.book.policy
        call, body = read_request(raw, headers, counting=counting)
        return Preview(body=body, plan=plan(call, name_task(call, policy=policy), policy=policy, kept=None))
