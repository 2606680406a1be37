"""The summary: whatever is summarized when, readers find what a plain fold over all entries finds."""

import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.entries import decided, failed, posted, set_aside, settled, topped_up
from support.folding import Folded, folded
from tierwise.core.budgets import Balance
from tierwise.core.ledger import (
    Acted,
    Batched,
    Checked,
    Decided,
    Declared,
    Entry,
    Graded,
    Outcome,
    Paired,
    ToppedUp,
)
from tierwise.errors import LedgerUnavailable
from tierwise.stores.ledger.query import Reader
from tierwise.stores.ledger.reports import DIMENSIONS, report
from tierwise.stores.ledger.reservations import balances, open_reservations
from tierwise.stores.ledger.retention import prune
from tierwise.stores.ledger.schema import MIGRATIONS
from tierwise.stores.ledger.sqlite import SUMMARIZE_AFTER, SqliteLedger, open_ledger, read_ledger
from tierwise.stores.ledger.summary import end, position, summarize
from tierwise.stores.ledger.verification import verify

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    with closing(open_ledger(tmp_path / "ledger.sqlite3")) as ledger:
        yield ledger


def read(ledger: Reader) -> Folded:
    return Folded(
        lines={by: {line.key: line.totals for line in report(ledger, by=by).lines} for by in DIMENSIONS},
        unknown_types={each.name: each.calls for each in report(ledger).unknown_types},
        balances=balances(ledger),
        open={each.call_id: each.ended for each in open_reservations(ledger)},
    )


COSTS = st.one_of(st.none(), st.integers(0, 200))
NAMES = st.sampled_from([None, "a", "b"])
MODELS = st.sampled_from([None, "m1", "m2"])
ACCOUNTS = st.lists(st.sampled_from(["a|day", "b|day", "#c|day", "~d|day"]), unique=True, max_size=3).map(
    tuple
)


@st.composite
def calls(draw: st.DrawFn, call_id: str) -> list[Entry]:
    """The entries of one call, in order; the call may be at any stage."""
    at_us = draw(st.integers(0, 3 * 24)) * HOUR_US + 5
    entries: list[Entry] = [
        decided(
            call_id,
            at_us=at_us,
            task_type=draw(NAMES),
            agent=draw(NAMES),
            run_id=draw(NAMES),
            key_id=draw(NAMES),
            tier=draw(NAMES),
            acts=draw(st.booleans()),
            unknown_type=draw(st.sampled_from([None, None, "typo"])),
        )
    ]
    if draw(st.booleans()):
        entries.append(
            set_aside(call_id, at_us=at_us, accounts=draw(ACCOUNTS), reserved_nanos=draw(st.integers(0, 100)))
        )
    cost = draw(COSTS)
    ending = draw(st.sampled_from(["posted", "failed", "none"]))
    if ending == "posted":
        entries.append(
            posted(
                call_id,
                at_us=at_us,
                cost_nanos=cost,
                served_model=draw(st.sampled_from(["m1", "m2"])),
                stop_reason=draw(st.sampled_from(["end_turn", "max_tokens"])),
                at_frontier_nanos=draw(COSTS),
            )
        )
    if ending == "failed":
        entries.append(
            failed(
                call_id, at_us=at_us, cost_nanos=cost, served_model=draw(MODELS), at_least_nanos=draw(COSTS)
            )
        )
    if (ending == "none" or cost is None) and draw(st.booleans()):
        entries.append(settled(call_id, at_us=at_us, cost_nanos=draw(st.integers(0, 200))))
    return entries


@st.composite
def histories(draw: st.DrawFn) -> list[Entry]:
    """Entries of several calls, interleaved, and top-ups among them."""
    waiting = [draw(calls(f"c{number}")) for number in range(draw(st.integers(0, 6)))]
    waiting.append(
        [
            topped_up(f"t{n}", account=draw(st.sampled_from(["a|day", "new"])))
            for n in range(draw(st.integers(0, 2)))
        ]
    )
    history: list[Entry] = []
    while waiting := [entries for entries in waiting if entries]:
        history.append(draw(st.sampled_from(waiting)).pop(0))
    return history


@settings(max_examples=60, deadline=None)
@given(history=histories(), stops=st.lists(st.sampled_from([0, 0, 1, 2, 50]), min_size=30, max_size=30))
def test_what_is_read_is_the_plain_fold_of_all_entries_whatever_was_summarized_when(
    history: list[Entry], stops: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as folder, closing(open_ledger(Path(folder, "ledger"))) as ledger:
        for entry, step in zip(history, stops, strict=False):
            ledger.write([entry])
            if step:
                summarize(ledger, step=step)

        assert read(ledger) == folded(history)
        assert not [finding for finding in verify(ledger) if finding.breaches]


@settings(max_examples=40, deadline=None)
@given(
    history=histories(),
    before_us=st.integers(0, 4).map(lambda days: days * DAY_US + 7),
    batch=st.integers(1, 3),
    begin=st.integers(0, 30),
)
def test_what_is_read_is_the_same_after_old_calls_are_deleted(
    history: list[Entry], before_us: int, batch: int, begin: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, closing(open_ledger(Path(folder, "ledger"))) as ledger:
        for entry in history[:begin]:
            ledger.write([entry])
        prune(ledger, before_us, batch=batch)
        late = [entry for entry in history[begin:] if may_come(ledger, entry)]
        for entry in late:
            ledger.write([entry])
        prune(ledger, before_us, batch=batch)

        assert read(ledger) == folded([*history[:begin], *late])
        assert not [finding for finding in verify(ledger) if finding.breaches]


def may_come(ledger: Reader, entry: Entry) -> bool:
    """Whether an entry is the first of its call, or its call is still there."""
    if isinstance(
        entry, Batched | Decided | ToppedUp | Paired | Graded | Declared | Acted | Checked | Outcome
    ):
        return True
    return bool(list(ledger.rows("SELECT 1 FROM entries WHERE call_id = ?", (entry.call_id,))))


def old_ledger(path: Path) -> Path:
    """A ledger of version 2: a call that was posted, one of unknown cost, and one that is open."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("".join(MIGRATIONS[:2]) + "PRAGMA user_version = 2;")
        for call, cost in (("c1", 30), ("c2", None), ("c3", None)):
            connection.execute(
                "INSERT INTO entries (call_id, kind, at_us, task_type, acts) VALUES (?, 'decided', 5, 'x', 1)",
                (call,),
            )
            connection.execute(
                "INSERT INTO entries (call_id, kind, at_us, reserved_nanos, accounts) "
                "VALUES (?, 'set-aside', 6, 100, '[\"a\"]')",
                (call,),
            )
            if call != "c3":
                connection.execute(
                    "INSERT INTO entries (call_id, kind, at_us, cost_nanos) VALUES (?, 'posted', 7, ?)",
                    (call, cost),
                )
        connection.commit()
    return path


def test_an_older_ledger_is_summarized_when_it_is_brought_up_to_date(tmp_path: Path) -> None:
    with closing(open_ledger(old_ledger(tmp_path / "ledger"))) as ledger:
        assert position(ledger) == end(ledger) == 8
        assert balances(ledger) == {
            "a": Balance(reserved_nanos=300, pending_nanos=200, posted_nanos=30, released_nanos=70)
        }
        assert [(each.call_id, each.ended) for each in open_reservations(ledger)] == [
            ("c2", True),
            ("c3", False),
        ]
        assert [(line.key, line.totals.calls) for line in report(ledger, by="key").lines] == [("(none)", 3)]
        assert not [finding for finding in verify(ledger) if finding.breaches]


def test_the_summary_follows_by_itself_while_entries_are_written_and_at_the_end(ledger: SqliteLedger) -> None:
    ledger.write([decided(f"c{number}") for number in range(SUMMARIZE_AFTER - 1)])
    before = position(ledger)
    ledger.write([decided("a"), decided("b")])
    after = position(ledger)
    ledger.write([decided("c")])
    ledger.close()

    assert (before, after) == (0, SUMMARIZE_AFTER + 1)
    with closing(read_ledger(ledger.path)) as reader:
        assert position(reader) == SUMMARIZE_AFTER + 2


def test_entries_are_written_even_where_the_summary_cannot_be(ledger: SqliteLedger) -> None:
    ledger.run("DROP TABLE totals")

    ledger.write([decided(f"c{number}") for number in range(SUMMARIZE_AFTER)])

    assert (position(ledger), end(ledger)) == (0, SUMMARIZE_AFTER)


def test_a_step_that_fails_leaves_the_summary_as_it_was(ledger: SqliteLedger) -> None:
    ledger.write([decided("c1"), set_aside("c1")])
    summarize(ledger)
    ledger.write([posted("c1")])
    before = read(ledger)
    ledger.run(
        "CREATE TRIGGER broken BEFORE DELETE ON open_reservations BEGIN SELECT RAISE(ABORT, 'no'); END"
    )

    with pytest.raises(LedgerUnavailable, match="no"):
        summarize(ledger)

    assert read(ledger) == before
    assert position(ledger) == 2


def test_a_snapshot_stays_at_one_moment_while_entries_are_written_and_summarized(
    ledger: SqliteLedger,
) -> None:
    ledger.write([decided("c1"), set_aside("c1")])
    with closing(read_ledger(ledger.path)) as reader:
        with reader.snapshot():
            before = read(reader)
            ledger.write([posted("c1"), decided("c2")])
            summarize(ledger)
            within = read(reader)
        after = read(reader)

    assert within == before
    assert after == folded([decided("c1"), set_aside("c1"), posted("c1"), decided("c2")])


def test_readers_never_see_half_of_a_step(ledger: SqliteLedger) -> None:
    stop = threading.Event()
    wrong: list[int] = []

    def look() -> None:
        with closing(read_ledger(ledger.path)) as reader:
            while not stop.is_set():
                total = report(reader).total
                if total.cost_nanos != 1_000 * total.finished or total.calls - total.finished not in range(2):
                    wrong.append(total.calls)

    looking = threading.Thread(target=look)
    looking.start()
    for number in range(300):
        ledger.write([decided(f"c{number}")])
        ledger.write([posted(f"c{number}")])
        if number % 7 == 0:
            summarize(ledger, step=3)
    stop.set()
    looking.join()

    assert not wrong
