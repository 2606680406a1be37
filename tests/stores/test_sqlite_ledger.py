import signal
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from itertools import chain, repeat
from pathlib import Path

import pytest

from support.entries import decided, failed, posted, set_aside, settled, topped_up
from tierwise.core.policy import Durability
from tierwise.errors import LedgerTooNew, LedgerUnavailable
from tierwise.stores.ledger.migration import back_up
from tierwise.stores.ledger.schema import MIGRATIONS
from tierwise.stores.ledger.sqlite import ROWS_A_STATEMENT, open_ledger, read_ledger
from tierwise.stores.ledger.verification import verify


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


@pytest.fixture
def old(path: Path) -> Path:
    """A ledger of version 1 with one whole call."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(f"{MIGRATIONS[0]} PRAGMA user_version = 1;")
    connection.execute("INSERT INTO entries (call_id, kind, at_us) VALUES ('c1', 'decided', 1)")
    connection.execute(
        "INSERT INTO entries (call_id, kind, at_us, cost_nanos) VALUES ('c1', 'posted', 2, 1000)"
    )
    connection.commit()
    connection.close()
    return path


def rows(path: Path, sql: str) -> list[dict[str, object]]:
    connection = read_ledger(path)
    try:
        return [dict(row) for row in connection.rows(sql)]
    finally:
        connection.close()


def test_a_call_is_its_decision_beside_its_ending(path: Path) -> None:
    ledger = open_ledger(path)
    ledger.write([decided(), posted()])
    ledger.close()

    (call,) = rows(path, "SELECT * FROM calls")

    assert call["task_type"] == "extraction"
    assert call["reasons"] == '["Because."]'
    assert call["ending"] == "posted"
    assert (call["input_tokens"], call["cache_write_5m_tokens"], call["cache_write_1h_tokens"]) == (
        100,
        20,
        3,
    )
    assert (call["cache_read_tokens"], call["output_tokens"], call["thinking_tokens"]) == (40, 50, 7)
    assert (call["cost_nanos"], call["at_frontier_nanos"], call["as_asked_nanos"]) == (1_000, 40_000, 30_000)
    assert (call["until_sent_us"], call["until_first_byte_us"], call["until_end_us"]) == (100, 2_000, 300)


def test_a_failed_call_says_whose_fault_it_was_and_leaves_unknown_counts_null(path: Path) -> None:
    ledger = open_ledger(path)
    ledger.write([decided(), failed(cost_nanos=None, at_least_nanos=12)])
    ledger.close()

    (call,) = rows(path, "SELECT * FROM calls")

    assert (call["ending"], call["fault"], call["error"], call["status"]) == (
        "failed",
        "provider",
        "overloaded_error",
        529,
    )
    assert (call["cost_nanos"], call["at_least_nanos"], call["input_tokens"]) == (None, 12, None)


def test_a_reservation_is_an_entry_of_its_own_between_the_two(path: Path) -> None:
    ledger = open_ledger(path)
    ledger.write([posted(), set_aside(accounts=("a|k|day", 'b|"ü"|day'), reserved_nanos=7), decided()])
    ledger.close()

    entries = rows(path, "SELECT kind, call_id, at_us, reserved_nanos, accounts FROM entries ORDER BY seq")

    assert [entry["kind"] for entry in entries] == ["decided", "set-aside", "posted"]
    assert entries[1] == {
        "kind": "set-aside",
        "call_id": "c1",
        "at_us": 1_000_100,
        "reserved_nanos": 7,
        "accounts": '["a|k|day","b|\\"ü\\"|day"]',
    }
    assert (entries[0]["reserved_nanos"], entries[2]["accounts"]) == (None, None)
    assert rows(path, "SELECT ending, cost_nanos FROM calls") == [{"ending": "posted", "cost_nanos": 1_000}]


def test_a_call_has_one_reservation(path: Path) -> None:
    ledger = open_ledger(path)
    ledger.write([set_aside()])

    with pytest.raises(LedgerUnavailable):
        ledger.write([set_aside("c2"), set_aside()])

    ledger.close()
    assert rows(path, "SELECT call_id FROM entries") == [{"call_id": "c1"}]


def test_a_call_without_an_ending_is_there_with_none(path: Path) -> None:
    ledger = open_ledger(path)
    ledger.write([decided()])
    ledger.close()

    assert [call["ending"] for call in rows(path, "SELECT ending FROM calls")] == [None]


@pytest.mark.parametrize("count", [1, 2, 3, ROWS_A_STATEMENT - 1, ROWS_A_STATEMENT, 3 * ROWS_A_STATEMENT + 5])
def test_a_batch_of_any_size_is_written_whole(path: Path, count: int) -> None:
    ledger = open_ledger(path)
    ledger.write([make(f"c{n}") for make in (decided, set_aside, posted) for n in range(count)])
    ledger.close()

    assert rows(path, "SELECT count(*) AS n FROM calls WHERE ending = 'posted'") == [{"n": count}]
    assert rows(path, "SELECT count(*) AS n FROM entries WHERE kind = 'set-aside'") == [{"n": count}]


def test_a_batch_that_fails_leaves_nothing_behind(path: Path) -> None:
    ledger = open_ledger(path)
    ledger.write([decided("c1"), posted("c1")])

    with pytest.raises(LedgerUnavailable):
        ledger.write([decided("c2"), posted("c1")])  # c1 has its ending already

    ledger.close()
    assert rows(path, "SELECT count(*) AS n FROM entries") == [{"n": 2}]


def test_an_entry_is_never_changed_and_never_deleted(path: Path) -> None:
    ledger = open_ledger(path)
    ledger.write([decided()])
    ledger.close()
    connection = sqlite3.connect(path)

    with pytest.raises(sqlite3.IntegrityError, match="never changed"):
        connection.execute("UPDATE entries SET cost_nanos = 0")
    with pytest.raises(sqlite3.IntegrityError, match="never deleted"):
        connection.execute("DELETE FROM entries")
    connection.close()


def test_a_ledger_can_be_read_while_it_is_written(path: Path) -> None:
    ledger = open_ledger(path)
    ledger.write([decided("c1")])
    reader = read_ledger(path)
    ledger.write([decided("c2")])

    assert list(reader.rows("SELECT count(*) AS n FROM calls")) == [{"n": 2}]
    reader.close()
    ledger.close()


def test_a_locked_ledger_is_unavailable_and_says_so(path: Path) -> None:
    ledger = open_ledger(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(LedgerUnavailable, match="locked"):
        ledger.write([decided()])

    other.execute("ROLLBACK")
    ledger.write([decided()])
    other.close()
    ledger.close()


def test_a_full_disk_is_unavailable_and_says_so(path: Path) -> None:
    ledger = open_ledger(path)
    ledger._connection.execute("PRAGMA max_page_count = 1")  # pyright: ignore[reportPrivateUsage] — the smallest disk there is

    with pytest.raises(LedgerUnavailable, match="full"):
        ledger.write([decided(f"c{n}", agent="x" * 200) for n in range(200)])

    ledger.close()


def test_a_file_that_is_no_ledger_is_refused(path: Path) -> None:
    path.write_text("not a database, but long enough to look like one" * 100)

    with pytest.raises(LedgerUnavailable, match="not a database"):
        open_ledger(path)
    with pytest.raises(LedgerUnavailable):
        read_ledger(path)


def test_a_missing_ledger_is_not_made_by_reading_it(path: Path) -> None:
    with pytest.raises(LedgerUnavailable, match="no such file"):
        read_ledger(path)

    assert not path.exists()


def test_a_folder_that_is_missing_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable, match="unable to open"):
        open_ledger(tmp_path / "nowhere" / "ledger.sqlite3")


def test_a_ledger_of_a_newer_version_is_refused_both_ways(path: Path) -> None:
    open_ledger(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 999")
    connection.close()

    with pytest.raises(LedgerTooNew, match="999"):
        open_ledger(path)
    with pytest.raises(LedgerTooNew, match="newer Tierwise"):
        read_ledger(path)


def test_an_empty_database_is_no_ledger_to_read_but_becomes_one_to_write(path: Path) -> None:
    sqlite3.connect(path).close()
    path.touch()

    with pytest.raises(LedgerUnavailable, match="not a ledger"):
        read_ledger(path)

    open_ledger(path).close()
    read_ledger(path).close()


def test_an_older_ledger_keeps_its_entries_and_takes_reservations(old: Path) -> None:
    ledger = open_ledger(old)
    ledger.write([decided("c2"), set_aside("c2")])
    ledger.close()

    assert rows(old, "SELECT call_id, ending, cost_nanos FROM calls ORDER BY call_id") == [
        {"call_id": "c1", "ending": "posted", "cost_nanos": 1_000},
        {"call_id": "c2", "ending": None, "cost_nanos": None},
    ]
    assert rows(old, "SELECT call_id FROM entries WHERE reserved_nanos = 5000") == [{"call_id": "c2"}]


def test_an_older_ledger_is_not_read_before_it_is_brought_up_to_date(old: Path) -> None:
    with pytest.raises(LedgerUnavailable, match="older one"):
        read_ledger(old)


def test_an_older_ledger_is_copied_as_it_was_before_it_is_changed(old: Path) -> None:
    old.chmod(0o600)
    open_ledger(old).close()
    backup = old.with_name("ledger.sqlite3.v1.backup")

    with closing(sqlite3.connect(backup)) as copy:
        assert copy.execute("PRAGMA user_version").fetchone() == (1,)
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert copy.execute("SELECT kind FROM entries ORDER BY seq").fetchall() == [("decided",), ("posted",)]
    assert backup.stat().st_mode & 0o777 == 0o600


def test_a_backup_never_replaces_another(old: Path) -> None:
    first = old.with_name("ledger.sqlite3.v1.backup")
    first.write_text("someone's")

    open_ledger(old).close()

    assert first.read_text() == "someone's"
    with closing(sqlite3.connect(old.with_name("ledger.sqlite3.v1.backup2"))) as copy:
        assert copy.execute("SELECT count(*) FROM entries").fetchone() == (2,)


def test_an_older_ledger_that_cannot_be_copied_is_left_as_it_is(old: Path) -> None:
    long = old.rename(old.with_name("x" * 246))  # the longest name to which SQLite's own endings still fit

    with pytest.raises(LedgerUnavailable, match="too long"):
        open_ledger(long)

    with closing(sqlite3.connect(long)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


@pytest.mark.parametrize("found", [0, 2])
def test_a_ledger_that_another_process_brings_up_to_date_meanwhile_is_opened(
    path: Path, monkeypatch: pytest.MonkeyPatch, found: int
) -> None:
    """Another process has done all of it between this one's first look and its first change."""
    open_ledger(path).close()
    looks = chain([found], repeat(len(MIGRATIONS)))

    def look(_connection: sqlite3.Connection) -> int:
        return next(looks)

    monkeypatch.setattr("tierwise.stores.ledger.migration.version_of", look)

    with closing(open_ledger(path)) as ledger:
        ledger.write([decided("c1")])

    assert rows(path, "SELECT call_id FROM calls") == [{"call_id": "c1"}]


def test_a_ledger_that_is_new_or_up_to_date_is_not_copied(path: Path) -> None:
    open_ledger(path).close()
    open_ledger(path).close()

    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_what_was_written_survives_the_death_of_the_process(path: Path) -> None:
    script = textwrap.dedent(f"""
        import os, sys
        sys.path[:0] = {sys.path!r}
        from support.entries import decided, set_aside
        from tierwise.stores.ledger.sqlite import open_ledger
        ledger = open_ledger({str(path)!r})
        for n in range(100):
            ledger.write([decided(f"c{{n}}"), set_aside(f"c{{n}}")])
        print("written", flush=True)
        os.kill(os.getpid(), {int(signal.SIGKILL)})
    """)

    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert (ended.stdout.strip(), ended.returncode) == ("written", -signal.SIGKILL)
    assert rows(path, "SELECT count(*) AS n FROM calls") == [{"n": 100}]
    assert rows(path, "SELECT count(*) AS n FROM entries WHERE kind = 'set-aside'") == [{"n": 100}]


@pytest.mark.parametrize(("durability", "synchronous"), [("kill", 1), ("power", 2)])
def test_a_commit_waits_for_the_disk_only_where_entries_are_to_survive_a_loss_of_power(
    tmp_path: Path, durability: Durability, synchronous: int
) -> None:
    with closing(open_ledger(tmp_path / "ledger.sqlite3", durability=durability)) as ledger:
        connection = ledger._connection  # pyright: ignore[reportPrivateUsage] — the setting is the connection's own
        assert connection.execute("PRAGMA synchronous").fetchone() == (synchronous,)


def test_what_is_told_twice_is_kept_once_and_first(path: Path) -> None:
    ledger = open_ledger(path)
    ledger.write([decided(), settled(cost_nanos=5), topped_up(amount_nanos=7)])
    ledger.write([settled(cost_nanos=6), topped_up(amount_nanos=8), decided("c2")])
    ledger.close()

    assert rows(
        path, "SELECT cost_nanos, amount_nanos FROM entries WHERE kind IN ('settled', 'topped-up')"
    ) == [
        {"cost_nanos": 5, "amount_nanos": None},
        {"cost_nanos": None, "amount_nanos": 7},
    ]
    assert rows(path, "SELECT count(*) AS n FROM entries") == [{"n": 4}]


def test_a_call_costs_what_its_ending_says_or_else_what_it_was_settled_at(path: Path) -> None:
    ledger = open_ledger(path)
    ledger.write([decided("c1"), posted("c1", cost_nanos=1)])
    ledger.write([decided("c2"), posted("c2", cost_nanos=None), settled("c2", cost_nanos=2)])
    ledger.write([decided("c3", key_id=None), settled("c3", cost_nanos=0, basis="assumed")])
    ledger.close()

    assert rows(path, "SELECT call_id, ending, cost_nanos, basis, key_id FROM calls ORDER BY call_id") == [
        {"call_id": "c1", "ending": "posted", "cost_nanos": 1, "basis": None, "key_id": "k1"},
        {"call_id": "c2", "ending": "posted", "cost_nanos": 2, "basis": "reconciled", "key_id": "k1"},
        {"call_id": "c3", "ending": None, "cost_nanos": 0, "basis": "assumed", "key_id": None},
    ]


def test_a_query_that_fails_says_so_and_ends_its_snapshot(path: Path) -> None:
    open_ledger(path).close()
    with closing(read_ledger(path)) as reader:
        with pytest.raises(LedgerUnavailable, match="no such table"), reader.snapshot():
            list(reader.rows("SELECT * FROM nowhere"))
        with reader.snapshot(), reader.snapshot():
            assert list(reader.rows("SELECT 1 AS one")) == [{"one": 1}]


def test_a_backup_is_whole_while_entries_are_written_and_no_more_readable_than_the_ledger(path: Path) -> None:
    ledger = open_ledger(path)
    path.chmod(0o600)
    ledger.write([decided(), set_aside()])
    copy = path.with_name("copy.sqlite3")

    back_up(path, copy)
    ledger.write([posted()])
    ledger.close()

    assert rows(copy, "SELECT kind FROM entries ORDER BY seq") == [{"kind": "decided"}, {"kind": "set-aside"}]
    with closing(read_ledger(copy)) as reader:
        assert not [finding for finding in verify(reader) if finding.breaches]
    assert copy.stat().st_mode & 0o777 == 0o600


def test_a_backup_replaces_nothing_and_leaves_nothing_where_there_is_no_ledger(path: Path) -> None:
    copy = path.with_name("copy.sqlite3")

    with pytest.raises(LedgerUnavailable, match="no such file"):
        back_up(path, copy)
    assert not copy.exists()
    open_ledger(path).close()
    copy.write_text("someone's")
    with pytest.raises(LedgerUnavailable, match="not replaced"):
        back_up(path, copy)
    assert copy.read_text() == "someone's"
