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


def test_every_table_has_the_columns_and_keys_that_it_has_in_sqlite(address: str, tmp_path: Path) -> None:
    open_ledger(address, "a database").close()
    with closing(open_sqlite(tmp_path / "ledger.sqlite3")) as ledger:
        expected = {
            (table["name"], column["name"], TYPES[column["type"]], column["notnull"] or column["pk"])
            for table in ledger.rows("SELECT name FROM sqlite_master WHERE type = 'table'")
            for column in ledger.rows(f"PRAGMA table_info({table['name']})")
        }
        keys = {
            (table["name"], column["name"], column["pk"])
            for table in ledger.rows("SELECT name FROM sqlite_master WHERE type = 'table'")
            for column in ledger.rows(f"PRAGMA table_info({table['name']})")
            if column["pk"]
        }

    assert set(all_rows(address, _COLUMNS)) == {(*rest, bool(needed)) for *rest, needed in expected}
    assert set(all_rows(address, _KEYS)) == keys


def test_texts_of_every_table_are_compared_by_their_bytes(address: str) -> None:
    open_ledger(address, "a database").close()

    others = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' "
    assert all_rows(address, others + "AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'") == [
        ("ledger", "id")
    ]


def test_entries_have_the_indexes_that_they_have_in_sqlite(address: str, tmp_path: Path) -> None:
    open_ledger(address, "a database").close()
    with closing(open_sqlite(tmp_path / "ledger.sqlite3")) as ledger:
        texts = ledger.rows("SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
        expected = {plain(row["sql"]) for row in texts}

    assert len(all_rows(address, _INDEXES)) == len(expected)
    assert [text for text in expected if text not in plain("".join(MIGRATIONS))] == []


def test_the_view_of_calls_is_the_one_that_it_is_in_sqlite(tmp_path: Path) -> None:
    with closing(open_sqlite(tmp_path / "ledger.sqlite3")) as ledger:
        (view,) = ledger.rows("SELECT sql FROM sqlite_master WHERE type = 'view'")

    texts = [text for text in "".join(MIGRATIONS).split(";") if "CREATE VIEW calls" in text]

    assert plain(texts[-1]) == plain(view["sql"])


def plain(text: str) -> str:
    """A statement in one line."""
    return " ".join(text.split())


TYPES = {"INTEGER": "bigint", "TEXT": "text", "REAL": "double precision"}

_COLUMNS = """
    SELECT table_name, column_name, data_type, is_nullable = 'NO' FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name NOT IN ('calls', 'tierwise_schema')
"""

_KEYS = """
    SELECT k.table_name, k.column_name, k.ordinal_position
    FROM information_schema.key_column_usage AS k JOIN information_schema.table_constraints AS t
    USING (constraint_schema, constraint_name)
    WHERE t.constraint_type = 'PRIMARY KEY' AND t.table_schema = 'public' AND k.table_name <> 'tierwise_schema'
"""

_INDEXES = """
    SELECT c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
    WHERE NOT i.indisprimary AND c.relnamespace = 'public'::regnamespace
"""


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
