import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from support.entries import decided, failed, posted, set_aside, settled, topped_up
from tierwise.core.ledger import Entry
from tierwise.stores.ledger.sqlite import open_ledger, read_ledger
from tierwise.stores.ledger.verification import verify

ACCOUNT = "run-lifetime|k1|r1|lifetime"

CONSERVED = "money is conserved on every account"
PENDING = "what is pending on an account is what its open reservations hold"
SETTLED = "a call is settled after an ending that did not know its cost"
SUMMARY = "the summary is what the entries add up to"


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
        ((posted("c1"), decided("c1")), "every entry belongs to a call that was decided"),
        ((decided("c1"), posted("c1"), settled("c1")), SETTLED),
        ((decided("c1"), settled("c1"), posted("c1")), SETTLED),
        ((decided("c1"), posted("c1", cost_nanos=-1)), "no amount is negative"),
    ],
)
def test_a_call_that_breaks_a_law_is_named(path: Path, entries: tuple[Entry, ...], law: str) -> None:
    write(path, *entries)

    assert broken(path)[law] == ("c1",)


def test_settled_calls_and_top_ups_are_sound(path: Path) -> None:
    write(path, decided("c1"), set_aside("c1"), failed("c1", cost_nanos=None), settled("c1"), topped_up())
    write(path, decided("c2"), set_aside("c2"), settled("c2", cost_nanos=0))

    assert broken(path) == {}


@pytest.mark.parametrize(
    ("damage", "law", "example"),
    [
        ("UPDATE balances SET posted_nanos = 1", CONSERVED, ACCOUNT),
        ("UPDATE balances SET posted_nanos = 1", SUMMARY, ACCOUNT),
        ("UPDATE balances SET pending_nanos = 1, released_nanos = 3999", PENDING, ACCOUNT),
        ("DELETE FROM totals WHERE dimension = 'agent'", SUMMARY, "agent 0 reader"),
        ("UPDATE totals SET at_frontier_nanos = NULL WHERE dimension = 'key'", SUMMARY, "key 0 k1"),
        ("INSERT INTO open_reservations VALUES ('c9')", SUMMARY, "c9"),
        ("INSERT INTO unknown_types VALUES (0, 'x', '', 0, 1, 1)", SUMMARY, "0 x "),
    ],
)
def test_a_summary_that_is_not_what_its_entries_add_up_to_is_named(
    path: Path, damage: str, law: str, example: str
) -> None:
    write(path, decided("c1"), set_aside("c1"), posted("c1"))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(damage)
        connection.commit()

    assert example in broken(path)[law]


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
