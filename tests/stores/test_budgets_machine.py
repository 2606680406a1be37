"""Any order of reservations, settlements, top-ups, losses and windows, against a model that folds a plain list."""

from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import count
from typing import Protocol

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from support.valkey import PATIENT, PlainLedger, Valkey, a_valkey, budgets_on
from support.waiting import eventually
from tierwise.core.budgets import (
    AccountRef,
    Balance,
    Claim,
    Crossing,
    Denied,
    OpenReservation,
    Outcome,
    Reserved,
    Shrunk,
)
from tierwise.core.policy import Budget
from tierwise.errors import BudgetStoreUnavailable
from tierwise.stores.budgets.memory import MemoryBudgets
from tierwise.stores.budgets.rebuild import Loaded

DAY = 24
START_US = 4 * 10**15
"""Far from now: a server forgets what ended more than a day ago."""
AMOUNTS = (10, 20, 40, 60)
"""Few and round, so that what is asked for is often just what is left."""
BUDGETS = (
    Budget(name="life", scope="all", limit=300, warn_at=(50, 80, 100)),
    Budget(name="day", scope="all", limit=100, window="day"),
    Budget(name="day-warning", scope="all", limit=90, window="day", hard=False),
)
LIMITS = {budget.name: budget.limit for budget in BUDGETS if budget.hard}


@dataclass(slots=True)
class Call:
    """What the model knows of one granted call."""

    call_id: str
    keys: tuple[str, ...]
    amount: int
    cost: int | None = None
    kept: bool = False


class Store(Protocol):
    """What is asked of both."""

    @property
    def open_reservations(self) -> int: ...
    def reserve(self, claim: Claim) -> Outcome: ...
    def settle(self, call_id: str, cost_nanos: int | None) -> None: ...
    def top_up(self, entry_id: str, account: str, amount_nanos: int) -> None: ...
    def balances(self) -> Mapping[str, Balance]: ...


class BudgetsMachine(RuleBasedStateMachine):
    """The model; what holds the balances is another's to say."""

    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.asked = 0
        self.calls: list[Call] = []
        self.top_ups: list[tuple[str, int]] = []
        self.ends: dict[str, int | None] = {}
        """Of the accounts that this store has heard of in a claim."""
        self.forgotten: set[str] = set()
        self.warned: dict[str, int] = {}
        self.taken_over: set[str] = set()
        """Accounts of which it is not known yet of what they have warned."""

    def lose_everything(self) -> None:
        """Lose the balances, and begin with what `loaded` says."""
        raise NotImplementedError

    def forget(self, at_us: int) -> bool:
        """Forget what has ended; False where that is not for a caller to say."""
        raise NotImplementedError

    @rule(
        budgets=st.sets(st.sampled_from(BUDGETS), max_size=3),
        amount=st.sampled_from(AMOUNTS),
        shrinks=st.booleans(),
    )
    def reserve(self, budgets: set[Budget], amount: int, shrinks: bool) -> None:
        self.asked += 1
        accounts = tuple(self.account(budget) for budget in BUDGETS if budget in budgets)
        claim = Claim(
            call_id=f"c{self.asked}",
            accounts=accounts,
            amount_nanos=amount,
            least_nanos=-(-amount // 4) if shrinks else amount,
        )
        expected = self.expect(claim)

        assert self.store.reserve(claim) == expected

    @precondition(lambda self: self.in_flight())
    @rule(data=st.data(), share=st.sampled_from([0, 30, 100, 130]))
    def settle(self, data: st.DataObject, share: int) -> None:
        call = data.draw(st.sampled_from(self.in_flight()))
        self.book(call, -(-call.amount * share // 100))

    @precondition(lambda self: self.in_flight())
    @rule(data=st.data())
    def lose_sight(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(self.in_flight()))
        call.kept = True
        self.store.settle(call.call_id, None)

    @precondition(lambda self: self.kept())
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        """`keep_for` is over: the worst case is posted as assumed."""
        call = data.draw(st.sampled_from(self.kept()))
        self.book(call, call.amount)

    @precondition(lambda self: self.kept())
    @rule(data=st.data(), share=st.sampled_from([30, 130]))
    def settle_late(self, data: st.DataObject, share: int) -> None:
        call = data.draw(st.sampled_from(self.kept()))
        self.book(call, -(-call.amount * share // 100))

    @precondition(lambda self: self.settled())
    @rule(data=st.data(), cost=st.one_of(st.none(), st.integers(0, 100)))
    def settle_again(self, data: st.DataObject, cost: int | None) -> None:
        self.store.settle(data.draw(st.sampled_from(self.settled())).call_id, cost)

    @precondition(lambda self: self.in_flight())
    @rule(data=st.data())
    def reserve_again(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(self.in_flight()))
        claim = Claim(call_id=call.call_id, accounts=(), amount_nanos=1, least_nanos=1)
        with pytest.raises(ValueError, match=call.call_id):
            self.store.reserve(claim)

    @rule(budget=st.sampled_from(BUDGETS), amount=st.sampled_from(AMOUNTS))
    def top_up(self, budget: Budget, amount: int) -> None:
        key = self.account(budget).key
        self.top_ups.append((key, amount))
        self.store.top_up(f"t{len(self.top_ups)}", key, amount)

    @rule()
    def restart(self) -> None:
        for call in self.in_flight():
            call.kept = True
        self.ends, self.forgotten, self.warned = {}, set(), {}
        self.lose_everything()
        self.taken_over = self.keys()

    @rule(hours=st.sampled_from([12, 24]))
    def wait(self, hours: int) -> None:
        self.now += hours

    @rule()
    def forget_ended(self) -> None:
        if not self.forget(START_US + self.now):
            return
        for key, ends in self.ends.items():
            if ends is not None and ends <= START_US + self.now and not self.fold(key).pending_nanos:
                self.forgotten.add(key)

    @invariant()
    def every_balance_is_the_fold_of_its_calls(self) -> None:
        assert self.store.balances() == {key: self.fold(key) for key in self.keys() - self.forgotten}

    @invariant()
    def what_is_reserved_or_overrun_is_pending_or_posted_or_released(self) -> None:
        assert all(balance.holds for balance in self.store.balances().values())

    @invariant()
    def no_hard_budget_is_exceeded_but_by_an_overrun(self) -> None:
        for key, balance in self.store.balances().items():
            limit = LIMITS.get(key.split("|")[0])
            if limit is not None and not balance.overrun_nanos:
                assert balance.used_nanos <= limit + balance.topped_up_nanos

    @invariant()
    def what_is_open_is_in_flight_or_kept(self) -> None:
        assert self.store.open_reservations == len(self.in_flight()) + len(self.kept())

    def account(self, budget: Budget) -> AccountRef:
        if budget.window == "lifetime":
            return AccountRef(key=f"{budget.name}|lifetime", budget=budget, value="", ends_us=None)
        day = self.now // DAY
        ends_us = START_US + (day + 1) * DAY
        return AccountRef(key=f"{budget.name}|{day}", budget=budget, value="", ends_us=ends_us)

    def expect(self, claim: Claim) -> Outcome:
        """What the rules grant a claim; note it down as granted."""
        for ref in claim.accounts:
            if ref.key in self.taken_over:
                self.taken_over.remove(ref.key)
                self.warned[ref.key] = self.highest_reached(ref)
        rooms = {
            ref.key: ref.budget.limit + self.fold(ref.key).topped_up_nanos - self.fold(ref.key).used_nanos
            for ref in claim.accounts
            if ref.budget.hard
        }
        granted = min([claim.amount_nanos, *rooms.values()])
        if granted < claim.least_nanos:
            tightest = next(ref for ref in claim.accounts if rooms.get(ref.key) == granted)
            balance = self.fold(tightest.key)
            self.hear_of([ref for ref in claim.accounts if ref.key in self.keys()])
            return Denied(
                account=tightest,
                posted_nanos=balance.posted_nanos,
                pending_nanos=balance.pending_nanos,
                asked_nanos=claim.least_nanos,
                topped_up_nanos=balance.topped_up_nanos,
            )
        keys = tuple(ref.key for ref in claim.accounts)
        self.calls.append(Call(call_id=claim.call_id, keys=keys, amount=granted))
        self.hear_of(claim.accounts)
        crossings = tuple(crossing for ref in claim.accounts for crossing in self.crossing(ref))
        if granted == claim.amount_nanos:
            return Reserved(amount_nanos=granted, crossings=crossings)
        return Shrunk(amount_nanos=granted, crossings=crossings)

    def hear_of(self, accounts: Iterable[AccountRef]) -> None:
        self.ends |= {ref.key: ref.ends_us for ref in accounts}

    def crossing(self, ref: AccountRef) -> list[Crossing]:
        highest = self.highest_reached(ref)
        if highest <= self.warned.get(ref.key, 0):
            return []
        self.warned[ref.key] = highest
        return [Crossing(account=ref, percent=highest, used_nanos=self.fold(ref.key).used_nanos)]

    def highest_reached(self, ref: AccountRef) -> int:
        balance = self.fold(ref.key)
        limit = ref.budget.limit + balance.topped_up_nanos
        return max(
            (share for share in ref.budget.warn_at if 100 * balance.used_nanos >= share * limit), default=0
        )

    def keys(self) -> set[str]:
        return {key for call in self.calls for key in call.keys} | {key for key, _ in self.top_ups}

    def fold(self, key: str) -> Balance:
        """An account's balance, from the definitions alone."""
        charged = [call for call in self.calls if key in call.keys]
        known = [(call.amount, call.cost) for call in charged if call.cost is not None]
        return Balance(
            reserved_nanos=sum(call.amount for call in charged),
            pending_nanos=sum(call.amount for call in charged if call.cost is None),
            posted_nanos=sum(cost for _, cost in known),
            released_nanos=sum(max(0, amount - cost) for amount, cost in known),
            overrun_nanos=sum(max(0, cost - amount) for amount, cost in known),
            topped_up_nanos=sum(amount for account, amount in self.top_ups if account == key),
        )

    def loaded(self) -> Loaded:
        """What a ledger says of all this."""
        return Loaded(
            balances={key: self.fold(key) for key in self.keys()},
            open_reservations=[
                OpenReservation(
                    call_id=call.call_id,
                    accounts=call.keys,
                    amount_nanos=call.amount,
                    at_us=1,
                    ended=call.kept,
                )
                for call in self.calls
                if call.cost is None
            ],
            top_ups=[f"t{number}" for number in range(1, len(self.top_ups) + 1)],
        )

    def book(self, call: Call, cost: int) -> None:
        call.cost = cost
        self.store.settle(call.call_id, cost)

    def in_flight(self) -> list[Call]:
        return [call for call in self.calls if call.cost is None and not call.kept]

    def kept(self) -> list[Call]:
        return [call for call in self.calls if call.cost is None and call.kept]

    def settled(self) -> list[Call]:
        return [call for call in self.calls if call.cost is not None]


class InMemory(BudgetsMachine):
    """Balances of one process, which is started again."""

    def __init__(self) -> None:
        super().__init__()
        self.store = self._budgets = MemoryBudgets()

    def lose_everything(self) -> None:
        self.store = self._budgets = MemoryBudgets()
        loaded = self.loaded()
        self._budgets.resume(loaded.balances, loaded.open_reservations)

    def forget(self, at_us: int) -> bool:
        self._budgets.forget_ended(at_us)
        return True


class LedgerOf(PlainLedger):
    """The model as a ledger."""

    def __init__(self, machine: BudgetsMachine) -> None:
        super().__init__()
        self._machine = machine

    def load(self) -> Loaded:
        self.loads += 1
        return self._machine.loaded()


class InValkey(BudgetsMachine):
    """Shared balances, which the server loses."""

    namespaces = count()
    server: Valkey

    def __init__(self) -> None:
        super().__init__()
        self._ledger = LedgerOf(self)
        self._namespace = f"m{next(self.namespaces)}"
        self._opened = ExitStack()
        timing = replace(PATIENT, grace_s=0.0, beat_s=0.02)
        budgets = budgets_on(self.server, self._ledger, timing=timing, namespace=self._namespace)
        self._budgets = self._opened.enter_context(budgets)
        self.store = self._budgets

    def top_up(self, budget: Budget, amount: int) -> None:
        super().top_up(budget, amount)
        self.store.top_up(f"t{len(self.top_ups)}", *self.top_ups[-1])  # by another gateway

    def lose_everything(self) -> None:
        before = self._ledger.loads
        self.server.ask("DEL", f"{{tierwise:{self._namespace}}}:epoch")
        eventually(lambda: self._ledger.loads > before and self._can_be_used(), until=bool)

    def forget(self, at_us: int) -> bool:
        return False

    def teardown(self) -> None:
        self._opened.close()

    def _can_be_used(self) -> bool:
        try:
            self._budgets.balance("")
        except BudgetStoreUnavailable:
            return False
        return True


InMemory.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestBudgets = InMemory.TestCase


@pytest.fixture(scope="module")
def valkey() -> Generator[Valkey]:
    with a_valkey() as server:
        yield server


def test_shared_balances_hold_in_any_order_of_events(valkey: Valkey) -> None:
    class Machine(InValkey):
        server = valkey

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=10,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
