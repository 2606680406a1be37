import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from support.entries import decided, failed, posted, set_aside
from tierwise.core.ledger import Entry
from tierwise.stores.ledger.sqlite import open_ledger, read_ledger
from tierwise.stores.ledger.verification import verify


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.sqlite3"
    open_ledger(path).close()
    return path


def write(path: Path, *entries: Entry) -> None:
    with closing(open_ledger(path)) as ledger:
        for entry in entries:
            ledger.write([entry])


def broken(path: Path) -> dict[str, tuple[str, ...]]:
    with closing(read_ledger(path)) as ledger:
        return {finding.law: finding.examples for finding in verify(ledger) if finding.breaches}


def test_a_ledger_of_whole_open_kept_and_refused_calls_is_sound(path: Path) -> None:
    write(path, decided("c1"), set_aside("c1"), posted("c1"))
    write(path, decided("c2"), set_aside("c2"))
    write(path, decided("c3"), set_aside("c3"), failed("c3", cost_nanos=None))
    write(path, decided("c4"), failed("c4"))

    assert broken(path) == {}


@pytest.mark.parametrize(
    ("entries", "law"),
    [
        ((posted("c1"),), "every entry belongs to a call that was decided"),
        ((decided("c1"), posted("c1"), failed("c1")), "no call has two endings"),
        ((decided("c1"), posted("c1"), set_aside("c1")), "money is set aside before a call ends"),
        ((decided("c1"), posted("c1", cost_nanos=-1)), "no amount is negative"),
    ],
)
def test_a_call_that_breaks_a_law_is_named(path: Path, entries: tuple[Entry, ...], law: str) -> None:
    write(path, *entries)

    assert broken(path) == {law: ("c1",)}


def test_an_account_that_the_two_folds_see_differently_is_named(path: Path) -> None:
    write(path, decided("c1"), set_aside("c1", accounts=("a", "a"), reserved_nanos=5), decided("c2"))

    assert broken(path) == {"money is conserved on every account, and both folds agree": ("a",)}


def test_a_database_that_is_damaged_says_so(path: Path) -> None:
    write(path, *(decided(f"c{number}") for number in range(200)))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'entries_by_call'"
        ).fetchone()[0]
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096 + 4000)
        file.write(b"\xff" * 90)

    assert "the database is whole" in broken(path)
