"""The ledger as shared balances are rebuilt from it."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support.entries import decided, failed, posted, set_aside, topped_up
from tierwise.core.budgets import Balance
from tierwise.stores.budgets.truth import LedgerTruth
from tierwise.stores.ledger.sqlite import SqliteLedger, open_ledger, read_ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    with closing(open_ledger(tmp_path / "ledger.sqlite3")) as ledger:
        yield ledger


def test_it_tells_balances_open_reservations_and_the_top_ups_in_them(ledger: SqliteLedger) -> None:
    ledger.write(
        [decided("c1"), set_aside("c1", accounts=("a",), reserved_nanos=100), posted("c1", cost_nanos=30)]
    )
    ledger.write([decided("c2"), set_aside("c2", accounts=("a",), reserved_nanos=50)])
    ledger.write([topped_up("t1", account="a", amount_nanos=7)])

    loaded = LedgerTruth(lambda: read_ledger(ledger.path)).load()

    assert loaded.balances == {
        "a": Balance(
            reserved_nanos=150, posted_nanos=30, released_nanos=70, pending_nanos=50, topped_up_nanos=7
        )
    }
    assert [each.call_id for each in loaded.open_reservations] == ["c2"]
    assert loaded.top_ups == ["t1"]


def test_it_tells_which_calls_have_ended_and_which_have_a_reservation(ledger: SqliteLedger) -> None:
    ledger.write([decided("c1"), set_aside("c1"), posted("c1", cost_nanos=30)])
    ledger.write([decided("c2"), set_aside("c2"), failed("c2", cost_nanos=None)])
    ledger.write([decided("c3"), set_aside("c3"), decided("c4")])
    truth = LedgerTruth(lambda: read_ledger(ledger.path))

    assert truth.endings(["c1", "c2", "c3", "c4", "c5"]) == {"c1": 30, "c2": None}
    assert set(truth.known(["c1", "c2", "c3", "c4", "c5"])) == {"c1", "c2", "c3"}
