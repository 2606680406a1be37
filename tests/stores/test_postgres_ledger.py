"""What only the ledger in PostgreSQL does: it is far away, others write it too, and its server comes and goes."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress

import psycopg
import pytest

from support.entries import decided, posted, set_aside, settled
from support.folding import folded
from support.postgres import Server, all_rows
from support.waiting import eventually
from tierwise.core.ledger import Entry, Settled
from tierwise.errors import LedgerUnavailable
from tierwise.stores.ledger import postgres_connection, writer
from tierwise.stores.ledger.postgres import PostgresLedger
from tierwise.stores.ledger.postgres import open_ledger as open_postgres
from tierwise.stores.ledger.postgres import read_ledger as read_postgres
from tierwise.stores.ledger.postgres_schema import CLOSE_GATE
from tierwise.stores.ledger.reservations import balances, told_since
from tierwise.stores.ledger.summary import end, position
from tierwise.stores.ledger.verification import verify
from tierwise.stores.ledger.writer import GroupCommit


@pytest.fixture
def ledger(address: str) -> Iterator[PostgresLedger]:
    with closing(open_postgres(address, "a database")) as ledger:
        yield ledger


def backend(ledger: PostgresLedger) -> int:
    """The process of the server that serves a ledger."""
    (row,) = ledger.rows("SELECT pg_backend_pid() AS pid")
    return row["pid"]


def connection_of(ledger: PostgresLedger) -> postgres_connection.Connection:
    connection = ledger._connection  # pyright: ignore[reportPrivateUsage] — what the network does to it is done here
    assert connection is not None
    return connection


def stored(address: str) -> list[tuple[str, str]]:
    return all_rows(address, "SELECT call_id, kind FROM entries ORDER BY seq")


def call(number: int) -> list[Entry]:
    return [decided(f"c{number}"), set_aside(f"c{number}"), posted(f"c{number}")]


class Told:
    """Who was told what."""

    def __init__(self) -> None:
        self.durable: list[str] = []
        self.not_durable: list[str] = []

    def __call__(self, waiters: Sequence[str], durable: bool) -> None:
        (self.durable if durable else self.not_durable).extend(waiters)


# A connection that ends


def test_a_connection_that_the_server_ends_is_made_again_by_the_next_write(
    address: str, server: Server, ledger: PostgresLedger
) -> None:
    ledger.write([decided("c1")])
    server.run(f"SELECT pg_terminate_backend({backend(ledger)})")

    with pytest.raises(LedgerUnavailable, match="a database"):
        ledger.write([decided("c2")])
    ledger.write([decided("c2")])

    assert stored(address) == [("c1", "decided"), ("c2", "decided")]


def test_entries_whose_commit_nobody_saw_are_there_once_after_they_are_written_again(
    address: str, ledger: PostgresLedger
) -> None:
    """The connection is lost after the server has committed, and before the client hears of it."""
    ledger.write([decided("c0")])
    connection = connection_of(ledger)
    execute = connection.execute

    def lose(*arguments: object, **options: object) -> object:
        execute(*arguments, **options)  # pyright: ignore[reportArgumentType, reportCallIssue] — passed on as it came
        connection.close()
        raise psycopg.OperationalError("connection to server lost")

    connection.execute = lose  # pyright: ignore[reportAttributeAccessIssue] — the network, at the worst moment

    with pytest.raises(LedgerUnavailable, match="lost"):
        ledger.write([decided("c1"), posted("c1")])
    ledger.write([decided("c1"), posted("c1"), decided("c2")])

    assert stored(address) == [
        ("c0", "decided"),
        ("c1", "decided"),
        ("c1", "posted"),
        ("c2", "decided"),
    ]


def test_an_entry_that_is_there_already_is_an_error_where_nothing_was_in_doubt(
    address: str, ledger: PostgresLedger
) -> None:
    ledger.write([decided("c1")])

    for _ in range(2):
        with pytest.raises(LedgerUnavailable, match="duplicate key"):
            ledger.write([decided("c2"), decided("c1")])

    assert stored(address) == [("c1", "decided")]


def test_a_server_that_is_stopped_and_started_again_loses_nothing_and_has_nothing_twice(
    address: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PATIENCE_S", 0.2)
    monkeypatch.setattr(writer, "RETRY_S", 0.02)
    told = Told()
    commits: GroupCommit[str] = GroupCommit(open_postgres(address, "a database"), acknowledge=told)
    commits.put(decided("before"), "before")
    eventually(lambda: told.durable, until=lambda durable: durable == ["before"])

    writing = threading.Event()
    ended = threading.Event()

    def write() -> None:
        number = 0
        while not ended.is_set():
            commits.put(decided(f"c{number}"), f"c{number}")
            number += 1
            writing.set()
            ended.wait(0.001)

    thread = threading.Thread(target=write)
    thread.start()
    writing.wait()
    server.stop()
    try:
        trouble = eventually(lambda: commits.trouble, until=bool)
        eventually(lambda: told.not_durable, until=bool)
    finally:
        server.start()
        ended.set()
        thread.join()
    eventually(lambda: commits.trouble, until=lambda now: now is None)
    commits.close()

    assert trouble is not None
    assert "a database" in trouble
    found = [call_id for call_id, _ in stored(address)]
    assert len(found) == len(set(found))
    assert set(found) == {"before", *told.durable, *told.not_durable}


def test_a_connection_that_is_killed_again_and_again_loses_nothing_and_has_nothing_twice(
    address: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "RETRY_S", 0.001)
    told = Told()
    commits: GroupCommit[str] = GroupCommit(open_postgres(address, "a database"), acknowledge=told)
    kill = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tierwise' "
        "AND datname = current_database()"
    )

    with closing(psycopg.connect(address, autocommit=True)) as killer:
        for number in range(2_000):
            commits.put(decided(f"c{number}"), f"c{number}")
            if number % 100 == 0:
                killer.execute(kill)
    commits.close()

    assert sorted(stored(address)) == sorted((f"c{number}", "decided") for number in range(2_000))
    assert len(told.durable) == 2_000


def test_a_server_that_hangs_is_unavailable_before_long_and_is_used_again_when_it_answers(
    address: str, ledger: PostgresLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = backend(ledger)
    connection = connection_of(ledger)
    connection.patience_s = 0.2
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(LedgerUnavailable, match="timeout"):
            ledger.write([decided("c1")])
    finally:
        os.kill(pid, signal.SIGCONT)

    ledger.write([decided("c1")])

    assert stored(address) == [("c1", "decided")]


def test_a_new_connection_is_as_impatient_as_the_first(ledger: PostgresLedger, server: Server) -> None:
    server.run(f"SELECT pg_terminate_backend({backend(ledger)})")
    with pytest.raises(LedgerUnavailable):
        ledger.write([decided("c1")])

    ledger.write([decided("c1")])

    assert connection_of(ledger).patience_s == postgres_connection.PATIENCE_S


def test_a_server_that_is_not_there_is_a_clear_error() -> None:
    with pytest.raises(LedgerUnavailable, match=r"a database cannot be used: .*refused"):
        open_postgres("postgresql://user:secret@127.0.0.1:1/ledger", "a database")


def test_a_commit_that_does_not_wait_for_the_disk_is_made_to_wait(address: str, server: Server) -> None:
    name = address.partition("@/")[2].partition("?")[0]
    server.run(f"ALTER DATABASE {name} SET synchronous_commit = off")

    with closing(open_postgres(address, "a database")) as ledger:
        assert list(ledger.rows("SHOW synchronous_commit")) == [{"synchronous_commit": "on"}]


def test_a_database_that_waits_for_more_than_its_disk_still_does(address: str, server: Server) -> None:
    name = address.partition("@/")[2].partition("?")[0]
    server.run(f"ALTER DATABASE {name} SET synchronous_commit = remote_apply")

    with closing(open_postgres(address, "a database")) as ledger:
        assert list(ledger.rows("SHOW synchronous_commit")) == [{"synchronous_commit": "remote_apply"}]


# Entries


def test_a_text_with_a_zero_in_it_does_not_stop_the_ledger(address: str, ledger: PostgresLedger) -> None:
    ledger.write([decided("c1", agent="a\0b"), decided("c2", agent="\\u0000")])

    assert all_rows(address, "SELECT agent FROM entries ORDER BY seq") == [("a�b",), ("\\u0000",)]


# Several gateways


def test_a_summary_leaves_out_an_entry_on_its_way_with_all_that_come_after_it(address: str) -> None:
    """A number is given out in another transaction, which has not committed yet."""
    slow = psycopg.connect(address)
    with closing(open_postgres(address, "a database")) as ledger, closing(slow):
        slow.execute(
            "INSERT INTO entries (call_id, kind, at_us, tier, acts) VALUES ('slow', 'decided', 1, 'fast', 1)"
        )
        ledger.write([decided("quick")])

        ledger.keep_up()
        before = position(ledger)
        slow.commit()
        ledger.keep_up()

        assert before == 0
        assert position(ledger) == end(ledger) == 2
        assert not [finding for finding in verify(ledger) if finding.breaches]


def test_settlements_become_visible_in_the_order_of_their_numbers(address: str) -> None:
    """Another process has begun to tell one, and has not committed it: the next waits for it."""
    with (
        closing(open_postgres(address, "a database")) as ledger,
        closing(psycopg.connect(address)) as slow,
        closing(read_postgres(address, "a database")) as reader,
    ):
        ledger.write([decided("c1"), decided("c2")])
        slow.execute(CLOSE_GATE.replace("pg_advisory_lock", "pg_advisory_xact_lock"))
        slow.execute(
            "INSERT INTO entries (call_id, kind, at_us, cost_nanos, basis, note) "
            "VALUES ('c1', 'settled', 1, 1, 'assumed', '')"
        )

        with pytest.raises(LedgerUnavailable, match="lock timeout"):
            ledger.write([settled("c2")])
        slow.commit()
        ledger.write([settled("c2")])

        _, entries = told_since(reader, 0)
        assert [entry.call_id for entry in entries if isinstance(entry, Settled)] == ["c1", "c2"]


def test_sums_are_those_of_a_plain_fold_when_several_write_and_summarize_at_once(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tierwise.stores.ledger.postgres.SUMMARIZE_AFTER", 7)
    open_postgres(address, "a database").close()
    failures: list[BaseException] = []

    def gateway(first: int) -> None:
        try:
            with closing(open_postgres(address, "a database")) as ledger:
                for number in range(first, first + 100):
                    for entry in call(number):
                        ledger.write([entry])
        except BaseException as error:  # noqa: BLE001 — told by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=gateway, args=(first,)) for first in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    expected = folded([entry for number in range(300) for entry in call(number)])
    with closing(read_postgres(address, "a database")) as reader:
        assert position(reader) > 0
        assert balances(reader) == expected.balances
        assert not [finding for finding in verify(reader) if finding.breaches]


def test_who_finds_another_at_the_summary_leaves_it_to_him(
    address: str, ledger: PostgresLedger, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.write([decided("c1")])
    with closing(open_postgres(address, "a database")) as other, other.transaction():
        ledger.keep_up()

    assert position(ledger) == 0
    assert caplog.records == []


# Reading


def test_a_reader_makes_a_lost_connection_again_but_not_within_a_snapshot(
    address: str, server: Server, ledger: PostgresLedger
) -> None:
    ledger.write([decided("c1")])
    with closing(read_postgres(address, "a database")) as reader:

        def end_connection() -> None:
            (row,) = reader.rows("SELECT pg_backend_pid() AS pid")
            server.run(f"SELECT pg_terminate_backend({row['pid']})")

        def lose_it_within_a_snapshot() -> None:
            with reader.snapshot():
                end_connection()
                with suppress(LedgerUnavailable):
                    list(reader.rows("SELECT 1 AS one"))
                list(reader.rows("SELECT 1 AS one"))

        with pytest.raises(LedgerUnavailable, match="the connection was lost"):
            lose_it_within_a_snapshot()
        end_connection()
        with pytest.raises(LedgerUnavailable):
            list(reader.rows("SELECT 1 AS one"))

        assert list(reader.rows("SELECT call_id FROM entries WHERE kind = ?", ("decided",))) == [
            {"call_id": "c1"}
        ]


def test_rows_within_a_snapshot_come_as_they_are_asked_for_and_may_be_interleaved(
    ledger: PostgresLedger,
) -> None:
    query = "SELECT n FROM generate_series(1, ?::int) AS n"
    with ledger.snapshot():
        pairs = list(zip(ledger.rows(query, (5_000,)), ledger.rows(query, (5_000,)), strict=True))

    assert pairs == [({"n": n}, {"n": n}) for n in range(1, 5_001)]
