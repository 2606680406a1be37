"""Balances in this process: one lock, and within it each claim is granted on all its accounts or on none.

Nothing here is durable: after a start the balances are rebuilt from the ledger's reservations. A settled
reservation is forgotten at once, so that memory holds what is open, and settling it again has no effect.
"""

from collections.abc import Iterable, Mapping, Sequence
from threading import Lock
from typing import Final, TypeAlias

from tierwise.core.budgets import (
    RESERVATIONS,
    AccountRef,
    Balance,
    Claim,
    Crossing,
    Denied,
    Outcome,
    Past,
    ReservationState,
    Reserved,
    Shrunk,
    step_of,
)
from tierwise.core.policy import Budget
from tierwise.money import Nanos


class MemoryBudgets:
    """The accounts and open reservations of one process. Safe to call from several threads."""

    def __init__(self) -> None:
        """Begin without accounts: the first claim on one opens it."""
        self._lock = Lock()
        self._accounts: dict[str, _Account] = {}
        self._open: dict[str, _Reservation] = {}

    @property
    def open_reservations(self) -> int:
        """How many reservations are not settled: of calls in flight, and kept."""
        return len(self._open)

    def reserve(self, claim: Claim) -> Outcome:
        """Set a call's worst case aside on all its accounts at once, or as much as all of them have left.

        The room of an account is its limit less what is posted and pending; a budget that only warns has room
        for everything. The budget's terms are those of the claim. A denied claim leaves no trace.

        Each share at which a budget warns is reported once an account, by the reservation after which it is
        reached; where one reservation reaches several, only the highest. A restart forgets which were reported.

        Raises:
            ValueError: the call has a reservation that is not settled.
        """
        with self._lock:
            if claim.call_id in self._open:
                raise ValueError(claim.call_id)
            accounts = [self._account(ref) for ref in claim.accounts]
            tightest, granted = _fit(accounts, claim.amount_nanos)
            if granted < claim.least_nanos and tightest is not None:
                return _denied(claim, tightest, accounts)
            self._hold(claim.call_id, accounts, granted)
            crossings = _crossings(claim, accounts)
        if tightest is None:
            return Reserved(amount_nanos=granted, crossings=crossings)
        return Shrunk(amount_nanos=granted, crossings=crossings)

    def settle(self, call_id: str, cost_nanos: Nanos | None) -> None:
        """Book what a call cost, on all accounts of its reservation, and release the rest.

        None keeps the reservation, pending, until its cost is known. A call without an open reservation is left
        alone: it is under no budget, or settled.

        Raises:
            KeyError: the reservation is kept, and the table of transitions has no such step from there.
        """
        with self._lock:
            self._settle(call_id, cost_nanos)

    def resume(self, past: Iterable[Past]) -> None:
        """Rebuild the balances from the ledger's reservations, before the first claim.

        A reservation without a known cost is kept: the process that held it is gone. Which budgets the accounts
        are of is not known until a claim names them.

        Raises:
            ValueError: two reservations of one call have no known cost.
        """
        with self._lock:
            for each in past:
                if each.call_id in self._open:
                    raise ValueError(each.call_id)
                accounts = [self._accounts.get(key) or _Account(key) for key in each.accounts]
                self._hold(each.call_id, accounts, each.amount_nanos)
                self._settle(each.call_id, each.cost_nanos)

    def forget_ended(self, at_us: int) -> None:
        """Forget the accounts whose window has ended by a time, and that have nothing pending.

        Args:
            at_us: in microseconds since 1970 UTC; earlier than the reading of any call that is still to reserve,
                whose account would begin anew.
        """
        with self._lock:
            ended = [key for key, account in self._accounts.items() if account.has_ended(at_us)]
            for key in ended:
                del self._accounts[key]

    def balance(self, key: str) -> Balance:
        """Return what an account holds; nothing for one that was never charged."""
        with self._lock:
            account = self._accounts.get(key)
            return Balance() if account is None else account.balance()

    def balances(self) -> Mapping[str, Balance]:
        """Return what all accounts hold at one moment, by key."""
        with self._lock:
            return {key: account.balance() for key, account in self._accounts.items()}

    def _account(self, ref: AccountRef) -> "_Account":
        """The account under the terms that the claim brings; a new one is not yet among the accounts."""
        account = self._accounts.get(ref.key)
        if account is None:
            account = _Account(ref.key)
        if account.budget is not ref.budget:
            account.take_terms(ref)
        return account

    def _hold(self, call_id: str, accounts: "Sequence[_Account]", amount: Nanos) -> None:
        for account in accounts:
            account.reserved += amount
            account.pending += amount
            self._accounts[account.key] = account
        self._open[call_id] = (_PENDING, amount, accounts)

    def _settle(self, call_id: str, cost: Nanos | None) -> None:
        found = self._open.get(call_id)
        if found is None:
            return
        state, amount, accounts = found
        state = RESERVATIONS[state, step_of(cost)]
        if cost is None:
            self._open[call_id] = (state, amount, accounts)
            return
        del self._open[call_id]
        _post(accounts, amount, cost)


class _Account:
    """The hot state of one account, in nanodollars. What was reserved is counted, so that the law can be checked."""

    __slots__ = (
        "budget",
        "ends_us",
        "key",
        "limit",
        "overrun",
        "pending",
        "posted",
        "released",
        "reserved",
        "warned",
        "warns_from",
    )

    def __init__(self, key: str) -> None:
        self.key = key
        self.reserved: Nanos = 0
        self.pending: Nanos = 0
        self.posted: Nanos = 0
        self.released: Nanos = 0
        self.overrun: Nanos = 0
        self.budget: Budget | None = None
        self.ends_us: int | None = None
        self.limit: Nanos | None = None
        """None where the budget only warns."""
        self.warned = -1
        """The highest per cent that was reported."""
        self.warns_from: Nanos | None = None
        """The use at which the next share is reached; None where none is left."""

    def take_terms(self, ref: AccountRef) -> None:
        self.budget = ref.budget
        self.ends_us = ref.ends_us
        self.limit = ref.budget.limit_nanos if ref.budget.hard else None
        self._find_next_share(ref.budget)

    def crossing(self, ref: AccountRef) -> Crossing:
        """Report the highest share that is reached, and remember it."""
        used = self.posted + self.pending
        self.warned = max(
            share for share in ref.budget.warn_at if used * 100 >= share * ref.budget.limit_nanos
        )
        self._find_next_share(ref.budget)
        return Crossing(account=ref, percent=self.warned, used_nanos=used)

    def has_ended(self, at_us: int) -> bool:
        return self.ends_us is not None and self.ends_us <= at_us and not self.pending

    def balance(self) -> Balance:
        return Balance(
            reserved_nanos=self.reserved,
            pending_nanos=self.pending,
            posted_nanos=self.posted,
            released_nanos=self.released,
            overrun_nanos=self.overrun,
        )

    def _find_next_share(self, budget: Budget) -> None:
        share = min((share for share in budget.warn_at if share > self.warned), default=None)
        self.warns_from = None if share is None else -(-share * budget.limit_nanos // 100)


_Reservation: TypeAlias = tuple[ReservationState, Nanos, Sequence[_Account]]
"""Its state, its amount on each account, and the accounts. A tuple: making one is the cheapest."""

_PENDING: Final = ReservationState.PENDING


def _fit(accounts: Sequence[_Account], amount: Nanos) -> tuple[int | None, Nanos]:
    """Where the least is left, None where there is room for the amount everywhere; and how much may be granted."""
    tightest = None
    for place, account in enumerate(accounts):
        if account.limit is not None:
            room = account.limit - account.posted - account.pending
            if room < amount:
                tightest, amount = place, room
    return tightest, amount


def _denied(claim: Claim, tightest: int, accounts: Sequence[_Account]) -> Denied:
    return Denied(
        account=claim.accounts[tightest],
        posted_nanos=accounts[tightest].posted,
        pending_nanos=accounts[tightest].pending,
        asked_nanos=claim.least_nanos,
    )


def _crossings(claim: Claim, accounts: Sequence[_Account]) -> tuple[Crossing, ...]:
    found: tuple[Crossing, ...] = ()
    for place, account in enumerate(accounts):
        if account.warns_from is not None and account.posted + account.pending >= account.warns_from:
            found = (*found, account.crossing(claim.accounts[place]))
    return found


def _post(accounts: Sequence[_Account], amount: Nanos, cost: Nanos) -> None:
    left = amount - cost
    for account in accounts:
        account.pending -= amount
        account.posted += cost
        if left >= 0:
            account.released += left
        else:
            account.overrun -= left
