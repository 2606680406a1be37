import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from support.entries import decided
from support.postgres import Server, all_rows
from tierwise.errors import LedgerTooNew, LedgerUnavailable
from tierwise.stores.ledger.postgres import open_ledger, read_ledger
from tierwise.stores.ledger.postgres_schema import MIGRATIONS
from tierwise.stores.ledger.sqlite import open_ledger as open_sqlite


def stored(address: str) -> list[tuple[str, str]]:
    return all_rows(address, "SELECT call_id, kind FROM entries ORDER BY seq")


def test_every_table_has_the_columns_that_it_has_in_sqlite(address: str, tmp_path: Path) -> None:
    open_ledger(address, "a database").close()
    with closing(open_sqlite(tmp_path / "ledger.sqlite3")) as ledger:
        tables = list(ledger.rows("SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view')"))
        expected = {
            (table["name"], column["name"])
            for table in tables
            for column in ledger.rows(f"PRAGMA table_info({table['name']})")
        }

    found = all_rows(
        address,
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'",
    )

    assert {column for column in found if column[0] != "tierwise_schema"} == expected


def test_an_entry_is_never_changed_deleted_or_truncated(address: str) -> None:
    with closing(open_ledger(address, "a database")) as ledger:
        ledger.write([decided("c1")])

    with closing(psycopg.connect(address, autocommit=True)) as connection:
        with pytest.raises(psycopg.Error, match="never changed"):
            connection.execute("UPDATE entries SET cost_nanos = 0")
        with pytest.raises(psycopg.Error, match="never deleted"):
            connection.execute("DELETE FROM entries")
        with pytest.raises(psycopg.Error, match="never deleted"):
            connection.execute("TRUNCATE entries")

    assert stored(address) == [("c1", "decided")]


def test_a_database_that_cannot_hold_every_text_is_refused(server: Server) -> None:
    server.run("CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    address = server.address("ascii")

    with pytest.raises(LedgerUnavailable, match="UTF8"):
        open_ledger(address, "a database")

    server.drop(address)


def test_gateways_that_start_at_once_make_one_ledger(address: str) -> None:
    script = textwrap.dedent(f"""
        import sys
        sys.path[:0] = {sys.path!r}
        from support.entries import decided
        from tierwise.stores.ledger.postgres import open_ledger
        sys.stdin.readline()
        ledger = open_ledger({address!r}, "a database")
        ledger.write([decided(sys.argv[1])])
        ledger.close()
    """)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, f"c{number}"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    ends = [(process.communicate()[1], process.returncode) for process in processes]

    assert ends == [("", 0)] * 3
    assert sorted(stored(address)) == [(f"c{number}", "decided") for number in range(3)]
    versions = [(number,) for number in range(1, len(MIGRATIONS) + 1)]
    assert all_rows(address, "SELECT version FROM tierwise_schema ORDER BY version") == versions


def test_a_migration_that_fails_changes_nothing(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    open_ledger(address, "a database").close()
    broken = (
        *MIGRATIONS,
        "ALTER TABLE entries ADD COLUMN extra BIGINT; ALTER TABLE nothing ADD COLUMN x BIGINT;",
    )
    monkeypatch.setattr("tierwise.stores.ledger.postgres_schema.MIGRATIONS", broken)

    with pytest.raises(LedgerUnavailable, match="nothing"):
        open_ledger(address, "a database")

    assert all_rows(address, "SELECT max(version) FROM tierwise_schema") == [(len(MIGRATIONS),)]
    columns = (
        "SELECT 1 FROM information_schema.columns WHERE table_name = 'entries' AND column_name = 'extra'"
    )
    assert all_rows(address, columns) == []


@pytest.mark.parametrize("opened", [open_ledger, read_ledger])
def test_a_ledger_of_a_newer_version_is_refused(address: str, opened: Callable[[str, str], object]) -> None:
    open_ledger(address, "a database").close()
    with closing(psycopg.connect(address, autocommit=True)) as connection:
        connection.execute("INSERT INTO tierwise_schema (version) VALUES (999)")

    with pytest.raises(LedgerTooNew, match="999"):
        opened(address, "a database")


def test_a_database_that_holds_no_ledger_is_not_made_one_by_reading_it(address: str) -> None:
    with pytest.raises(LedgerUnavailable, match="not a ledger"):
        read_ledger(address, "a database")

    assert all_rows(address, "SELECT to_regclass('entries')") == [(None,)]
