"""The budgets as the drivers see them: claim before a call, settle after it, wait for money, and warn.

A driver that waits in coroutines is given `AsyncBudgets`, one that runs in a thread `BudgetStore`. Balances in this
process serve both; a store elsewhere has a side for each.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from tierwise.core.budgets import Claim, Crossing, Denied, Lost, Outcome
from tierwise.money import Nanos, format_usd

log = logging.getLogger("tierwise.budgets")


class BudgetStore(Protocol):
    """Holds the accounts; safe to use from any thread."""

    def reserve(self, claim: Claim) -> Outcome:
        """Set a claim aside on all its accounts, or on none, in one step."""
        ...

    def settle(self, call_id: str, cost_nanos: Nanos | None) -> None:
        """Settle a call's reservation at its cost; None keeps it. It never waits, and never fails."""
        ...

    def top_up(self, entry_id: str, account: str, amount_nanos: Nanos) -> None:
        """Raise the limit of an account, once for each entry."""
        ...


class AsyncBudgets(Protocol):
    """The accounts, for the coroutines of one event loop."""

    async def reserve(self, claim: Claim) -> Outcome:
        """Set a claim aside on all its accounts, or on none, in one step."""
        ...

    def settle(self, call_id: str, cost_nanos: Nanos | None) -> None:
        """Settle a call's reservation at its cost; None keeps it. It never waits, and never fails."""
        ...

    async def wait(self, timeout_s: float) -> None:
        """Wait until money may have come back, in turn, or until the time is over."""
        ...


class LocalBudgets:
    """Balances of this process, for the coroutines of its event loop."""

    def __init__(self, store: BudgetStore) -> None:
        """Ask `store`, whose steps are too short to wait for."""
        self._store = store
        self._turns = Turns()

    async def reserve(self, claim: Claim) -> Outcome:
        """Set a claim aside on all its accounts, or on none, in one step."""
        outcome = self._store.reserve(claim)
        if not isinstance(outcome, Denied):
            self._turns.next()
        return outcome

    def settle(self, call_id: str, cost_nanos: Nanos | None) -> None:
        """Settle a call's reservation at its cost; None keeps it."""
        self._store.settle(call_id, cost_nanos)
        self._turns.next()

    async def wait(self, timeout_s: float) -> None:
        """Wait until money may have come back, in turn, or until the time is over."""
        await self._turns.wait(timeout_s)


LONGEST_QUEUE: Final = 1_000
"""Calls that wait in turn in a process; one more has no turn, and looks again by itself."""

LOOKS_AGAIN_S: Final = 0.25
"""How long a call waits at most before it looks again: money may come back elsewhere."""


class Turns:
    """Calls that wait for money in one event loop, in turn.

    Each settlement wakes one, and each call that is granted what it asked wakes the next: what one leaves reaches the
    others without all of them asking at once. A wait that is over has lost its turn.
    """

    def __init__(self) -> None:
        """Begin with nobody waiting."""
        self._waiting: dict[asyncio.Future[None], None] = {}
        """In turn: a set that keeps its order."""

    def next(self) -> None:
        """Wake the first that is waiting."""
        if self._waiting:
            turn = next(iter(self._waiting))
            del self._waiting[turn]
            turn.set_result(None)

    async def wait(self, timeout_s: float) -> None:
        """Wait for a turn, or until the time is over."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if len(self._waiting) < LONGEST_QUEUE:
            self._waiting[turn] = None
        try:
            await asyncio.wait({turn}, timeout=min(timeout_s, LOOKS_AGAIN_S))
        except asyncio.CancelledError:
            if turn.done():
                self.next()  # a turn that nobody takes is the next one's
            raise
        finally:
            self._waiting.pop(turn, None)


class Warnings:
    """Tells of accounts that come near their limits: to the log, and to whoever else is to know."""

    def __init__(self, tell: Callable[[Crossing], None] | None = None) -> None:
        """Tell `tell` too."""
        self._tell = tell

    def tell(self, outcome: Outcome) -> None:
        """Tell what a claim's outcome reports."""
        if isinstance(outcome, Denied | Lost):
            return
        for crossing in outcome.crossings:
            log.warning("%s", describe(crossing))
            if self._tell is not None:
                self._tell(crossing)


def describe(crossing: Crossing) -> str:
    """Write a warning for people: `budget run-lifetime, run run-7: 80 % of $25.00 is used ($20.01)`."""
    account = crossing.account
    budget = account.budget
    whose = "" if budget.scope == "all" else f", {budget.scope} {account.value or '(none)'}"
    used, limit = (amount(budget.counts, value) for value in (crossing.used_nanos, budget.limit))
    return f"budget {budget.name}{whose}: {crossing.percent} % of {limit} is used ({used})"


def amount(counts: str, value: int) -> str:
    """Write an amount of a budget in its unit: `$25.00`, `12 calls`."""
    return f"{value} calls" if counts == "calls" else format_usd(value)
