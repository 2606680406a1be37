from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support.entries import decided, failed, posted, set_aside, settled, topped_up
from tierwise.core.budgets import Balance, OpenReservation, Past
from tierwise.core.ledger import Entry
from tierwise.stores.ledger.reservations import (
    AccountTotals,
    account_totals,
    balances,
    endings,
    open_reservations,
    overdue,
    past,
    told_since,
)
from tierwise.stores.ledger.sqlite import SqliteLedger, open_ledger, read_ledger
from tierwise.stores.ledger.summary import end


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    with closing(open_ledger(tmp_path / "ledger.sqlite3")) as ledger:
        yield ledger


def pasts(ledger: SqliteLedger) -> list[Past]:
    with closing(read_ledger(ledger.path)) as connection:
        return list(past(connection))


def totals(ledger: SqliteLedger) -> tuple[AccountTotals, ...]:
    with closing(read_ledger(ledger.path)) as connection:
        return account_totals(connection)


def amounts(each: AccountTotals) -> tuple[int, int, int, int, int]:
    """Reserved, pending, posted, released, overrun."""
    return (
        each.reserved_nanos,
        each.pending_nanos,
        each.posted_nanos,
        each.released_nanos,
        each.overrun_nanos,
    )


ENDINGS = {
    "posted below": (posted(cost_nanos=30), 30, (100, 0, 30, 70, 0)),
    "posted at": (posted(cost_nanos=100), 100, (100, 0, 100, 0, 0)),
    "posted above": (posted(cost_nanos=130), 130, (100, 0, 130, 0, 30)),
    "posted, cost unknown": (posted(cost_nanos=None), None, (100, 100, 0, 0, 0)),
    "failed, nothing billed": (failed(cost_nanos=0), 0, (100, 0, 0, 100, 0)),
    "failed, billed": (failed(cost_nanos=40), 40, (100, 0, 40, 60, 0)),
    "failed, cost unknown": (failed(cost_nanos=None, at_least_nanos=12), None, (100, 100, 0, 0, 0)),
    "open": (None, None, (100, 100, 0, 0, 0)),
}


@pytest.mark.parametrize(("ending", "cost", "expected"), ENDINGS.values(), ids=ENDINGS.keys())
def test_a_reservation_is_told_with_what_its_call_is_known_to_have_cost(
    ledger: SqliteLedger, ending: Entry | None, cost: int | None, expected: tuple[int, int, int, int, int]
) -> None:
    ledger.write([decided(), set_aside(accounts=("a",), reserved_nanos=100)])
    ledger.write([ending] if ending else [])

    (account,) = totals(ledger)

    assert pasts(ledger) == [Past(call_id="c1", accounts=("a",), amount_nanos=100, cost_nanos=cost)]
    assert (account.key, account.reservations) == ("a", 1)
    assert amounts(account) == expected


def test_a_call_counts_on_each_of_its_accounts(ledger: SqliteLedger) -> None:
    ledger.write(
        [
            set_aside("c1", accounts=("b", "a"), reserved_nanos=100),
            set_aside("c2", accounts=("a",), reserved_nanos=10),
            posted("c1", cost_nanos=30),
        ]
    )

    of_a, of_b = totals(ledger)

    assert (of_a.key, of_a.reservations, amounts(of_a)) == ("a", 2, (110, 10, 30, 70, 0))
    assert (of_b.key, of_b.reservations, amounts(of_b)) == ("b", 1, (100, 0, 30, 70, 0))


def test_reservations_come_in_the_order_of_writing_with_their_accounts_in_theirs(
    ledger: SqliteLedger,
) -> None:
    ledger.write([set_aside("c2", at_us=9, accounts=("b", "a"))])
    ledger.write([set_aside("c1", at_us=3, accounts=('"ü|%7C',))])

    assert [(each.call_id, each.accounts) for each in pasts(ledger)] == [
        ("c2", ("b", "a")),
        ("c1", ('"ü|%7C',)),
    ]


def test_a_call_that_set_nothing_aside_is_not_told(ledger: SqliteLedger) -> None:
    ledger.write([decided("c1"), posted("c1"), decided("c2"), failed("c2"), decided("c3")])

    assert pasts(ledger) == []
    assert totals(ledger) == ()


def test_a_call_counts_once_on_an_account_that_counts_calls(ledger: SqliteLedger) -> None:
    accounts = ("#a", "~b")
    for call, cost in (("c1", 130), ("c2", 0), ("c3", None)):
        ledger.write([decided(call), set_aside(call, accounts=accounts, reserved_nanos=100)])
        ledger.write([posted(call, cost_nanos=cost)])

    of_calls, of_money = totals(ledger)

    assert (of_calls.key, amounts(of_calls)) == ("#a", (3, 1, 1, 1, 0))
    assert (of_money.key, amounts(of_money)) == ("~b", (300, 100, 130, 100, 30))


def test_balances_are_what_budgets_begin_with_top_ups_included(ledger: SqliteLedger) -> None:
    ledger.write([decided(), set_aside(accounts=("a",), reserved_nanos=100), posted(cost_nanos=30)])
    ledger.write([topped_up(account="a", amount_nanos=50), topped_up("t2", account="new", amount_nanos=7)])

    assert balances(ledger) == {
        "a": Balance(reserved_nanos=100, posted_nanos=30, released_nanos=70, topped_up_nanos=50),
        "new": Balance(topped_up_nanos=7),
    }


def test_a_reservation_is_open_until_its_calls_cost_is_known(ledger: SqliteLedger) -> None:
    for call, at_us in (("c1", 30), ("c2", 20), ("c3", 10), ("c4", 40)):
        ledger.write([decided(call), set_aside(call, at_us=at_us, accounts=("b", "a"), reserved_nanos=100)])
    ledger.write([posted("c1", cost_nanos=5), failed("c2", cost_nanos=None)])
    ledger.write([failed("c4", cost_nanos=None), settled("c4", cost_nanos=0)])

    kept = OpenReservation(call_id="c2", accounts=("b", "a"), amount_nanos=100, at_us=20, ended=True)
    lost = OpenReservation(call_id="c3", accounts=("b", "a"), amount_nanos=100, at_us=10, ended=False)

    assert open_reservations(ledger) == [kept, lost]
    assert overdue(ledger, 20) == [lost]
    assert overdue(ledger, 21) == [kept, lost]


def test_what_is_told_later_comes_once_to_who_asks_from_where_it_was(ledger: SqliteLedger) -> None:
    ledger.write([decided("c1"), settled("c1"), topped_up("t1")])
    here, first = told_since(ledger, 0)
    ledger.write([posted("c2"), settled("c1", cost_nanos=9), topped_up("t2")])
    there, second = told_since(ledger, here)

    assert first == [settled("c1"), topped_up("t1")]
    assert second == [topped_up("t2")]
    assert told_since(ledger, there) == (there, [])
    assert told_since(ledger, end(ledger)) == (end(ledger), [])


def test_endings_are_told_of_calls_that_have_one_or_were_settled(ledger: SqliteLedger) -> None:
    ledger.write([decided(f"c{number}") for number in range(1, 6)])
    ledger.write([posted("c1", cost_nanos=5), failed("c2", cost_nanos=None), settled("c3", cost_nanos=7)])
    ledger.write([failed("c4", cost_nanos=None), settled("c4", cost_nanos=0)])

    asked = [f"c{number}" for number in range(1200)]

    assert endings(ledger, asked) == {"c1": 5, "c2": None, "c3": 7, "c4": 0}
