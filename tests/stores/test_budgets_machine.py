"""Any order of reservations, settlements, restarts and windows, against a model that folds a plain list."""

from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tierwise.core.budgets import (
    AccountRef,
    Balance,
    Claim,
    Crossing,
    Denied,
    Outcome,
    Past,
    Reserved,
    Shrunk,
)
from tierwise.core.policy import Budget
from tierwise.stores.budgets.memory import MemoryBudgets

DAY = 24
AMOUNTS = (10, 20, 40, 60)
"""Few and round, so that what is asked for is often just what is left."""
BUDGETS = (
    Budget(name="life", scope="all", limit_nanos=300, warn_at=(50, 80, 100)),
    Budget(name="day", scope="all", limit_nanos=100, window="day"),
    Budget(name="day-warning", scope="all", limit_nanos=90, window="day", hard=False),
)
LIMITS = {budget.name: budget.limit_nanos for budget in BUDGETS if budget.hard}


@dataclass(slots=True)
class Call:
    """What the model knows of one granted call."""

    call_id: str
    keys: tuple[str, ...]
    amount: int
    cost: int | None = None
    kept: bool = False


def fold(calls: list[Call], key: str) -> Balance:
    """An account's balance, from the definitions alone."""
    charged = [call for call in calls if key in call.keys]
    known = [(call.amount, call.cost) for call in charged if call.cost is not None]
    return Balance(
        reserved_nanos=sum(call.amount for call in charged),
        pending_nanos=sum(call.amount for call in charged if call.cost is None),
        posted_nanos=sum(cost for _, cost in known),
        released_nanos=sum(max(0, amount - cost) for amount, cost in known),
        overrun_nanos=sum(max(0, cost - amount) for amount, cost in known),
    )


class BudgetsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryBudgets()
        self.now = 0
        self.asked = 0
        self.calls: list[Call] = []
        self.ends: dict[str, int | None] = {}
        """Of the accounts that this store has heard of in a claim."""
        self.forgotten: set[str] = set()
        self.warned: dict[str, int] = {}

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
    @rule(data=st.data(), share=st.sampled_from([30, 100, 130]))
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

    @rule()
    def restart(self) -> None:
        past = [
            Past(call_id=call.call_id, accounts=call.keys, amount_nanos=call.amount, cost_nanos=call.cost)
            for call in self.calls
        ]
        for call in self.in_flight():
            call.kept = True
        self.ends, self.forgotten, self.warned = {}, set(), {}
        self.store = MemoryBudgets()
        self.store.resume(past)

    @rule(hours=st.sampled_from([12, 24]))
    def wait(self, hours: int) -> None:
        self.now += hours

    @rule()
    def forget_ended(self) -> None:
        self.store.forget_ended(self.now)
        for key, ends in self.ends.items():
            if ends is not None and ends <= self.now and not fold(self.calls, key).pending_nanos:
                self.forgotten.add(key)

    @invariant()
    def every_balance_is_the_fold_of_its_calls(self) -> None:
        keys = {key for call in self.calls for key in call.keys} - self.forgotten
        assert self.store.balances() == {key: fold(self.calls, key) for key in keys}

    @invariant()
    def what_is_reserved_or_overrun_is_pending_or_posted_or_released(self) -> None:
        assert all(balance.holds for balance in self.store.balances().values())

    @invariant()
    def no_hard_budget_is_exceeded_but_by_an_overrun(self) -> None:
        for key, balance in self.store.balances().items():
            limit = LIMITS.get(key.split("|")[0])
            if limit is not None and not balance.overrun_nanos:
                assert balance.used_nanos <= limit

    @invariant()
    def what_is_open_is_in_flight_or_kept(self) -> None:
        assert self.store.open_reservations == len(self.in_flight()) + len(self.kept())

    def account(self, budget: Budget) -> AccountRef:
        if budget.window == "lifetime":
            return AccountRef(key=f"{budget.name}|lifetime", budget=budget, value="", ends_us=None)
        day = self.now // DAY
        return AccountRef(key=f"{budget.name}|{day}", budget=budget, value="", ends_us=(day + 1) * DAY)

    def expect(self, claim: Claim) -> Outcome:
        """What the rules grant a claim; note it down as granted."""
        rooms = {
            ref.key: ref.budget.limit_nanos - fold(self.calls, ref.key).used_nanos
            for ref in claim.accounts
            if ref.budget.hard
        }
        granted = min([claim.amount_nanos, *rooms.values()])
        if granted < claim.least_nanos:
            tightest = next(ref for ref in claim.accounts if rooms.get(ref.key) == granted)
            balance = fold(self.calls, tightest.key)
            self.hear_of([ref for ref in claim.accounts if any(ref.key in call.keys for call in self.calls)])
            return Denied(
                account=tightest,
                posted_nanos=balance.posted_nanos,
                pending_nanos=balance.pending_nanos,
                asked_nanos=claim.least_nanos,
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
        used = fold(self.calls, ref.key).used_nanos
        reached = [share for share in ref.budget.warn_at if 100 * used >= share * ref.budget.limit_nanos]
        highest = max(reached, default=0)
        if highest <= self.warned.get(ref.key, 0):
            return []
        self.warned[ref.key] = highest
        return [Crossing(account=ref, percent=highest, used_nanos=used)]

    def book(self, call: Call, cost: int) -> None:
        call.cost = cost
        self.store.settle(call.call_id, cost)

    def in_flight(self) -> list[Call]:
        return [call for call in self.calls if call.cost is None and not call.kept]

    def kept(self) -> list[Call]:
        return [call for call in self.calls if call.cost is None and call.kept]

    def settled(self) -> list[Call]:
        return [call for call in self.calls if call.cost is not None]


BudgetsMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestBudgets = BudgetsMachine.TestCase
