"""A Message Batch on its way out: each item is a call of its own, and all of them go or none.

An item is decided, fitted, capped and reserved for by its own type, at batch rates. The batch leaves once every
reservation is durable. An item that is refused, or that a budget has no room for, stops the whole batch, for a batch
half sent would surprise its caller; what the others had set aside comes back. Items are shrunk or downgraded where the
budget says so; they are not queued, and their prompts are not counted.

Items stand alone: a result is fetched after a day perhaps, and no cache waits for it. So none of them gives a
conversation its tier, or a large batch would push out of the memory those that go on. But an item that continues a
conversation is decided on the tier that this one has, here or at another gateway, whose model reads what it holds.

The provider's id of the batch is known after its reply alone. So the items' decisions carry an id of the gateway's
own, and one entry tells which of the provider's it is, durably, before the caller learns it.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, TypeVar

from tierwise.core.attempts import ONLY
from tierwise.core.budgets import Denied, Lost
from tierwise.core.ledger import NO_TIMINGS, Batched, Decided, Entry, Fault, SetAside
from tierwise.core.planning import Plan, Refused
from tierwise.core.reserving import Asking, granted, next_try
from tierwise.core.settlement import Ending, decided_entry, ending_entry, refused_entry
from tierwise.core.tasks import LONGEST_ID
from tierwise.engine.balances import SharedConversations
from tierwise.engine.budgets import AsyncBudgets, Warnings
from tierwise.engine.desk import Desk, Item, Reading
from tierwise.engine.endings import why_no_reply
from tierwise.engine.headers import betas_for
from tierwise.engine.ledger import AsyncLedger
from tierwise.errors import LedgerError, MalformedRequest, UpstreamError
from tierwise.money import Nanos
from tierwise.stores.ledger.batches import is_known
from tierwise.stores.ledger.query import Reader
from tierwise.wire.batches import BatchBody, batch_of, created_id, read_batch, rewritten
from tierwise.wire.requests import rewrite

T = TypeVar("T")

_BREATH: Final = 64
"""Items after which other calls have their turn."""

_ASKED_AT_ONCE: Final = 256
"""Conversations that the other gateways are asked for in one go: as many as their store takes in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantedItem:
    """An item that may go."""

    item: Item
    custom_id: str
    plan: Plan
    asking: Asking | None
    """None where no budget counts it."""
    reserved_nanos: Nanos


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedBatch:
    """A batch that may go."""

    id: str
    """The gateway's own."""
    key_id: str
    body: bytes
    """As the provider is sent it."""
    betas: tuple[bytes, ...]
    """Flags that it needs beside the caller's."""
    items: Sequence[GrantedItem]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined:
    """A batch that does not go, and why."""

    code: str
    sentence: str
    at_us: int
    call_id: str = "none"
    """Of the item that stops it, where that is entered."""
    denied: Denied | None = None


class BatchDesk:
    """Sees batches out: `open` and `book` before one leaves, then `taken`, `turned_down` or `unanswered`."""

    def __init__(
        self,
        *,
        desk: Desk,
        ledger: AsyncLedger,
        budgets: AsyncBudgets,
        warnings: Warnings,
        read: Callable[[], Reader],
        clock: Callable[[], int],
    ) -> None:
        """See batches out.

        Args:
            desk: decides their items.
            ledger: takes the entries.
            budgets: the accounts.
            warnings: told what accounts come near their limits.
            read: opens the ledger for reading.
            clock: tells microseconds since 1970 UTC.
        """
        self._desk = desk
        self._ledger = ledger
        self._budgets = budgets
        self._warnings = warnings
        self._read = read
        self._clock = clock

    async def open(
        self,
        raw: bytes,
        headers: Mapping[str, str],
        *,
        key_id: str,
        forbids: Callable[[str | None], str | None] = lambda _type: None,
        conversations: SharedConversations | None = None,
    ) -> OpenedBatch | Declined:
        """Read a batch, decide its items, and set their worst cases aside: of all, or of none.

        Args:
            raw: the body.
            headers: request headers by lower-case name, credentials left out.
            key_id: names the caller's credential, without telling it.
            forbids: says why the caller may not make a call under a contract; None where it may.
            conversations: those that other gateways may know; None where there is no other.

        Raises:
            MalformedRequest: it, or one of its items, cannot be read.
        """
        body = await asyncio.to_thread(read_batch, raw)
        readings = await self._readings(body, headers, forbids)
        if isinstance(readings, Declined):
            return readings
        items: list[GrantedItem] = []
        try:
            kept = await _kept_elsewhere(readings, conversations)
            declined = await self._grant(body, readings, kept, key_id, items)
            if declined is None:
                return await self._opened(body, items, key_id)
        except BaseException:
            self.give_back(items)
            raise
        self.give_back(items)
        return declined

    async def reserve(self, item: Item, custom_id: str) -> GrantedItem | tuple[Refused, Denied | None]:
        """Set an item's worst case aside; where a budget is short, by the words that need no waiting.

        Returns:
            The item as it may go; or why it may not, with what a budget had left.
        """
        asked = item.asked
        while True:
            match asked:
                case Refused():
                    return asked, None
                case Plan():
                    return GrantedItem(
                        item=item, custom_id=custom_id, plan=asked, asking=None, reserved_nanos=0
                    )
                case Asking():
                    outcome = await self._budgets.reserve(asked.claim)
            self._warnings.tell(outcome)
            if not isinstance(outcome, Denied):
                plan = granted(asked, outcome)
                if isinstance(plan, Refused):
                    return plan, None
                amount = asked.claim.amount_nanos if isinstance(outcome, Lost) else outcome.amount_nanos
                return GrantedItem(
                    item=item, custom_id=custom_id, plan=plan, asking=asked, reserved_nanos=amount
                )
            patience_us = asked.plan.policy.queue_for_s * 1_000_000
            again = next_try(replace(asked, may_count=False), outcome, at_us=item.at_us + patience_us)
            if isinstance(again, Refused):
                return again, outcome
            assert isinstance(again, Asking)
            asked = again

    async def together(self, items: Sequence[GrantedItem], *, key_id: str) -> OpenedBatch:
        """Make one batch of items that are reserved for, each under its call's id."""
        params: dict[str, bytes] = {}
        async for each in _by_turns(items):
            params[each.custom_id] = rewrite(each.item.body, each.plan.changes)
        body = await asyncio.to_thread(batch_of, params)
        return OpenedBatch(id=self._desk.new_id(), key_id=key_id, body=body, betas=(), items=items)

    def give_back(self, items: Sequence[GrantedItem]) -> None:
        """Return what items had set aside that were not booked."""
        for each in items:
            if each.asking is not None:
                self._budgets.settle(each.item.call_id, 0)

    async def book(self, batch: OpenedBatch) -> bool:
        """Write down decisions and reservations; False where they are not durable in time: it must not leave then."""
        last: Entry | None = None
        async for each in _by_turns(batch.items):
            if last is not None:
                self._ledger.put(last)
            last = _decided(each, batch)
            if each.asking is not None:
                self._ledger.put(last)
                last = _set_aside(each, each.asking)
        durable = last is None or await self._ledger.record(last)
        if not durable:
            await self._end(batch, error="ledger", fault=Fault.GATEWAY, unbilled=True)
        return durable

    async def taken(self, batch: OpenedBatch, reply: bytes) -> None:
        """Write down under which id the provider took a batch; its reservations stay until the results are fetched.

        Where its reply does not tell the id, nobody can match the results: the reservations are kept as of unknown
        cost. Where it tells the id of a batch that is known, the provider made none, and bills none.
        """
        batch_id = created_id(reply)
        if batch_id is None:
            await self._end(batch, error="no-usage", fault=Fault.PROVIDER, unbilled=None)
        elif await asyncio.to_thread(self._knows, batch_id):
            await self._end(batch, error="repeated", fault=Fault.PROVIDER, unbilled=True)
        else:
            await self._ledger.record(Batched(entry_id=batch.id, at_us=self._clock(), batch_id=batch_id))

    async def turned_down(self, batch: OpenedBatch, error: str) -> None:
        """End all items of a batch that the provider answered with an error: it bills none."""
        await self._end(batch, error=error, fault=Fault.PROVIDER, unbilled=True)

    async def unanswered(self, batch: OpenedBatch, error: UpstreamError) -> str:
        """End all items of a batch without a reply: where it may have arrived, their cost is unknown.

        Returns:
            The code that says what kept the reply from coming.
        """
        code = why_no_reply(error)
        unbilled = True if code == "unreachable" else None
        await self._end(batch, error=code, fault=Fault.PROVIDER, unbilled=unbilled)
        return code

    async def _opened(self, body: BatchBody, items: Sequence[GrantedItem], key_id: str) -> OpenedBatch:
        params: list[bytes] = []
        betas: dict[bytes, None] = {}
        async for each in _by_turns(items):
            params.append(rewrite(each.item.body, each.plan.changes))
            betas |= dict.fromkeys(betas_for(each.plan.changes))
        return OpenedBatch(
            id=self._desk.new_id(),
            key_id=key_id,
            body=await asyncio.to_thread(rewritten, body, params),
            betas=tuple(betas),
            items=items,
        )

    def _knows(self, batch_id: str) -> bool:
        try:
            with closing(self._read()) as reader:
                return is_known(reader, batch_id)
        except LedgerError:
            return False  # results are matched to the first batch of an id anyway

    async def _readings(
        self, body: BatchBody, headers: Mapping[str, str], forbids: Callable[[str | None], str | None]
    ) -> list[Reading] | Declined:
        """Read all items, before anything is set aside."""
        readings: list[Reading] = []
        async for place, each in _by_turns(enumerate(body.items)):
            try:
                reading = self._desk.read(each.params, headers)
            except MalformedRequest as error:
                raise MalformedRequest(why=f"requests.{place}.params.{error.why}") from error
            forbidden = forbids(reading.task.type)
            if forbidden is not None:
                sentence = f"{_where(body, place)}: {forbidden}"
                return Declined(code="not-allowed", sentence=sentence, at_us=reading.at_us)
            readings.append(reading)
        return readings

    async def _grant(
        self,
        body: BatchBody,
        readings: Sequence[Reading],
        kept: Mapping[str, str],
        key_id: str,
        items: list[GrantedItem],
    ) -> Declined | None:
        """Grant item after item to `items`, until one is declined."""
        async for place, reading in _by_turns(enumerate(readings)):
            custom_id = body.items[place].custom_id
            tier = kept.get(reading.conversation or "") if reading.is_strange else None
            item = self._desk.begin_item(reading, key_id=key_id, kept=tier)
            outcome = await self.reserve(item, custom_id)
            if isinstance(outcome, GrantedItem):
                items.append(outcome)
                continue
            refused, denied = outcome
            why = f"{_where(body, place)}: {refused.refusal.sentence}"
            declined = Declined(
                code=refused.refusal.code,
                sentence=f"{why} The {place} before it would go, and none was sent.",
                call_id=item.call_id,
                denied=denied,
                at_us=item.at_us,
            )
            await self._refuse(item, refused, key_id=key_id, custom_id=custom_id)
            return declined
        return None

    async def _refuse(self, item: Item, refused: Refused, *, key_id: str, custom_id: str) -> None:
        """Write down that an item was refused."""
        decided = decided_entry(refused, call_id=item.call_id, key_id=key_id, at_us=item.at_us)
        self._ledger.put(replace(decided, custom_id=custom_id[:LONGEST_ID]))
        await self._ledger.record(
            refused_entry(
                call_id=item.call_id,
                at_us=item.at_us,
                error=refused.refusal.code,
                prices=item.book.prices,
            )
        )

    async def _end(self, batch: OpenedBatch, *, error: str, fault: Fault, unbilled: bool | None) -> None:
        """End all items alike, without a result: their budgets are told, then the ledger."""
        at_us = self._clock()
        ending = Ending(at_us=at_us, finished=False, unbilled=unbilled, error=error, fault=fault)
        last: Entry | None = None
        async for each in _by_turns(batch.items):
            if last is not None:
                self._ledger.put(last)
            last = ending_entry(
                ending,
                plan=each.plan,
                prices=each.item.book.prices,
                call_id=each.item.call_id,
                timings=NO_TIMINGS,
            )
            if each.asking is not None:
                self._budgets.settle(each.item.call_id, last.cost_nanos)
        if last is not None:
            await self._ledger.record(last)


async def _kept_elsewhere(
    readings: Iterable[Reading], conversations: SharedConversations | None
) -> dict[str, str]:
    """Ask what other gateways know of the items' conversations: of many at once, each once."""
    kept: dict[str, str] = {}
    if conversations is None:
        return kept
    keys = iter({each.conversation: None for each in readings if each.is_strange and each.conversation})
    while some := list(islice(keys, _ASKED_AT_ONCE)):
        tiers = await asyncio.gather(*map(conversations.tier, some))
        kept |= {key: tier for key, tier in zip(some, tiers, strict=True) if tier is not None}
    return kept


async def _by_turns(items: Iterable[T]) -> AsyncGenerator[T]:
    """Yield item after item, and let other calls have their turns."""
    for place, each in enumerate(items):
        if place % _BREATH == 0:
            await asyncio.sleep(0)
        yield each


def _where(body: BatchBody, place: int) -> str:
    return f"Item {place + 1} of {len(body.items)} ({body.items[place].custom_id[:LONGEST_ID]})"


def _decided(each: GrantedItem, batch: OpenedBatch) -> Decided:
    item = each.item
    entry = decided_entry(
        each.plan,
        call_id=item.call_id,
        key_id=batch.key_id,
        at_us=item.at_us,
        attempt=replace(ONLY, first_call_id=item.first_call_id),
        purpose=item.purpose,
    )
    return replace(entry, batch_id=batch.id, custom_id=each.custom_id[:LONGEST_ID])


def _set_aside(each: GrantedItem, asking: Asking) -> SetAside:
    contents = asking.asker.contents
    return SetAside(
        call_id=each.item.call_id,
        at_us=each.item.at_us,
        accounts=tuple(account.key for account in asking.claim.accounts),
        reserved_nanos=each.reserved_nanos,
        prompt_bytes=contents.body_bytes if contents.plain else None,
        prompt_kind=contents.kind if contents.plain else None,
    )
