"""Balances that several gateways share, for the coroutines of one event loop.

Answers come from a thread, a whole batch in one call into the loop. Whoever stops waiting for a claim's answer has it
undone, since it may have been granted.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import cast

from tierwise.core.budgets import Claim, Denied, Lost, Outcome
from tierwise.engine.budgets import Turns
from tierwise.money import Nanos
from tierwise.stores.budgets import operations
from tierwise.stores.budgets.batches import Answered
from tierwise.stores.budgets.operations import Answer
from tierwise.stores.budgets.valkey import ValkeyBudgets


class SharedBudgets:
    """The shared accounts and conversations, for one event loop: the one that it is made in."""

    def __init__(self, store: ValkeyBudgets) -> None:
        """Ask `store`; another loop, or a thread, may ask the same one."""
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._turns = Turns()

    async def reserve(self, claim: Claim) -> Outcome:
        """Set a claim aside on all its accounts, or on none, in one step.

        Raises:
            ValueError: the call has a reservation that is not settled.
            AmountTooLarge: the claim, or a limit, cannot be counted exactly.
        """
        waiter: asyncio.Future[Answer | Lost] = self._loop.create_future()
        self._store.put_claim(claim, self, waiter)
        try:
            answer = await waiter
        except asyncio.CancelledError:
            self._store.settle(claim.call_id, 0)
            raise
        outcome = operations.outcome(claim, answer)
        if not isinstance(outcome, Denied):
            self._turns.next()
        return outcome

    def settle(self, call_id: str, cost_nanos: Nanos | None) -> None:
        """Settle a call's reservation at its cost, soon; None keeps it. It never waits, and never fails."""
        self._store.settle(call_id, cost_nanos)
        self._turns.next()

    async def wait(self, timeout_s: float) -> None:
        """Wait until money may have come back, in turn, or until the time is over."""
        await self._turns.wait(timeout_s)

    async def tier(self, key: str) -> str | None:
        """Return the tier that was kept for a conversation; None where none was, or the server is lost."""
        waiter: asyncio.Future[Answer | Lost] = self._loop.create_future()
        self._store.put_question(key, self, waiter)
        answer = await waiter
        return answer if isinstance(answer, str) else None

    def keep(self, key: str, tier: str, ttl_s: float) -> None:
        """Keep a conversation's tier for a time, soon; not where the server is lost."""
        self._store.keep(key, tier, ttl_s)

    def deliver(self, answered: Sequence[Answered]) -> None:
        """Bring a batch's answers; called on the thread of the batches."""
        with suppress(RuntimeError):  # the loop is closed, and nobody waits
            self._loop.call_soon_threadsafe(_resolve, answered)


def _resolve(answered: Sequence[Answered]) -> None:
    for waiter, answer in answered:
        future = cast("asyncio.Future[Answer | Lost]", waiter)
        if not future.done():
            future.set_result(answer)
