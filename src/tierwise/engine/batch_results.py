"""The results of a Message Batch, read on their way to the caller: each ends the call that its item was.

Results are matched by the provider's id of the batch and the caller's own id of the item, against the ledger: so they
are understood by any gateway, after any restart, in any order. Only the first ending of an item counts, and what the
ledger does not know, a batch made elsewhere say, passes without one.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import islice
from typing import Final

from tierwise.core.ledger import Entry, Failed, Fault, Posted
from tierwise.core.settlement import Ending, Models, item_entry
from tierwise.engine.budgets import AsyncBudgets
from tierwise.engine.desk import Desk
from tierwise.engine.ledger import AsyncLedger
from tierwise.errors import LedgerError
from tierwise.stores.ledger.batches import AT_ONCE, SentItem, open_items
from tierwise.stores.ledger.query import Reader
from tierwise.wire.batches import ItemResult, Lines, read_result

log = logging.getLogger("tierwise.batches")

_KINDS: Final = ("succeeded", "errored", "canceled", "expired")


class BatchResults:
    """One fetch of a batch's results."""

    def __init__(
        self,
        batch_id: str,
        *,
        desk: Desk,
        ledger: AsyncLedger,
        budgets: AsyncBudgets,
        read: Callable[[], Reader],
        clock: Callable[[], int],
        told: Callable[[Posted | Failed], None] = lambda _: None,
    ) -> None:
        """Read the results of the batch that the provider calls `batch_id`.

        Args:
            batch_id: the provider's id.
            desk: holds the prices and the frontier tier.
            ledger: takes the endings.
            budgets: the accounts.
            read: opens the ledger for reading.
            clock: tells microseconds since 1970 UTC.
            told: is told each ending.
        """
        self._batch_id = batch_id
        self._desk = desk
        self._ledger = ledger
        self._budgets = budgets
        self._read = read
        self._clock = clock
        self._told = told
        self._lines = Lines()
        self._last: Entry | None = None

    async def take(self, chunk: bytes) -> None:
        """Take bytes of the results."""
        await self._take(self._lines.feed(chunk))

    async def end(self, *, whole: bool) -> None:
        """Wait until what was read is durable; of results that broke off, the last line is none."""
        if whole:
            await self._take(self._lines.end())
        last, self._last = self._last, None
        if last is not None:
            await self._ledger.record(last)

    def close(self) -> None:
        """Hand in what was held back for `end`, where that does not come."""
        last, self._last = self._last, None
        if last is not None:
            self._ledger.put(last)

    async def _take(self, lines: Sequence[bytes]) -> None:
        results = iter([result for line in lines if (result := read_result(line)) is not None])
        while some := list(islice(results, AT_ONCE)):
            for entry in await self._endings([each for each in some if each.kind in _KINDS]):
                self._budgets.settle(entry.call_id, entry.cost_nanos)
                self._told(entry)
                if self._last is not None:
                    self._ledger.put(self._last)
                self._last = entry

    async def _endings(self, results: Sequence[ItemResult]) -> list[Posted | Failed]:
        if not results:
            return []
        try:
            items = await asyncio.to_thread(self._items, [result.custom_id for result in results])
        except LedgerError as error:
            log.warning("%s; results of %s pass unread: fetch them again", error, self._batch_id)
            return []
        return [
            self._entry(result, items[result.custom_id]) for result in results if result.custom_id in items
        ]

    def _items(self, custom_ids: Sequence[str]) -> dict[str, SentItem]:
        with closing(self._read()) as reader:
            return open_items(reader, self._batch_id, custom_ids)

    def _entry(self, result: ItemResult, item: SentItem) -> Posted | Failed:
        book = self._desk.book
        models = Models(
            frontier=book.policy.frontier.model,
            requested=item.requested_model,
            decided=item.decided_model,
            acts=item.acts,
        )
        return item_entry(
            _ending(result, at_us=self._clock()),
            models=models,
            prices=book.prices,
            priced_us=item.at_us,
            call_id=item.call_id,
            batch_id=self._batch_id,
        )


def _ending(result: ItemResult, *, at_us: int) -> Ending:
    """Only a succeeded item is billed; whether a refusal before the first word is, the provider leaves open."""
    facts = result.facts
    if result.kind != "succeeded":
        fault = Fault.CALLER if result.kind == "canceled" else Fault.PROVIDER
        return Ending(at_us=at_us, finished=False, unbilled=True, error=facts.error, fault=fault)
    return Ending(
        at_us=at_us,
        served_model=facts.served_model,
        stop_reason=facts.stop_reason,
        metered=facts.metered,
        finished=facts.finished,
        unbilled=None if facts.empty_refusal else False,
        error=facts.error,
        fault=Fault.PROVIDER,
    )
