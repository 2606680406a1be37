"""What balances do, wherever they are held."""

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from threading import Barrier
from typing import Protocol, TypeAlias

import pytest

from support.claims import a_claim, an_account
from support.valkey import PlainLedger, Valkey, a_valkey, budgets_on
from tierwise.core.budgets import (
    Balance,
    Claim,
    Crossing,
    Denied,
    Lost,
    OpenReservation,
    Outcome,
    Reserved,
    Shrunk,
)
from tierwise.stores.budgets.memory import MemoryBudgets
from tierwise.stores.budgets.rebuild import Loaded


class Store(Protocol):
    """What is asked of both."""

    @property
    def open_reservations(self) -> int: ...
    def reserve(self, claim: Claim) -> Outcome: ...
    def settle(self, call_id: str, cost_nanos: int | None) -> None: ...
    def top_up(self, entry_id: str, account: str, amount_nanos: int) -> None: ...
    def balance(self, key: str) -> Balance: ...
    def balances(self) -> Mapping[str, Balance]: ...


Begin: TypeAlias = Callable[[Mapping[str, Balance], Iterable[OpenReservation]], Store]
"""Begins with what a ledger says."""

NAMESPACES = count()


class Before(PlainLedger):
    """A ledger that says what it was told to say."""

    def __init__(self, balances: Mapping[str, Balance], reservations: Iterable[OpenReservation]) -> None:
        super().__init__()
        self._said = Loaded(balances=balances, open_reservations=list(reservations), top_ups=())

    def load(self) -> Loaded:
        return self._said


@pytest.fixture(scope="module")
def valkey() -> Generator[Valkey]:
    with a_valkey() as server:
        yield server


@pytest.fixture(params=["memory", "valkey"])
def begin(request: pytest.FixtureRequest) -> Generator[Begin]:
    def in_memory(balances: Mapping[str, Balance], reservations: Iterable[OpenReservation]) -> Store:
        store = MemoryBudgets()
        store.resume(balances, reservations)
        return store

    def in_valkey(balances: Mapping[str, Balance], reservations: Iterable[OpenReservation]) -> Store:
        server: Valkey = request.getfixturevalue("valkey")
        ledger = Before(balances, reservations)
        return opened.enter_context(budgets_on(server, ledger, namespace=f"n{next(NAMESPACES)}"))

    with ExitStack() as opened:
        yield in_memory if request.param == "memory" else in_valkey


@pytest.fixture
def store(begin: Begin) -> Store:
    return begin({}, [])


def an_open(call_id: str, amount: int, *accounts: str, ended: bool = True) -> OpenReservation:
    return OpenReservation(call_id=call_id, accounts=accounts, amount_nanos=amount, at_us=1, ended=ended)


def crossed(store: Store, claims: Iterable[Claim]) -> list[tuple[int, ...]]:
    """The shares that each claim reports."""
    outcomes = [store.reserve(claim) for claim in claims]
    return [
        ()
        if isinstance(outcome, Denied | Lost)
        else tuple(crossing.percent for crossing in outcome.crossings)
        for outcome in outcomes
    ]


def test_an_account_that_was_never_charged_holds_nothing(store: Store) -> None:
    assert store.balance("a") == Balance()


def test_a_reservation_counts_on_all_its_accounts_before_it_is_settled(store: Store) -> None:
    outcome = store.reserve(a_claim("c1", 40, an_account("a"), an_account("b")))

    assert outcome == Reserved(amount_nanos=40)
    held = Balance(reserved_nanos=40, pending_nanos=40)
    assert store.balances() == {"a": held, "b": held}
    assert store.open_reservations == 1


def test_a_claim_may_use_all_that_is_left(store: Store) -> None:
    store.reserve(a_claim("c1", 60, an_account(limit=100)))

    assert store.reserve(a_claim("c2", 40, an_account(limit=100))) == Reserved(amount_nanos=40)


def test_a_claim_for_more_than_is_left_is_denied_and_leaves_no_trace(store: Store) -> None:
    store.reserve(a_claim("c1", 60, an_account("a", 100)))
    before = store.balances()

    outcome = store.reserve(a_claim("c2", 41, an_account("new", 1000), an_account("a", 100)))

    assert outcome == Denied(account=an_account("a", 100), posted_nanos=0, pending_nanos=60, asked_nanos=41)
    assert store.balances() == before
    assert store.open_reservations == 1


def test_a_denial_names_the_account_with_the_least_left_and_what_it_holds(store: Store) -> None:
    store.reserve(a_claim("c1", 30, an_account("b", 50)))
    store.settle("c1", 25)
    store.reserve(a_claim("c2", 20, an_account("b", 50)))

    outcome = store.reserve(
        a_claim("c3", 90, an_account("a", 80), an_account("b", 50), an_account("c", 60), least=50)
    )

    assert outcome == Denied(account=an_account("b", 50), posted_nanos=25, pending_nanos=20, asked_nanos=50)


def test_a_claim_that_may_be_shrunk_gets_what_the_tightest_account_has_left_on_all(store: Store) -> None:
    outcome = store.reserve(a_claim("c1", 90, an_account("a", 80), an_account("b", 50), least=50))

    assert outcome == Shrunk(amount_nanos=50)
    held = Balance(reserved_nanos=50, pending_nanos=50)
    assert store.balances() == {"a": held, "b": held}


def test_a_claim_is_denied_where_its_least_is_more_than_is_left(store: Store) -> None:
    outcome = store.reserve(a_claim("c1", 90, an_account("a", 50), least=51))

    assert outcome == Denied(account=an_account("a", 50), posted_nanos=0, pending_nanos=0, asked_nanos=51)


def test_a_budget_that_only_warns_never_denies_and_counts(store: Store) -> None:
    outcome = store.reserve(a_claim("c1", 500, an_account("a", 100, hard=False), an_account("b", 1000)))

    assert outcome == Reserved(amount_nanos=500)
    assert store.balance("a") == Balance(reserved_nanos=500, pending_nanos=500)


def test_the_limit_is_the_one_that_the_claim_brings(store: Store) -> None:
    store.reserve(a_claim("c1", 100, an_account("a", 100)))

    assert isinstance(store.reserve(a_claim("c2", 50, an_account("a", 100))), Denied)
    assert isinstance(store.reserve(a_claim("c2", 50, an_account("a", 150))), Reserved)
    assert isinstance(store.reserve(a_claim("c3", 1, an_account("a", 120))), Denied)


def test_a_claim_without_accounts_is_granted(store: Store) -> None:
    assert store.reserve(a_claim("c1", 500)) == Reserved(amount_nanos=500)
    store.settle("c1", 20)
    assert store.open_reservations == 0


def test_a_call_that_has_an_open_reservation_cannot_reserve_again(store: Store) -> None:
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
def test_a_cost_is_posted_and_the_rest_released_on_all_accounts(
    store: Store, cost: int | None, balance: Balance
) -> None:
    store.reserve(a_claim("c1", 40, an_account("a"), an_account("b")))

    store.settle("c1", cost)

    assert store.balances() == {"a": balance, "b": balance}


def test_what_is_released_can_be_reserved_again(store: Store) -> None:
    store.reserve(a_claim("c1", 100, an_account(limit=100)))
    store.settle("c1", 30)

    assert store.reserve(a_claim("c2", 70, an_account(limit=100))) == Reserved(amount_nanos=70)


def test_what_a_shrunk_claim_does_not_use_is_released_from_what_it_was_granted(store: Store) -> None:
    store.reserve(a_claim("c1", 500, an_account(limit=100), least=10))

    store.settle("c1", 30)

    assert store.balance("a") == Balance(reserved_nanos=100, posted_nanos=30, released_nanos=70)


def test_after_an_overrun_nothing_is_left_to_shrink_to(store: Store) -> None:
    store.reserve(a_claim("c1", 100, an_account(limit=100)))
    store.settle("c1", 130)

    assert isinstance(store.reserve(a_claim("c2", 10, an_account(limit=100), least=0)), Denied)


def test_a_call_without_a_reservation_settles_without_effect(store: Store) -> None:
    store.settle("c1", 5)

    assert store.balances() == {}


def test_a_settled_reservation_is_forgotten_so_that_settling_it_again_has_no_effect(store: Store) -> None:
    store.reserve(a_claim("c1", 40, an_account()))
    store.settle("c1", 30)

    store.settle("c1", 35)

    assert store.balance("a") == Balance(reserved_nanos=40, posted_nanos=30, released_nanos=10)
    assert store.open_reservations == 0


def test_a_kept_reservation_is_settled_late(store: Store) -> None:
    store.reserve(a_claim("c1", 40, an_account()))
    store.settle("c1", None)
    assert store.open_reservations == 1

    store.settle("c1", 30)

    assert store.balance("a") == Balance(reserved_nanos=40, posted_nanos=30, released_nanos=10)
    assert store.open_reservations == 0


def test_a_share_is_reported_by_the_reservation_after_which_it_is_reached_and_then_never_again(
    store: Store,
) -> None:
    account = an_account(limit=100, warn_at=(80, 95))
    claims = [a_claim("c1", 79, account), a_claim("c2", 1, account), a_claim("c3", 1, account)]

    assert crossed(store, claims) == [(), (80,), ()]


def test_each_share_is_reported(store: Store) -> None:
    account = an_account(limit=100, warn_at=(80, 95))

    assert crossed(store, [a_claim("c1", 80, account), a_claim("c2", 15, account)]) == [
        (80,),
        (95,),
    ]


def test_of_several_shares_that_one_reservation_reaches_only_the_highest_is_reported(store: Store) -> None:
    account = an_account(limit=100, warn_at=(50, 80, 95))

    assert crossed(store, [a_claim("c1", 85, account), a_claim("c2", 10, account)]) == [
        (80,),
        (95,),
    ]


def test_a_share_is_reported_once_though_the_use_falls_below_it_and_reaches_it_again(store: Store) -> None:
    account = an_account(limit=100, warn_at=(80,))
    store.reserve(a_claim("c1", 90, account))
    store.settle("c1", 10)

    assert crossed(store, [a_claim("c2", 80, account)]) == [()]


def test_a_share_that_an_overrun_reaches_is_reported_by_the_next_reservation(store: Store) -> None:
    account = an_account(limit=100, warn_at=(80,))
    store.reserve(a_claim("c1", 10, account))
    store.settle("c1", 85)

    assert crossed(store, [a_claim("c2", 1, account)]) == [(80,)]


def test_a_crossing_says_whose_account_it_is_and_what_is_used(store: Store) -> None:
    quiet, warning = an_account("a", 1000, warn_at=(80,)), an_account("b", 100, hard=False, warn_at=(80,))
    store.reserve(a_claim("c1", 50, quiet, warning))
    store.settle("c1", 40)

    outcome = store.reserve(a_claim("c2", 70, quiet, warning))

    crossing = Crossing(account=warning, percent=80, used_nanos=110)
    assert outcome == Reserved(amount_nanos=70, crossings=(crossing,))


def test_a_shrunk_claim_reports_its_crossings(store: Store) -> None:
    account = an_account(limit=100, warn_at=(80, 100))

    outcome = store.reserve(a_claim("c1", 500, account, least=1))

    crossing = Crossing(account=account, percent=100, used_nanos=100)
    assert outcome == Shrunk(amount_nanos=100, crossings=(crossing,))


@pytest.mark.parametrize(("amount", "reported"), [(2, ()), (3, (80,))])
def test_a_share_between_two_amounts_is_reached_by_the_higher(
    store: Store, amount: int, reported: tuple[int, ...]
) -> None:
    assert crossed(store, [a_claim("c1", amount, an_account(limit=3, warn_at=(80,)))]) == [reported]


def test_a_lowered_limit_makes_its_shares_reached(store: Store) -> None:
    claims = [
        a_claim("c1", 50, an_account(limit=100, warn_at=(80,))),
        a_claim("c2", 1, an_account(limit=60, warn_at=(80,))),
    ]

    assert crossed(store, claims) == [(), (80,)]


def test_balances_and_open_reservations_are_taken_over_from_the_ledger(begin: Begin) -> None:
    balances = {
        "a": Balance(reserved_nanos=120, posted_nanos=75, released_nanos=50, overrun_nanos=5),
        "b": Balance(reserved_nanos=80, posted_nanos=30, released_nanos=10, pending_nanos=40),
        "c": Balance(topped_up_nanos=7),
    }

    store = begin(balances, [an_open("c4", 40, "b")])

    assert store.balances() == balances
    assert store.open_reservations == 1


def test_what_was_spent_before_a_restart_counts_against_the_limit(begin: Begin) -> None:
    store = begin({"a": Balance(reserved_nanos=80, posted_nanos=30, released_nanos=10, pending_nanos=40)}, [])

    assert isinstance(store.reserve(a_claim("c3", 31, an_account(limit=100))), Denied)
    assert store.reserve(a_claim("c3", 30, an_account(limit=100))) == Reserved(amount_nanos=30)


@pytest.mark.parametrize("ended", [False, True])
def test_a_reservation_that_was_taken_over_is_settled_late(begin: Begin, ended: bool) -> None:
    held = Balance(reserved_nanos=40, pending_nanos=40)
    store = begin({"a": held}, [an_open("c1", 40, "a", ended=ended)])

    store.settle("c1", 30)

    assert store.balance("a") == Balance(reserved_nanos=40, posted_nanos=30, released_nanos=10)
    assert store.open_reservations == 0


def test_what_was_reached_before_a_restart_is_taken_as_told(begin: Begin) -> None:
    store = begin({"a": Balance(reserved_nanos=85, posted_nanos=85)}, [])
    account = an_account(limit=100, warn_at=(50, 80, 95))

    assert crossed(store, [a_claim("c1", 1, account), a_claim("c2", 9, account)]) == [(), (95,)]


def test_what_was_reached_is_taken_as_told_by_the_first_claim_even_where_that_is_denied(begin: Begin) -> None:
    held = Balance(reserved_nanos=85, posted_nanos=45, pending_nanos=40)
    store = begin({"a": held}, [an_open("c0", 40, "a")])
    account = an_account(limit=100, warn_at=(80, 95))
    store.reserve(a_claim("c1", 16, account))
    store.settle("c0", 50)

    assert crossed(store, [a_claim("c2", 1, account)]) == [(95,)]


def test_an_account_that_counts_calls_holds_one_for_each_and_releases_it_for_one_that_cost_nothing(
    store: Store,
) -> None:
    calls, money = an_account("#calls", 2), an_account("money", 1000)

    assert store.reserve(a_claim("c1", 300, calls, money)) == Reserved(amount_nanos=300)
    assert store.reserve(a_claim("c2", 300, calls, money)) == Reserved(amount_nanos=300)
    assert store.reserve(a_claim("c3", 300, calls, money, least=100)) == Denied(
        account=calls, posted_nanos=0, pending_nanos=2, asked_nanos=1
    )
    store.settle("c1", 200)
    store.settle("c2", 0)

    assert store.balance("#calls") == Balance(reserved_nanos=2, posted_nanos=1, released_nanos=1)
    assert store.balance("money") == Balance(reserved_nanos=600, posted_nanos=200, released_nanos=400)


def test_an_account_that_counts_calls_does_not_shrink_them(store: Store) -> None:
    claim = a_claim("c1", 300, an_account("#calls", 2), an_account("money", 120), least=100)

    assert store.reserve(claim) == Shrunk(amount_nanos=120)


def test_an_account_that_bounds_what_is_pending_does_not_count_what_is_posted_and_does_not_warn(
    store: Store,
) -> None:
    account = an_account("~key|a", 100, warn_at=(10,), pending_share=30)
    store.reserve(a_claim("c1", 30, account))
    store.settle("c1", 30)

    assert store.reserve(a_claim("c2", 30, account)) == Reserved(amount_nanos=30)
    denied = store.reserve(a_claim("c3", 1, account))
    assert denied == Denied(account=account, posted_nanos=30, pending_nanos=30, asked_nanos=1)
    assert isinstance(denied, Denied) and denied.left == 0  # noqa: PT018 — one thing: what it says is left


def test_a_top_up_raises_the_limit_and_its_shares(store: Store) -> None:
    account = an_account(limit=100, warn_at=(80,))
    store.reserve(a_claim("c1", 70, account))

    store.top_up("t1", "a", 100)

    assert crossed(store, [a_claim("c2", 80, account), a_claim("c3", 10, account)]) == [(), (80,)]
    assert store.reserve(a_claim("c4", 41, account)) == Denied(
        account=account, posted_nanos=0, pending_nanos=160, asked_nanos=41, topped_up_nanos=100
    )


def test_a_top_up_opens_an_account_that_was_never_charged(store: Store) -> None:
    store.top_up("t1", "a", 50)

    assert store.balance("a") == Balance(topped_up_nanos=50)
    assert crossed(store, [a_claim("c1", 120, an_account(limit=100, warn_at=(80,)))]) == [(80,)]


@pytest.fixture
def often_switched() -> Iterator[None]:
    """Threads change places so often that a step which is not atomic is cut in two."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("often_switched")
def test_threads_together_never_reserve_more_than_the_limit(store: Store) -> None:
    shared = an_account("shared", 10_000)
    together = Barrier(20)

    def work(thread: int) -> int:
        own = an_account(f"own-{thread}", 100_000)
        granted = 0
        together.wait()
        for n in range(200):
            outcome = store.reserve(a_claim(f"{thread}-{n}", 7, own, shared, least=1))
            granted += 0 if isinstance(outcome, Denied | Lost) else outcome.amount_nanos
        return granted

    with ThreadPoolExecutor(20) as threads:
        granted = sum(threads.map(work, range(20)))

    assert granted == 10_000
    assert store.balance("shared") == Balance(reserved_nanos=10_000, pending_nanos=10_000)
    assert sum(store.balance(f"own-{thread}").pending_nanos for thread in range(20)) == 10_000


@pytest.mark.usefixtures("often_switched")
def test_threads_that_reserve_and_settle_lose_no_update(store: Store) -> None:
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
