from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support.entries import decided, failed, posted, set_aside
from tierwise.core.budgets import Past
from tierwise.core.ledger import Entry
from tierwise.stores.budgets.memory import MemoryBudgets
from tierwise.stores.ledger.reservations import AccountTotals, account_totals, past
from tierwise.stores.ledger.sqlite import SqliteLedger, open_ledger, read_ledger


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


def test_conservation_holds_for_every_account_and_the_two_folds_agree(ledger: SqliteLedger) -> None:
    endings: list[Callable[[str], Entry] | None] = [
        lambda call: posted(call, cost_nanos=30),
        lambda call: posted(call, cost_nanos=130),
        lambda call: posted(call, cost_nanos=None),
        lambda call: failed(call, cost_nanos=0),
        None,
    ]
    accounts = (("a",), ("a", "b"), ("b", "c"))
    for n in range(len(endings) * len(accounts)):
        ending = endings[n % len(endings)]
        ledger.write([set_aside(f"c{n}", accounts=accounts[n % len(accounts)], reserved_nanos=100 + n)])
        ledger.write([ending(f"c{n}")] if ending else [])
    budgets = MemoryBudgets()
    budgets.resume(pasts(ledger))

    found = {each.key: amounts(each) for each in totals(ledger)}

    assert found.keys() == {"a", "b", "c"}
    for key, (reserved, pending, spent, released, overrun) in found.items():
        balance = budgets.balance(key)
        assert reserved + overrun == pending + spent + released
        assert (balance.reserved_nanos, balance.pending_nanos, balance.posted_nanos) == (
            reserved,
            pending,
            spent,
        )
        assert (balance.released_nanos, balance.overrun_nanos) == (released, overrun)
