import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from tierwise.core.budgets import (
    RESERVATIONS,
    AccountRef,
    Balance,
    Claim,
    Crossing,
    Denied,
    Past,
    ReservationState,
    Reserved,
    Shrunk,
    step_of,
)
from tierwise.core.policy import Budget
from tierwise.stores.budgets.memory import MemoryBudgets


def an_account(
    key: str = "a",
    limit: int = 100,
    *,
    hard: bool = True,
    warn_at: tuple[int, ...] = (),
    ends_us: int | None = None,
) -> AccountRef:
    budget = Budget(name=key, scope="all", limit_nanos=limit, hard=hard, warn_at=warn_at)
    return AccountRef(key=key, budget=budget, value="", ends_us=ends_us)


def a_claim(call_id: str, amount: int, *accounts: AccountRef, least: int | None = None) -> Claim:
    return Claim(
        call_id=call_id,
        accounts=accounts,
        amount_nanos=amount,
        least_nanos=amount if least is None else least,
    )


def a_past(call_id: str, amount: int, cost: int | None, accounts: tuple[str, ...] = ("a",)) -> Past:
    return Past(call_id=call_id, accounts=accounts, amount_nanos=amount, cost_nanos=cost)


def crossed(store: MemoryBudgets, claims: Iterable[Claim]) -> list[tuple[int, ...]]:
    """The shares that each claim reports."""
    outcomes = [store.reserve(claim) for claim in claims]
    return [
        () if isinstance(outcome, Denied) else tuple(crossing.percent for crossing in outcome.crossings)
        for outcome in outcomes
    ]


def test_an_account_that_was_never_charged_holds_nothing() -> None:
    assert MemoryBudgets().balance("a") == Balance()


def test_a_reservation_counts_on_all_its_accounts_before_it_is_settled() -> None:
    store = MemoryBudgets()

    outcome = store.reserve(a_claim("c1", 40, an_account("a"), an_account("b")))

    assert outcome == Reserved(amount_nanos=40)
    held = Balance(reserved_nanos=40, pending_nanos=40)
    assert store.balances() == {"a": held, "b": held}
    assert store.open_reservations == 1


def test_a_claim_may_use_all_that_is_left() -> None:
    store = MemoryBudgets()
    store.reserve(a_claim("c1", 60, an_account(limit=100)))

    assert store.reserve(a_claim("c2", 40, an_account(limit=100))) == Reserved(amount_nanos=40)


def test_a_claim_for_more_than_is_left_is_denied_and_leaves_no_trace() -> None:
    store = MemoryBudgets()
    store.reserve(a_claim("c1", 60, an_account("a", 100)))
    before = store.balances()

    outcome = store.reserve(a_claim("c2", 41, an_account("new", 1000), an_account("a", 100)))

    assert outcome == Denied(account=an_account("a", 100), posted_nanos=0, pending_nanos=60, asked_nanos=41)
    assert store.balances() == before
    assert store.open_reservations == 1


def test_a_denial_names_the_account_with_the_least_left_and_what_it_holds() -> None:
    store = MemoryBudgets()
    store.reserve(a_claim("c1", 30, an_account("b", 50)))
    store.settle("c1", 25)
    store.reserve(a_claim("c2", 20, an_account("b", 50)))

    outcome = store.reserve(
        a_claim("c3", 90, an_account("a", 80), an_account("b", 50), an_account("c", 60), least=50)
    )

    assert outcome == Denied(account=an_account("b", 50), posted_nanos=25, pending_nanos=20, asked_nanos=50)


def test_a_claim_that_may_be_shrunk_gets_what_the_tightest_account_has_left_on_all() -> None:
    store = MemoryBudgets()

    outcome = store.reserve(a_claim("c1", 90, an_account("a", 80), an_account("b", 50), least=50))

    assert outcome == Shrunk(amount_nanos=50)
    held = Balance(reserved_nanos=50, pending_nanos=50)
    assert store.balances() == {"a": held, "b": held}


def test_a_claim_is_denied_where_its_least_is_more_than_is_left() -> None:
    outcome = MemoryBudgets().reserve(a_claim("c1", 90, an_account("a", 50), least=51))

    assert outcome == Denied(account=an_account("a", 50), posted_nanos=0, pending_nanos=0, asked_nanos=51)


def test_a_budget_that_only_warns_never_denies_and_counts() -> None:
    store = MemoryBudgets()

    outcome = store.reserve(a_claim("c1", 500, an_account("a", 100, hard=False), an_account("b", 1000)))

    assert outcome == Reserved(amount_nanos=500)
    assert store.balance("a") == Balance(reserved_nanos=500, pending_nanos=500)


def test_the_limit_is_the_one_that_the_claim_brings() -> None:
    store = MemoryBudgets()
    store.reserve(a_claim("c1", 100, an_account("a", 100)))

    assert isinstance(store.reserve(a_claim("c2", 50, an_account("a", 100))), Denied)
    assert isinstance(store.reserve(a_claim("c2", 50, an_account("a", 150))), Reserved)
    assert isinstance(store.reserve(a_claim("c3", 1, an_account("a", 120))), Denied)


def test_a_claim_without_accounts_is_granted() -> None:
    store = MemoryBudgets()

    assert store.reserve(a_claim("c1", 500)) == Reserved(amount_nanos=500)
    store.settle("c1", 20)
    assert store.open_reservations == 0


def test_a_call_that_has_an_open_reservation_cannot_reserve_again() -> None:
    store = MemoryBudgets()
    store.reserve(a_claim("c1", 10, an_account()))

    with pytest.raises(ValueError, match="c1"):
        store.reserve(a_claim("c1", 10, an_account()))

    assert store.balance("a") == Balance(reserved_nanos=10, pending_nanos=10)


@pytest.mark.parametrize(
    ("cost", "balance"),
    [
        (30, Balance(reserved_nanos=40, posted_nanos=30, released_nanos=10)),
        (40, Balance(reserved_nanos=40, posted_nanos=40)),
        (45, Balance(reserved_nanos=40, posted_nanos=45, overrun_nanos=5)),
        (0, Balance(reserved_nanos=40, released_nanos=40)),
        (None, Balance(reserved_nanos=40, pending_nanos=40)),
    ],
    ids=["less", "the same", "more", "nothing", "unknown"],
)
def test_a_cost_is_posted_and_the_rest_released_on_all_accounts(cost: int | None, balance: Balance) -> None:
    store = MemoryBudgets()
    store.reserve(a_claim("c1", 40, an_account("a"), an_account("b")))

    store.settle("c1", cost)

    assert store.balances() == {"a": balance, "b": balance}


def test_what_is_released_can_be_reserved_again() -> None:
    store = MemoryBudgets()
    store.reserve(a_claim("c1", 100, an_account(limit=100)))
    store.settle("c1", 30)

    assert store.reserve(a_claim("c2", 70, an_account(limit=100))) == Reserved(amount_nanos=70)


def test_what_a_shrunk_claim_does_not_use_is_released_from_what_it_was_granted() -> None:
    store = MemoryBudgets()
    store.reserve(a_claim("c1", 500, an_account(limit=100), least=10))

    store.settle("c1", 30)

    assert store.balance("a") == Balance(reserved_nanos=100, posted_nanos=30, released_nanos=70)


def test_after_an_overrun_nothing_is_left_to_shrink_to() -> None:
    store = MemoryBudgets()
    store.reserve(a_claim("c1", 100, an_account(limit=100)))
    store.settle("c1", 130)

    assert isinstance(store.reserve(a_claim("c2", 10, an_account(limit=100), least=0)), Denied)


def test_a_call_without_a_reservation_settles_without_effect() -> None:
    store = MemoryBudgets()

    store.settle("c1", 5)

    assert store.balances() == {}


def test_a_settled_reservation_is_forgotten_so_that_settling_it_again_has_no_effect() -> None:
    store = MemoryBudgets()
    store.reserve(a_claim("c1", 40, an_account()))
    store.settle("c1", 30)

    store.settle("c1", 35)

    assert store.balance("a") == Balance(reserved_nanos=40, posted_nanos=30, released_nanos=10)
    assert store.open_reservations == 0


def test_a_kept_reservation_is_settled_late() -> None:
    store = MemoryBudgets()
    store.reserve(a_claim("c1", 40, an_account()))
    store.settle("c1", None)
    assert store.open_reservations == 1

    store.settle("c1", 30)

    assert store.balance("a") == Balance(reserved_nanos=40, posted_nanos=30, released_nanos=10)
    assert store.open_reservations == 0


def test_a_kept_reservation_cannot_be_lost_sight_of_again() -> None:
    assert (ReservationState.KEPT, step_of(None)) not in RESERVATIONS
    store = MemoryBudgets()
    store.reserve(a_claim("c1", 40, an_account()))
    store.settle("c1", None)

    with pytest.raises(KeyError):
        store.settle("c1", None)

    assert store.balance("a") == Balance(reserved_nanos=40, pending_nanos=40)


def test_a_share_is_reported_by_the_reservation_after_which_it_is_reached_and_then_never_again() -> None:
    account = an_account(limit=100, warn_at=(80, 95))
    claims = [a_claim("c1", 79, account), a_claim("c2", 1, account), a_claim("c3", 1, account)]

    assert crossed(MemoryBudgets(), claims) == [(), (80,), ()]


def test_each_share_is_reported() -> None:
    account = an_account(limit=100, warn_at=(80, 95))

    assert crossed(MemoryBudgets(), [a_claim("c1", 80, account), a_claim("c2", 15, account)]) == [
        (80,),
        (95,),
    ]


def test_of_several_shares_that_one_reservation_reaches_only_the_highest_is_reported() -> None:
    account = an_account(limit=100, warn_at=(50, 80, 95))

    assert crossed(MemoryBudgets(), [a_claim("c1", 85, account), a_claim("c2", 10, account)]) == [
        (80,),
        (95,),
    ]


def test_a_share_is_reported_once_though_the_use_falls_below_it_and_reaches_it_again() -> None:
    store = MemoryBudgets()
    account = an_account(limit=100, warn_at=(80,))
    store.reserve(a_claim("c1", 90, account))
    store.settle("c1", 10)

    assert crossed(store, [a_claim("c2", 80, account)]) == [()]


def test_a_share_that_an_overrun_reaches_is_reported_by_the_next_reservation() -> None:
    store = MemoryBudgets()
    account = an_account(limit=100, warn_at=(80,))
    store.reserve(a_claim("c1", 10, account))
    store.settle("c1", 85)

    assert crossed(store, [a_claim("c2", 1, account)]) == [(80,)]


def test_a_crossing_says_whose_account_it_is_and_what_is_used() -> None:
    store = MemoryBudgets()
    quiet, warning = an_account("a", 1000, warn_at=(80,)), an_account("b", 100, hard=False, warn_at=(80,))
    store.reserve(a_claim("c1", 50, quiet, warning))
    store.settle("c1", 40)

    outcome = store.reserve(a_claim("c2", 70, quiet, warning))

    crossing = Crossing(account=warning, percent=80, used_nanos=110)
    assert outcome == Reserved(amount_nanos=70, crossings=(crossing,))


def test_a_shrunk_claim_reports_its_crossings() -> None:
    account = an_account(limit=100, warn_at=(80, 100))

    outcome = MemoryBudgets().reserve(a_claim("c1", 500, account, least=1))

    crossing = Crossing(account=account, percent=100, used_nanos=100)
    assert outcome == Shrunk(amount_nanos=100, crossings=(crossing,))


@pytest.mark.parametrize(("amount", "reported"), [(2, ()), (3, (80,))])
def test_a_share_between_two_amounts_is_reached_by_the_higher(amount: int, reported: tuple[int, ...]) -> None:
    assert crossed(MemoryBudgets(), [a_claim("c1", amount, an_account(limit=3, warn_at=(80,)))]) == [reported]


def test_shares_are_exact_where_a_float_is_not() -> None:
    limit = 10**18 + 100
    reached = limit * 80 // 100
    account = an_account(limit=limit, warn_at=(80,))

    assert crossed(MemoryBudgets(), [a_claim("c1", reached - 1, account), a_claim("c2", 1, account)]) == [
        (),
        (80,),
    ]


def test_a_lowered_limit_makes_its_shares_reached() -> None:
    claims = [
        a_claim("c1", 50, an_account(limit=100, warn_at=(80,))),
        a_claim("c2", 1, an_account(limit=60, warn_at=(80,))),
    ]

    assert crossed(MemoryBudgets(), claims) == [(), (80,)]


def test_balances_are_rebuilt_from_past_reservations() -> None:
    store = MemoryBudgets()

    store.resume(
        [
            a_past("c1", 40, 30, ("a", "b")),
            a_past("c2", 40, 45, ("a",)),
            a_past("c3", 40, 0, ("a",)),
            a_past("c4", 40, None, ("b",)),
        ]
    )

    assert store.balances() == {
        "a": Balance(reserved_nanos=120, posted_nanos=75, released_nanos=50, overrun_nanos=5),
        "b": Balance(reserved_nanos=80, posted_nanos=30, released_nanos=10, pending_nanos=40),
    }
    assert store.open_reservations == 1


def test_what_was_spent_before_a_restart_counts_against_the_limit() -> None:
    store = MemoryBudgets()
    store.resume([a_past("c1", 40, 30), a_past("c2", 40, None)])

    assert isinstance(store.reserve(a_claim("c3", 31, an_account(limit=100))), Denied)
    assert store.reserve(a_claim("c3", 30, an_account(limit=100))) == Reserved(amount_nanos=30)


def test_a_resumed_reservation_without_a_cost_is_kept_and_settled_late() -> None:
    store = MemoryBudgets()
    store.resume([a_past("c1", 40, None)])

    with pytest.raises(KeyError):
        store.settle("c1", None)
    store.settle("c1", 30)

    assert store.balance("a") == Balance(reserved_nanos=40, posted_nanos=30, released_nanos=10)


def test_two_resumed_reservations_of_one_call_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="c1"):
        MemoryBudgets().resume([a_past("c1", 40, None), a_past("c1", 40, None)])


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
    store.resume([a_past("c1", 40, 30)])

    store.forget_ended(100)
    assert set(store.balances()) == {"a"}

    store.reserve(a_claim("c2", 10, an_account("a", ends_us=100)))
    store.settle("c2", 10)
    store.forget_ended(100)
    assert store.balances() == {}


@pytest.fixture
def often_switched() -> Iterator[None]:
    """Threads change places so often that a step which is not atomic is cut in two."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("often_switched")
def test_threads_together_never_reserve_more_than_the_limit() -> None:
    store = MemoryBudgets()
    shared = an_account("shared", 10_000)
    together = Barrier(20)

    def work(thread: int) -> int:
        own = an_account(f"own-{thread}", 100_000)
        granted = 0
        together.wait()
        for n in range(200):
            outcome = store.reserve(a_claim(f"{thread}-{n}", 7, own, shared, least=1))
            granted += 0 if isinstance(outcome, Denied) else outcome.amount_nanos
        return granted

    with ThreadPoolExecutor(20) as threads:
        granted = sum(threads.map(work, range(20)))

    assert granted == 10_000
    assert store.balance("shared") == Balance(reserved_nanos=10_000, pending_nanos=10_000)
    assert sum(store.balance(f"own-{thread}").pending_nanos for thread in range(20)) == 10_000


@pytest.mark.usefixtures("often_switched")
def test_threads_that_reserve_and_settle_lose_no_update() -> None:
    store = MemoryBudgets()
    shared = an_account("shared", 100)
    together = Barrier(20)

    def work(thread: int) -> int:
        calls = 0
        together.wait()
        for n in range(200):
            call_id = f"{thread}-{n}"
            if isinstance(store.reserve(a_claim(call_id, 20, shared)), Reserved):
                assert store.balance("shared").used_nanos <= 100
                store.settle(call_id, 0)
                calls += 1
        return calls

    with ThreadPoolExecutor(20) as threads:
        calls = sum(threads.map(work, range(20)))

    assert store.balance("shared") == Balance(reserved_nanos=20 * calls, released_nanos=20 * calls)
