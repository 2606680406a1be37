import os
from contextlib import closing
from pathlib import Path

import pytest

from support.entries import decided
from support.postgres import Server
from tierwise.errors import LedgerInUse, LedgerUnavailable
from tierwise.stores.ledger.lock import budgets_held
from tierwise.stores.ledger.opening import open_ledger


def test_the_budgets_of_a_file_have_one_holder_and_are_free_again_after_it(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite3"

    with (
        budgets_held(ledger),
        pytest.raises(LedgerInUse, match=f"process {os.getpid()}"),
        budgets_held(ledger),
    ):
        pass
    with budgets_held(ledger):
        pass


def test_the_budgets_of_a_database_have_one_holder_and_are_free_again_after_it(
    server: Server,
) -> None:
    address = server.new_database()

    with budgets_held(address), pytest.raises(LedgerInUse, match="another process"), budgets_held(address):
        pass
    with budgets_held(address):
        pass


def test_two_databases_of_a_server_have_their_holders_each(server: Server) -> None:
    with budgets_held(server.new_database()), budgets_held(server.new_database()):
        pass


def test_a_database_that_cannot_be_reached_is_told_without_its_password() -> None:
    with (
        pytest.raises(LedgerUnavailable) as caught,
        budgets_held("postgresql://someone:hidden@127.0.0.1:1/ledger"),
    ):
        pass

    assert "hidden" not in str(caught.value)


def test_a_file_beside_the_ledger_that_cannot_be_made_is_told_as_the_ledgers_trouble(tmp_path: Path) -> None:
    with (
        pytest.raises(LedgerUnavailable, match=r"ledger\.sqlite3\.lock"),
        budgets_held(tmp_path / "none" / "ledger.sqlite3"),
    ):
        pass


def test_a_ledger_whose_budgets_are_held_can_be_written(server: Server) -> None:
    address = server.new_database()

    with budgets_held(address), closing(open_ledger(address)) as ledger:
        ledger.write([decided("c1")])

        assert [row["call_id"] for row in ledger.rows("SELECT call_id FROM entries")] == ["c1"]
