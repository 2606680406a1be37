"""Balances in this process: one lock, and within it each claim is granted on all its accounts or on none.

Nothing here is durable: after a start the balances are taken from the ledger. A settled reservation is forgotten at
once, so that memory holds what is open, and settling it again has no effect.
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
    OpenReservation,
    Outcome,
    ReservationState,
    Reserved,
    Shrunk,
    amount_on,
    cost_on,
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

        The room of an account is its limit, raised by its top-ups, less what is posted and pending; where it only
        bounds what is pending, less that alone. A budget that only warns has room for everything. The terms are
        those of the claim. A denied claim leaves no trace.

        Each share at which a budget warns is reported once an account, by the reservation after which it is
        reached; where one reservation reaches several, only the highest.

        Raises:
            ValueError: the call has a reservation that is not settled.
        """
        with self._lock:
            if claim.call_id in self._open:
                raise ValueError(claim.call_id)
            accounts = [self._account(ref) for ref in claim.accounts]
            tightest, granted = _fit(accounts, claim)
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
            found = self._open.get(call_id)
            if found is None:
                return
            state, amount, accounts = found
            state = RESERVATIONS[state, step_of(cost_nanos)]
            if cost_nanos is None:
                self._open[call_id] = (state, amount, accounts)
                return
            del self._open[call_id]
            _post(accounts, amount, cost_nanos)

    def top_up(self, entry_id: str, account: str, amount_nanos: Nanos) -> None:
        """Raise an account's limit. Each entry is to be told once: that is its teller's care.

        Args:
            entry_id: names the entry.
            account: the account's key.
            amount_nanos: by how much, in the budget's unit.
        """
        del entry_id
        with self._lock:
            found = self._accounts.setdefault(account, _Account(account))
            found.topped_up += amount_nanos
            found.budget = None  # its next share is looked for again

    def resume(self, balances: Mapping[str, Balance], open_reservations: Iterable[OpenReservation]) -> None:
        """Take the balances over from the ledger, before the first claim.

        An open reservation is kept: the process that held it is gone. What a budget warned of is taken as told. Which
        budgets the accounts are of is not known until a claim names them.

        Raises:
            ValueError: two open reservations are of one call.
        """
        with self._lock:
            for key, balance in balances.items():
                self._accounts[key] = _Account(key, balance)
            for each in open_reservations:
                if each.call_id in self._open:
                    raise ValueError(each.call_id)
                accounts = [self._accounts.setdefault(key, _Account(key)) for key in each.accounts]
                self._open[each.call_id] = (ReservationState.KEPT, each.amount_nanos, accounts)

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
            held = amount if account.in_money else 1
            account.reserved += held
            account.pending += held
            self._accounts[account.key] = account
        self._open[call_id] = (_PENDING, amount, accounts)


class _Account:
    """The hot state of one account, in its unit. What was reserved is counted, so that the law can be checked."""

    __slots__ = (
        "budget",
        "ends_us",
        "in_money",
        "key",
        "limit",
        "overrun",
        "pending",
        "pending_only",
        "posted",
        "released",
        "reserved",
        "topped_up",
        "warned",
        "warns_from",
    )

    def __init__(self, key: str, balance: Balance | None = None) -> None:
        held = balance or Balance()
        self.key = key
        self.in_money = amount_on(key, 0) == 0
        self.reserved: Nanos = held.reserved_nanos
        self.pending: Nanos = held.pending_nanos
        self.posted: Nanos = held.posted_nanos
        self.released: Nanos = held.released_nanos
        self.overrun: Nanos = held.overrun_nanos
        self.topped_up: Nanos = held.topped_up_nanos
        self.budget: Budget | None = None
        self.ends_us: int | None = None
        self.limit: Nanos | None = None
        """Raised by the top-ups. None where the budget only warns."""
        self.pending_only = False
        self.warned: int | None = None if balance is not None else -1
        """The highest per cent that was reported; None: what was reached when it was taken over."""
        self.warns_from: Nanos | None = None
        """The use at which the next share is reached; None where none is left."""

    def take_terms(self, ref: AccountRef) -> None:
        self.budget = ref.budget
        self.ends_us = ref.ends_us
        self.pending_only = ref.pending_only
        self.limit = None if ref.limit is None else ref.limit + self.topped_up
        if not ref.pending_only:
            self._find_next_share(ref.budget)

    def crossing(self, ref: AccountRef) -> Crossing:
        """Report the highest share that is reached, and remember it."""
        self.warned = max(self._reached(ref.budget))
        self._find_next_share(ref.budget)
        return Crossing(account=ref, percent=self.warned, used_nanos=self.posted + self.pending)

    def has_ended(self, at_us: int) -> bool:
        return self.ends_us is not None and self.ends_us <= at_us and not self.pending

    def balance(self) -> Balance:
        return Balance(
            reserved_nanos=self.reserved,
            pending_nanos=self.pending,
            posted_nanos=self.posted,
            released_nanos=self.released,
            overrun_nanos=self.overrun,
            topped_up_nanos=self.topped_up,
        )

    def _find_next_share(self, budget: Budget) -> None:
        if self.warned is None:
            self.warned = max(self._reached(budget), default=-1)
        share = min((share for share in budget.warn_at if share > self.warned), default=None)
        self.warns_from = None if share is None else -(-share * (budget.limit + self.topped_up) // 100)

    def _reached(self, budget: Budget) -> list[int]:
        used, limit = self.posted + self.pending, budget.limit + self.topped_up
        return [share for share in budget.warn_at if used * 100 >= share * limit]


_Reservation: TypeAlias = tuple[ReservationState, Nanos, Sequence[_Account]]
"""Its state, its amount in money, and the accounts. A tuple: making one is the cheapest."""

_PENDING: Final = ReservationState.PENDING


def _fit(accounts: Sequence[_Account], claim: Claim) -> tuple[int | None, Nanos]:
    """Where the least is left, None where there is room for the amount everywhere; and how much may be granted."""
    tightest, amount = None, claim.amount_nanos
    for place, account in enumerate(accounts):
        if account.limit is None:
            continue
        room = account.limit - account.pending - (0 if account.pending_only else account.posted)
        if not account.in_money:
            room = claim.amount_nanos if room >= 1 else -1
        if room < amount:
            tightest, amount = place, room
    return tightest, amount


def _denied(claim: Claim, tightest: int, accounts: Sequence[_Account]) -> Denied:
    account = accounts[tightest]
    return Denied(
        account=claim.accounts[tightest],
        posted_nanos=account.posted,
        pending_nanos=account.pending,
        asked_nanos=amount_on(account.key, claim.least_nanos),
        topped_up_nanos=account.topped_up,
    )


def _crossings(claim: Claim, accounts: Sequence[_Account]) -> tuple[Crossing, ...]:
    found: tuple[Crossing, ...] = ()
    for place, account in enumerate(accounts):
        if account.warns_from is not None and account.posted + account.pending >= account.warns_from:
            found = (*found, account.crossing(claim.accounts[place]))
    return found


def _post(accounts: Sequence[_Account], amount: Nanos, cost: Nanos) -> None:
    for account in accounts:
        held, spent = amount, cost
        if not account.in_money:
            held, spent = 1, cost_on(account.key, cost)
        account.pending -= held
        account.posted += spent
        if held >= spent:
            account.released += held - spent
        else:
            account.overrun += spent - held
