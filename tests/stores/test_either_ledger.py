"""What every ledger does, whichever database holds it."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.entries import decided, failed, posted, set_aside, settled, topped_up
from support.folding import Folded, folded
from tierwise.core.budgets import Balance, OpenReservation
from tierwise.core.ledger import Batched, Entry, Settled
from tierwise.errors import LedgerUnavailable
from tierwise.stores.ledger.batches import AT_ONCE, made_with, open_items
from tierwise.stores.ledger.opening import Ledger, open_ledger, read_ledger
from tierwise.stores.ledger.query import Reader
from tierwise.stores.ledger.reports import DIMENSIONS, By, UnknownType, report
from tierwise.stores.ledger.reservations import (
    balances,
    endings,
    open_reservations,
    overdue,
    past,
    told_since,
)
from tierwise.stores.ledger.retention import closed_before, prune
from tierwise.stores.ledger.summary import end, position, summarize
from tierwise.stores.ledger.verification import LAWS, verify

DAY_US = 86_400_000_000


@pytest.fixture(params=["sqlite", "postgres"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place for a new ledger."""
    if request.param == "sqlite":
        return str(tmp_path / "ledger.sqlite3")
    return request.getfixturevalue("address")


@pytest.fixture
def ledger(where: str) -> Iterator[Ledger]:
    with closing(open_ledger(where)) as ledger:
        yield ledger


def stored(ledger: Reader) -> list[tuple[str, str]]:
    return [
        (row["call_id"], row["kind"]) for row in ledger.rows("SELECT call_id, kind FROM entries ORDER BY seq")
    ]


def broken_laws(ledger: Reader) -> list[str]:
    return [finding.law for finding in verify(ledger) if finding.breaches]


def read(ledger: Reader) -> Folded:
    return Folded(
        lines={by: {line.key: line.totals for line in report(ledger, by=by).lines} for by in DIMENSIONS},
        unknown_types={each.name: each.calls for each in report(ledger).unknown_types},
        balances=balances(ledger),
        open={each.call_id: each.ended for each in open_reservations(ledger)},
    )


# Writing


def test_a_call_is_its_decision_beside_its_ending(ledger: Ledger) -> None:
    ledger.write([decided(acts=False, stream=True, selection_probability=0.1), posted()])

    (call,) = ledger.rows("SELECT * FROM calls")

    assert (call["task_type"], call["reasons"], call["ending"]) == ("extraction", '["Because."]', "posted")
    assert (call["acts"], call["stream"], call["selection_probability"]) == (0, 1, 0.1)
    assert (call["input_tokens"], call["cache_read_tokens"], call["thinking_tokens"]) == (100, 40, 7)
    assert (call["cost_nanos"], call["until_sent_us"], call["fault"]) == (1_000, 100, None)


def test_entries_of_one_batch_come_in_the_order_in_which_a_call_lives(ledger: Ledger) -> None:
    ledger.write([settled("c2"), posted(), set_aside(), decided("c2"), decided(), topped_up("t1")])

    assert stored(ledger) == [
        ("c2", "decided"),
        ("c1", "decided"),
        ("c1", "set-aside"),
        ("c1", "posted"),
        ("c2", "settled"),
        ("t1", "topped-up"),
    ]


@pytest.mark.parametrize("count", [1, 2, 67, 512])
def test_a_batch_of_any_size_is_written_whole_and_in_order(ledger: Ledger, count: int) -> None:
    ledger.write([decided(f"c{number}") for number in range(count)])

    assert stored(ledger) == [(f"c{number}", "decided") for number in range(count)]


def test_nothing_is_written_as_nothing(ledger: Ledger) -> None:
    ledger.write([])

    assert stored(ledger) == []


def test_a_batch_that_fails_leaves_nothing_behind(ledger: Ledger) -> None:
    ledger.write([decided("c1"), posted("c1")])

    with pytest.raises(LedgerUnavailable):
        ledger.write([decided("c2"), posted("c1"), settled("c2")])

    assert stored(ledger) == [("c1", "decided"), ("c1", "posted")]


def test_what_is_told_once_counts_as_it_was_told_first(ledger: Ledger) -> None:
    ledger.write([decided(), settled(cost_nanos=5), topped_up("t1", amount_nanos=7)])
    ledger.write([settled(cost_nanos=6), topped_up("t1", amount_nanos=8), decided("c2")])

    costs = list(
        ledger.rows("SELECT cost_nanos, amount_nanos FROM entries WHERE kind <> 'decided' ORDER BY seq")
    )
    assert [tuple(row.values()) for row in costs] == [(5, None), (None, 7)]
    assert ("c2", "decided") in stored(ledger)


def test_texts_and_numbers_are_stored_as_they_are(ledger: Ledger) -> None:
    texts = ["ü", '"', "\\", "'; DROP TABLE entries; --", "?", "$1", "%s", "\U0001f600", "\n"]
    largest = 2**63 - 1
    ledger.write([decided(f"c{number}", agent=text) for number, text in enumerate(texts)])
    ledger.write([posted("c0", cost_nanos=largest)])

    rows = ledger.rows("SELECT agent FROM entries WHERE kind = ? ORDER BY seq", ("decided",))
    assert [row["agent"] for row in rows] == texts
    assert [
        row["cost_nanos"] for row in ledger.rows("SELECT cost_nanos FROM calls WHERE ending = 'posted'")
    ] == [largest]


def test_sums_beyond_what_a_float_holds_are_exact_whole_numbers(ledger: Ledger) -> None:
    ledger.write([decided("c1"), posted("c1", cost_nanos=2**53), decided("c2"), posted("c2", cost_nanos=1)])

    (row,) = ledger.rows("SELECT sum(cost_nanos) AS cost FROM calls")
    assert (row["cost"], type(row["cost"])) == (2**53 + 1, int)
    assert report(ledger).total.cost_nanos == 2**53 + 1


# Reading


def test_a_snapshot_does_not_see_what_is_written_meanwhile(where: str, ledger: Ledger) -> None:
    ledger.write([decided("c1")])
    with closing(read_ledger(where)) as reader:
        with reader.snapshot():
            before = stored(reader)
            ledger.write([decided("c2")])
            with reader.snapshot():
                within = stored(reader)
        after = stored(reader)

    assert before == within == [("c1", "decided")]
    assert after == [("c1", "decided"), ("c2", "decided")]


def test_what_cannot_be_read_is_unavailable_and_leaves_the_ledger_usable(ledger: Ledger) -> None:
    with pytest.raises(LedgerUnavailable):
        list(ledger.rows("SELECT nothing FROM nowhere"))

    ledger.write([decided()])
    assert stored(ledger) == [("c1", "decided")]


def test_a_reader_writes_nothing(where: str, ledger: Ledger) -> None:
    with closing(read_ledger(where)) as reader, pytest.raises(LedgerUnavailable), reader.snapshot():
        list(reader.rows("DELETE FROM balances RETURNING account"))


def test_a_transaction_that_fails_leaves_the_derived_tables_as_they_were(ledger: Ledger) -> None:
    def fail() -> None:
        with ledger.transaction():
            ledger.run("UPDATE summary SET position = ?", (99,))
            raise KeyError

    with pytest.raises(KeyError):
        fail()

    assert position(ledger) == 0
    ledger.write([decided()])
    assert stored(ledger) == [("c1", "decided")]


def test_how_many_rows_a_statement_changed_is_told(ledger: Ledger) -> None:
    ledger.write([decided(), set_aside(accounts=("a", "b"))])
    summarize(ledger)

    assert ledger.run("DELETE FROM balances WHERE account IN (?, ?)", ("a", "b")) == 2


# Reports

SMALL: tuple[Entry, ...] = (
    decided("c1", at_us=1, task_type="extraction", agent="reader", run_id="r1", key_id="k1", tier="fast"),
    posted("c1", cost_nanos=1_000),
    decided("c2", at_us=2, task_type="synthesis", agent="Writer", run_id="r1", key_id="k2", tier="frontier"),
    posted("c2", served_model="claude-opus-5-5", stop_reason="max_tokens", cost_nanos=70_000),
    decided("c3", at_us=DAY_US, task_type="extraction", agent="_", run_id="r2", key_id="k1", tier="fast"),
    failed("c3", cost_nanos=0),
    decided("c4", at_us=DAY_US, task_type=None, agent=None, run_id=None, key_id=None, tier=None, acts=False),
    failed("c4", cost_nanos=None, at_least_nanos=500, served_model="claude-opus-5-5"),
    decided(
        "c5", at_us=DAY_US, task_type="Synthesis", agent="a", run_id="r2", key_id="k1", tier="x", acts=False
    ),
)


@pytest.mark.parametrize("summarized", [False, True])
@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("type", [("synthesis", 1), ("extraction", 2), ("(undeclared)", 1), ("Synthesis", 1)]),
        ("agent", [("Writer", 1), ("reader", 1), ("(none)", 1), ("_", 1), ("a", 1)]),
        ("run", [("r1", 2), ("(none)", 1), ("r2", 2)]),
        ("model", [("claude-opus-5-5", 2), ("claude-haiku-5-5", 1), ("(no reply)", 2)]),
        ("tier", [("frontier", 1), ("fast", 2), ("(as asked)", 1), ("(none)", 1)]),
        ("key", [("k2", 1), ("k1", 3), ("(none)", 1)]),
        ("day", [("1970-01-01", 2), ("1970-01-02", 3)]),
    ],
)
def test_lines_are_the_same_and_in_the_same_order(
    ledger: Ledger, by: By, expected: list[tuple[str, int]], summarized: bool
) -> None:
    ledger.write(SMALL)
    if summarized:
        summarize(ledger)

    assert [(line.key, line.totals.calls) for line in report(ledger, by=by).lines] == expected
    assert report(ledger, by=by, exact=True).lines == report(ledger, by=by).lines


def test_unknown_types_are_told_with_what_was_meant_last(ledger: Ledger) -> None:
    ledger.write(
        [decided("c1", at_us=1, unknown_type="b", nearest_type="x"), decided("c2", unknown_type="a")]
    )
    summarize(ledger)
    ledger.write([decided("c3", at_us=3 * DAY_US, unknown_type="b", nearest_type="y")])

    assert report(ledger).unknown_types == (
        UnknownType(name="b", nearest="y", calls=2),
        UnknownType(name="a", nearest=None, calls=1),
    )


# Reservations


def test_balances_open_reservations_and_endings_are_told(ledger: Ledger) -> None:
    ledger.write([
        decided("c1"), set_aside("c1", accounts=("a", "#n"), reserved_nanos=10, at_us=1),
        decided("c2"), set_aside("c2", accounts=("a",), reserved_nanos=20, at_us=2),
        decided("c3"), set_aside("c3", accounts=("a",), reserved_nanos=30, at_us=3),
        posted("c1", cost_nanos=12),
        failed("c2", cost_nanos=None),
        topped_up("t1", account="a", amount_nanos=100),
    ])  # fmt: skip

    assert balances(ledger) == {
        "#n": Balance(reserved_nanos=1, posted_nanos=1),
        "a": Balance(
            reserved_nanos=60, pending_nanos=50, posted_nanos=12, overrun_nanos=2, topped_up_nanos=100
        ),
    }
    open_ones = [
        OpenReservation(call_id="c2", accounts=("a",), amount_nanos=20, at_us=2, ended=True),
        OpenReservation(call_id="c3", accounts=("a",), amount_nanos=30, at_us=3, ended=False),
    ]
    assert open_reservations(ledger) == open_ones
    assert overdue(ledger, 3) == open_ones[:1]
    assert endings(ledger, ["c1", "c2", "c3", "other"]) == {"c1": 12, "c2": None}
    assert [(each.call_id, each.cost_nanos) for each in past(ledger)] == [
        ("c1", 12),
        ("c2", None),
        ("c3", None),
    ]


def test_what_is_told_after_a_position_is_told_once_and_in_order(ledger: Ledger) -> None:
    ledger.write([decided("c1"), decided("c2"), settled("c1", cost_nanos=5)])
    begin = end(ledger)
    ledger.write([decided("c3"), settled("c2", cost_nanos=6), topped_up("t1", amount_nanos=7)])

    reached, told = told_since(ledger, begin)

    assert told == [settled("c2", cost_nanos=6), topped_up("t1", amount_nanos=7)]
    assert told_since(ledger, reached) == (reached, [])
    assert [entry for entry in told_since(ledger, 0)[1] if isinstance(entry, Settled)] == [
        settled("c1", cost_nanos=5),
        settled("c2", cost_nanos=6),
    ]


# Laws


def test_a_ledger_that_holds_every_law_is_checked_for_all_of_them(ledger: Ledger) -> None:
    ledger.write(SMALL)
    summarize(ledger)

    assert {finding.law for finding in verify(ledger)} == set(LAWS)
    assert broken_laws(ledger) == []


@pytest.mark.parametrize(
    ("entries", "law"),
    [
        ([posted()], "every entry belongs to a call that was decided"),
        ([decided(), posted(), failed()], "no call has two endings"),
        ([decided(), posted(cost_nanos=-1)], "no amount is negative"),
    ],
)
def test_a_broken_law_is_told(ledger: Ledger, entries: list[Entry], law: str) -> None:
    ledger.write(entries)

    assert law in broken_laws(ledger)


def test_a_summary_that_is_not_what_the_entries_come_to_is_told(ledger: Ledger) -> None:
    ledger.write(SMALL)
    summarize(ledger)
    ledger.run("UPDATE totals SET calls = calls + 1 WHERE key = ?", ("r1",))

    assert broken_laws(ledger) == ["the summary is what the entries add up to"]


# Retention


def test_sums_stay_when_entries_are_deleted(ledger: Ledger) -> None:
    ledger.write([*SMALL, decided("last", at_us=9 * DAY_US)])
    before = read(ledger)

    counted = closed_before(ledger, DAY_US)
    entries_before = len(stored(ledger))
    pruned = prune(ledger, DAY_US, batch=1)

    assert read(ledger) == before
    assert broken_laws(ledger) == []
    assert pruned.calls == counted
    assert len(stored(ledger)) == entries_before - pruned.entries


# Any history

COSTS = st.none() | st.integers(0, 200)
NAMES = st.sampled_from([None, "a", "B"])
ACCOUNTS = st.sampled_from([(), ("a|day",), ("a|day", "#c|day")])


@st.composite
def calls(draw: st.DrawFn, call_id: str) -> list[Entry]:
    """The entries of one call, in order; it may be at any stage."""
    entries: list[Entry] = [
        decided(
            call_id,
            at_us=draw(st.integers(0, 3)) * DAY_US,
            task_type=draw(NAMES),
            key_id=draw(NAMES),
            tier=draw(NAMES),
            acts=draw(st.booleans()),
            unknown_type=draw(NAMES),
        )
    ]
    if draw(st.booleans()):
        entries.append(set_aside(call_id, accounts=draw(ACCOUNTS), reserved_nanos=draw(st.integers(0, 100))))
    cost = draw(COSTS)
    match draw(st.sampled_from(["posted", "failed", "open"])):
        case "posted":
            entries.append(posted(call_id, cost_nanos=cost, at_frontier_nanos=draw(COSTS)))
        case "failed":
            entries.append(
                failed(call_id, cost_nanos=cost, served_model=draw(NAMES), at_least_nanos=draw(COSTS))
            )
        case _:
            cost = None
    if cost is None and draw(st.booleans()):
        entries.append(settled(call_id, cost_nanos=draw(st.integers(0, 200))))
    return entries


@st.composite
def histories(draw: st.DrawFn) -> list[Entry]:
    """Entries of several calls, interleaved, and a top-up."""
    waiting = [draw(calls(f"c{number}")) for number in range(draw(st.integers(0, 4)))] + [[topped_up("t1")]]
    history: list[Entry] = []
    while waiting := [entries for entries in waiting if entries]:
        history.append(draw(st.sampled_from(waiting)).pop(0))
    return history


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories(), steps=st.lists(st.sampled_from([0, 0, 1, 50]), min_size=25, max_size=25))
def test_what_is_read_is_the_plain_fold_whatever_was_summarized_when(
    where: str, history: list[Entry], steps: list[int]
) -> None:
    empty(where)
    with closing(open_ledger(where)) as ledger:
        for entry, step in zip(history, steps, strict=False):
            ledger.write([entry])
            if step:
                summarize(ledger, step=step)

        assert read(ledger) == folded(history)
        assert broken_laws(ledger) == []


def empty(where: str) -> None:
    """Take away the ledger of the example before."""
    if not where.startswith("postgresql:"):
        for path in Path(where).parent.glob("ledger.sqlite3*"):
            path.unlink()
        return
    with closing(psycopg.connect(where, autocommit=True)) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")


# Message Batches


def sent_items(ledger: Ledger) -> None:
    """Two items of a batch that the provider took, and one of a batch that it did not."""
    for call, batch in (("c1", "own"), ("c2", "own"), ("c3", "other")):
        item = decided(call, batch_id=batch, custom_id=f"item-{call}")
        ledger.write([item, set_aside(call, accounts=("a",), reserved_nanos=100, at_us=10)])
    ledger.write([Batched(entry_id="own", at_us=11, batch_id="msgbatch_1")])


def test_an_item_is_found_by_the_providers_id_and_the_callers_until_it_has_an_ending(ledger: Ledger) -> None:
    sent_items(ledger)
    wanted = ["item-c1", "item-c2", "item-c3", "item-c4"]

    assert {name: item.call_id for name, item in open_items(ledger, "msgbatch_1", wanted).items()} == {
        "item-c1": "c1",
        "item-c2": "c2",
    }
    ledger.write([posted("c1", batch_id="msgbatch_1"), settled("c2")])
    assert open_items(ledger, "msgbatch_1", wanted) == {}


def test_a_batch_is_of_the_key_that_its_items_were_made_with(ledger: Ledger) -> None:
    for number, key_id in enumerate(("ada", "ben", "ada")):
        item = decided(f"c{number}", batch_id=f"own-{number}", custom_id="i", key_id=key_id)
        ledger.write([item, Batched(entry_id=f"own-{number}", at_us=11, batch_id=f"msgbatch_{number}")])
    audit = decided("c3", batch_id="own-3", custom_id="i", key_id="ada", purpose="audit")
    ledger.write([audit, Batched(entry_id="own-3", at_us=11, batch_id="msgbatch_3")])
    ledger.write([posted("c0", batch_id="msgbatch_0")])
    asked = [f"msgbatch_{number}" for number in range(AT_ONCE + 1, -1, -1)]

    made = {key_id: made_with(ledger, asked, key_id) for key_id in ("ada", "ben", "eve")}

    assert made == {"ada": {"msgbatch_0", "msgbatch_2"}, "ben": {"msgbatch_1"}, "eve": set()}
    assert made_with(ledger, [], "ada") == set()


def test_of_two_batches_under_one_id_of_the_provider_the_first_has_the_results(ledger: Ledger) -> None:
    sent_items(ledger)
    ledger.write([decided("c4", batch_id="later", custom_id="item-c1")])
    ledger.write([Batched(entry_id="later", at_us=12, batch_id="msgbatch_1")])

    assert open_items(ledger, "msgbatch_1", ["item-c1"])["item-c1"].call_id == "c1"
    ledger.write([posted("c1", batch_id="msgbatch_1")])
    assert open_items(ledger, "msgbatch_1", ["item-c1"]) == {}


def test_of_two_endings_of_an_item_the_first_counts(ledger: Ledger) -> None:
    sent_items(ledger)
    ledger.write([posted("c1", batch_id="msgbatch_1", cost_nanos=40)])
    ledger.write([posted("c1", batch_id="msgbatch_1", cost_nanos=41)])

    assert [row["cost_nanos"] for row in ledger.rows("SELECT * FROM calls WHERE call_id = 'c1'")] == [40]
    assert balances(ledger)["a"].posted_nanos == 40
    assert not [finding for finding in verify(ledger) if finding.breaches]


def test_a_call_names_its_batch_as_the_provider_does_once_that_is_known(ledger: Ledger) -> None:
    sent_items(ledger)

    rows = ledger.rows("SELECT call_id, batch_id FROM calls ORDER BY call_id")
    assert [row["batch_id"] for row in rows] == ["msgbatch_1", "msgbatch_1", "other"]


def test_items_that_the_provider_took_are_kept_longer_than_other_calls(ledger: Ledger) -> None:
    sent_items(ledger)

    assert [each.call_id for each in overdue(ledger, 11, items_before_us=10)] == ["c3"]
    assert [each.call_id for each in overdue(ledger, 11, items_before_us=11)] == ["c1", "c2", "c3"]
