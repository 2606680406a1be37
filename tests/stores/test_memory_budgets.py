"""What balances in this process do, besides what all do."""

import pytest

from support.claims import a_claim, an_account
from tierwise.core.budgets import (
    RESERVATIONS,
    Balance,
    Crossing,
    OpenReservation,
    ReservationState,
    Reserved,
    step_of,
)
from tierwise.stores.budgets.memory import MemoryBudgets


def an_open(call_id: str) -> OpenReservation:
    return OpenReservation(call_id=call_id, accounts=("a",), amount_nanos=40, at_us=1, ended=True)


def test_a_kept_reservation_cannot_be_lost_sight_of_again() -> None:
    assert (ReservationState.KEPT, step_of(None)) not in RESERVATIONS
    store = MemoryBudgets()
    store.reserve(a_claim("c1", 40, an_account()))
    store.settle("c1", None)

    with pytest.raises(KeyError):
        store.settle("c1", None)

    assert store.balance("a") == Balance(reserved_nanos=40, pending_nanos=40)


def test_shares_are_exact_where_a_float_is_not() -> None:
    limit = 10**18 + 100
    reached = limit * 80 // 100
    account = an_account(limit=limit, warn_at=(80,))
    store = MemoryBudgets()

    assert store.reserve(a_claim("c1", reached - 1, account)) == Reserved(amount_nanos=reached - 1)
    crossing = Crossing(account=account, percent=80, used_nanos=reached)
    assert store.reserve(a_claim("c2", 1, account)) == Reserved(amount_nanos=1, crossings=(crossing,))


def test_two_resumed_reservations_of_one_call_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="c1"):
        MemoryBudgets().resume({}, [an_open("c1"), an_open("c1")])


def test_an_account_is_forgotten_when_its_window_has_ended() -> None:
    store = MemoryBudgets()
    store.reserve(a_claim("c1", 10, an_account("a", ends_us=100), an_account("b", ends_us=101)))
    store.settle("c1", 10)

    store.forget_ended(100)

    assert set(store.balances()) == {"b"}


def test_a_lifetime_is_not_forgotten() -> None:
    store = MemoryBudgets()
    store.reserve(a_claim("c1", 10, an_account("a", ends_us=None)))
    store.settle("c1", 10)

    store.forget_ended(2**63)

    assert set(store.balances()) == {"a"}


def test_an_ended_account_stays_until_nothing_is_pending_on_it() -> None:
    store = MemoryBudgets()
    store.reserve(a_claim("c1", 10, an_account("a", ends_us=100)))
    store.settle("c1", None)

    store.forget_ended(100)
    assert store.balance("a") == Balance(reserved_nanos=10, pending_nanos=10)

    store.settle("c1", 4)
    store.forget_ended(100)
    assert store.balances() == {}


def test_a_resumed_account_is_forgotten_only_after_a_claim_has_told_its_end() -> None:
    store = MemoryBudgets()
    store.resume({"a": Balance(reserved_nanos=40, posted_nanos=30, released_nanos=10)}, [])

    store.forget_ended(100)
    assert set(store.balances()) == {"a"}

    store.reserve(a_claim("c2", 10, an_account("a", ends_us=100)))
    store.settle("c2", 10)
    store.forget_ended(100)
    assert store.balances() == {}
