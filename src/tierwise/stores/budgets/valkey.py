"""Balances that several gateways share, in a Valkey (or Redis): each batch of operations is one script there.

The terms are those of balances in one process. What the server holds is rebuilt from the ledger whenever it was
lost, and until then nobody is told what is left: a claim is answered `Lost` within two seconds.
"""

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from tierwise.core.budgets import Balance, Claim, Lost, Outcome
from tierwise.errors import BudgetStoreUnavailable
from tierwise.money import Nanos
from tierwise.stores.budgets import operations
from tierwise.stores.budgets.address import Address
from tierwise.stores.budgets.batches import REBUILDING, Answered, Batches, Operation, Post
from tierwise.stores.budgets.keeper import Keeper
from tierwise.stores.budgets.link import Link
from tierwise.stores.budgets.names import names_in, token_of
from tierwise.stores.budgets.operations import Answer, Packed
from tierwise.stores.budgets.rebuild import Truth
from tierwise.stores.budgets.timing import Timing

NO_ANSWER_S: Final = 10.0
"""Far longer than any answer takes."""


class ValkeyBudgets:
    """The accounts and open reservations of all gateways. Safe to call from several threads.

    Has two threads of its own, so it is made after a process has forked.
    """

    def __init__(
        self,
        address: Address,
        truth: Truth,
        *,
        namespace: str = "main",
        timing: Timing | None = None,
        gateway: str | None = None,
    ) -> None:
        """Connect, and begin to rebuild what is not there. A server that cannot be reached now may come later.

        Args:
            address: where the server is.
            truth: the ledger, which all gateways of a namespace share.
            namespace: tells apart what several ledgers keep in one server.
            timing: the times, if not the usual.
            gateway: names this process; must be unique. None: a random name.

        Raises:
            BudgetStoreUnfit: the server refuses the password, or forgets keys when its memory is full.
            ValueError: the namespace cannot be part of a key.
        """
        timing = timing or Timing()
        gateway = gateway or secrets.token_hex(8)
        connect = partial(Link, address, timeout_s=timing.silence_s)
        self._names = names_in(namespace)
        self._connect: Callable[[], Link] = connect
        _try(connect)
        self._keeper = Keeper(
            connect,
            self._names,
            gateway=gateway,
            truth=truth,
            timing=timing,
            settle=self.settle,
            is_first=lambda: not self._batches.has_adopted,
        )
        self._batches = Batches(
            connect,
            self._names,
            gateway=gateway,
            beat_s=timing.beat_s,
            alive_s=timing.alive_s,
            when_lost=self._keeper.rebuild,
        )
        self._batches.start()
        self._keeper.start()

    @property
    def trouble(self) -> str | None:
        """Why the balances cannot be used now; None where they can."""
        trouble = self._batches.trouble
        if trouble == REBUILDING and self._keeper.trouble is not None:
            return f"{trouble}, which fails: {self._keeper.trouble}"
        return trouble

    def wait_until_ready(self, timeout_s: float) -> bool:
        """Wait until the balances can be used; whether they can."""
        return self._batches.ready.wait(timeout_s)

    def close(self) -> None:
        """Apply what is left, and end."""
        self._keeper.close()
        self._batches.close()

    def reserve(self, claim: Claim) -> Outcome:
        """Set a claim aside on all its accounts, or on none, in one step; `Lost` where nobody knows what is left.

        Raises:
            ValueError: the call has a reservation that is not settled.
            AmountTooLarge: the claim, or a limit, is above `operations.LARGEST`.
        """
        waiter = _Waiter()
        self.put_claim(claim, _THREADS, waiter)
        answer = waiter.wait()
        if answer is _NO_ANSWER:
            self.settle(claim.call_id, 0)  # it may still be granted
        return operations.outcome(claim, answer)

    def settle(self, call_id: str, cost_nanos: Nanos | None) -> None:
        """Settle a call's reservation at its cost, soon; None keeps it. It never waits, and never fails.

        A call without an open reservation is left alone, and so is one that is kept, where the cost is None.
        """
        self._batches.put(Operation(operations.settle(call_id, cost_nanos), told=True))

    def top_up(self, entry_id: str, account: str, amount_nanos: Nanos) -> None:
        """Raise the limit of an account, soon, and once for each entry, whoever tells it.

        Raises:
            AmountTooLarge: the amount is above `operations.LARGEST`.
        """
        self._batches.put(Operation(operations.top_up(entry_id, account, amount_nanos), told=True))

    def tier(self, key: str) -> str | None:
        """Return the tier that was kept for a conversation; None where none was, or the server is lost."""
        answer = self._ask(operations.tier(key))
        return answer if isinstance(answer, str) else None

    def keep(self, key: str, tier: str, ttl_s: float) -> None:
        """Keep a conversation's tier for a time, soon; not where the server is lost."""
        self._batches.put(Operation(operations.keep(key, tier, ttl_s)))

    def balance(self, key: str) -> Balance:
        """Return what an account holds; nothing for one that was never charged.

        Raises:
            BudgetStoreUnavailable: nobody knows.
        """
        answer = self._known(operations.balance(key))
        return operations.held(answer) if isinstance(answer, list) else Balance()

    def balances(self) -> Mapping[str, Balance]:
        """Return what all accounts hold, by key, one after the other: not at one moment.

        Raises:
            BudgetStoreUnavailable: nobody knows.
        """
        self.balance("")  # what was put before is applied
        link = self._connect()
        try:
            epoch = link.ask_one("GET", self._names.epoch)
            start = self._names.account(token_of((epoch or b"").decode()), "")
            keys = [key.removeprefix(start) for key in link.scan(f"{start}*")]
        finally:
            link.close()
        return {key: self.balance(key) for key in keys}

    @property
    def open_reservations(self) -> int:
        """How many reservations are not settled, of all gateways: of calls in flight, and kept.

        Raises:
            BudgetStoreUnavailable: nobody knows.
        """
        answer = self._known(operations.count())
        return answer if isinstance(answer, int) else 0

    def put_claim(self, claim: Claim, post: Post, waiter: object) -> None:
        """Hand in a claim, for whoever does not wait in a thread; `operations.outcome` reads the answer.

        Raises:
            AmountTooLarge: the claim, or a limit, is above `operations.LARGEST`.
        """
        undo = operations.settle(claim.call_id, 0)
        self._batches.put(Operation(operations.reserve(claim), post=post, waiter=waiter, undo=undo))

    def put_question(self, key: str, post: Post, waiter: object) -> None:
        """Hand in the question for a conversation's tier, for whoever does not wait in a thread."""
        self._batches.put(Operation(operations.tier(key), post=post, waiter=waiter))

    def _ask(self, packed: Packed) -> Answer | Lost:
        waiter = _Waiter()
        self._batches.put(Operation(packed, post=_THREADS, waiter=waiter))
        return waiter.wait()

    def _known(self, packed: Packed) -> Answer:
        answer = self._ask(packed)
        if isinstance(answer, Lost):
            raise BudgetStoreUnavailable(address=self._names.base, why=answer.why)
        return answer


_NO_ANSWER: Final = Lost(why="no answer came")


class _Waiter:
    """A thread that waits for one answer."""

    __slots__ = ("_answer", "_is_there")

    def __init__(self) -> None:
        self._is_there = threading.Event()
        self._answer: Answer | Lost = _NO_ANSWER

    def take(self, answer: Answer | Lost) -> None:
        self._answer = answer
        self._is_there.set()

    def wait(self) -> Answer | Lost:
        self._is_there.wait(NO_ANSWER_S)
        return self._answer


class _Threads:
    """Brings answers to threads."""

    def deliver(self, answered: Sequence[Answered]) -> None:
        for waiter, answer in answered:
            if isinstance(waiter, _Waiter):
                waiter.take(answer)


_THREADS: Final = _Threads()


def _try(connect: Callable[[], Link]) -> None:
    """Find a server that is unfit before anything is asked of it; one that is away may come."""
    try:
        connect().close()
    except BudgetStoreUnavailable:
        return
