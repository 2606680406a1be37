from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support.entries import decided, failed, posted, set_aside, settled, topped_up
from tierwise.core.ledger import Batched, Entry
from tierwise.errors import LedgerUnavailable
from tierwise.stores.ledger.reports import DIMENSIONS, Report, report
from tierwise.stores.ledger.reservations import balances, open_reservations
from tierwise.stores.ledger.retention import closed_before, prune
from tierwise.stores.ledger.sqlite import SqliteLedger, open_ledger
from tierwise.stores.ledger.verification import verify

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
OLD_US = 10 * DAY_US
BEFORE_US = 11 * DAY_US


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    with closing(open_ledger(tmp_path / "ledger.sqlite3")) as ledger:
        ledger.write([decided("now", at_us=20 * DAY_US)])
        yield ledger


def whole(call_id: str, *, at_us: int = OLD_US, cost_nanos: int | None = 1_000) -> list[Entry]:
    return [
        decided(call_id, at_us=at_us),
        set_aside(call_id, at_us=at_us + 1),
        posted(call_id, at_us=at_us + 2, cost_nanos=cost_nanos),
    ]


def write(ledger: SqliteLedger, *entries: Entry) -> None:
    """Write entries, and one of another call behind them."""
    ledger.write(entries)
    ledger.write([decided("last", at_us=20 * DAY_US)])


def kept(ledger: SqliteLedger) -> list[str]:
    query = "SELECT DISTINCT call_id FROM entries WHERE call_id NOT IN ('now', 'last') ORDER BY call_id"
    return [row["call_id"] for row in ledger.rows(query)]


CASES: dict[str, tuple[list[Entry], bool]] = {
    "posted": (whole("c1"), False),
    "failed for nothing": ([decided("c1", at_us=1), failed("c1", at_us=2)], False),
    "settled": ([*whole("c1", cost_nanos=None), settled("c1", at_us=OLD_US)], False),
    "lost without a budget": ([decided("c1", at_us=1)], False),
    "of unknown cost": (whole("c1", cost_nanos=None), True),
    "of unknown cost without a budget": (
        [decided("c1", at_us=1), failed("c1", at_us=2, cost_nanos=None)],
        True,
    ),
    "lost with its reservation": (whole("c1")[:2], True),
    "younger": (whole("c1", at_us=BEFORE_US), True),
    "ended later": (whole("c1", at_us=BEFORE_US - 2), True),
    "settled later": ([*whole("c1", cost_nanos=None), settled("c1", at_us=BEFORE_US)], True),
    "a top-up": ([topped_up("c1", at_us=1)], True),
}


@pytest.mark.parametrize(("entries", "stays"), CASES.values(), ids=CASES.keys())
def test_a_call_is_deleted_whole_once_it_is_old_and_nothing_can_be_told_of_it(
    ledger: SqliteLedger, entries: list[Entry], *, stays: bool
) -> None:
    write(ledger, *entries)
    expected = closed_before(ledger, BEFORE_US)

    pruned = prune(ledger, BEFORE_US)

    assert kept(ledger) == (["c1"] if stays else [])
    assert (pruned.calls, pruned.entries) == ((0, 0) if stays else (1, len(entries)))
    assert expected == pruned.calls


@pytest.mark.parametrize(("age_days", "stays"), [(29, True), (30, True), (31, False)])
def test_an_item_without_a_budget_stays_for_as_long_as_its_result_may_come(
    ledger: SqliteLedger, age_days: int, *, stays: bool
) -> None:
    made_us = 100 * DAY_US - age_days * DAY_US + HOUR_US
    batched = Batched(entry_id="b1", at_us=made_us + 1, batch_id="msgbatch_1")
    write(ledger, decided("c1", at_us=made_us, batch_id="b1", custom_id="a"), batched)

    prune(ledger, 100 * DAY_US)

    assert kept(ledger) == (["b1", "c1"] if stays else ["b1"])


def test_an_item_whose_result_came_and_one_whose_batch_was_never_taken_go_as_other_calls(
    ledger: SqliteLedger,
) -> None:
    write(
        ledger,
        decided("c1", at_us=OLD_US, batch_id="b1", custom_id="a"),
        Batched(entry_id="b1", at_us=OLD_US, batch_id="msgbatch_1"),
        posted("c1", at_us=OLD_US, batch_id="msgbatch_1"),
        decided("c2", at_us=OLD_US, batch_id="b2", custom_id="a"),
    )

    prune(ledger, BEFORE_US)

    assert kept(ledger) == ["b1"]


def test_a_time_within_a_day_is_rounded_down_to_its_beginning(ledger: SqliteLedger) -> None:
    write(ledger, *whole("c1", at_us=OLD_US), *whole("c2", at_us=BEFORE_US))

    pruned = prune(ledger, BEFORE_US + DAY_US - 1)

    assert (pruned.before_us, kept(ledger)) == (BEFORE_US, ["c2"])


def reports(ledger: SqliteLedger) -> list[Report]:
    return [report(ledger, by=by) for by in DIMENSIONS]


def test_reports_and_balances_are_the_same_before_and_after_and_the_laws_hold(ledger: SqliteLedger) -> None:
    for number in range(40):
        cost_nanos = number if number % 9 else None
        ledger.write(whole(f"c{number:02}", at_us=number * 7 * HOUR_US, cost_nanos=cost_nanos))
    write(ledger, topped_up(), decided("typo", at_us=5, unknown_type="typo", nearest_type="type"))
    by_day = report(ledger, by="day", since_us=2 * DAY_US, until_us=5 * DAY_US)
    before = reports(ledger), balances(ledger), open_reservations(ledger)

    pruned = prune(ledger, BEFORE_US, batch=3)

    assert (pruned.calls, pruned.entries) == (34, 100)
    assert (reports(ledger), balances(ledger), open_reservations(ledger)) == before
    assert report(ledger, by="day", since_us=2 * DAY_US, until_us=5 * DAY_US) == by_day
    assert not [finding for finding in verify(ledger) if finding.breaches]


def test_totals_of_pruned_days_have_one_row_a_day(ledger: SqliteLedger) -> None:
    write(ledger, *(entry for hour in range(48) for entry in whole(f"c{hour}", at_us=hour * HOUR_US)))

    prune(ledger, BEFORE_US)

    rows = ledger.rows("SELECT hour, calls FROM totals WHERE dimension = 'agent' AND hour < 48 ORDER BY hour")
    assert list(rows) == [{"hour": 0, "calls": 24}, {"hour": 24, "calls": 24}]


def test_what_comes_after_a_prune_is_read_even_where_the_last_call_was_old(ledger: SqliteLedger) -> None:
    ledger.write([*whole("c1"), *whole("c2")])

    prune(ledger, BEFORE_US)
    ledger.write(whole("c3"))
    prune(ledger, BEFORE_US)

    assert report(ledger).total.calls == 4
    assert kept(ledger) == ["c3"]
    assert not [finding for finding in verify(ledger) if finding.breaches]


def test_entries_are_deleted_by_nobody_else(ledger: SqliteLedger) -> None:
    write(ledger, *whole("c1"))
    prune(ledger, BEFORE_US)

    with pytest.raises(LedgerUnavailable, match="never deleted"):
        ledger.run("DELETE FROM entries")


def test_a_gateway_writes_on_between_the_batches(ledger: SqliteLedger) -> None:
    write(ledger, *(entry for number in range(20) for entry in whole(f"c{number}")))

    with closing(open_ledger(ledger.path)) as other:
        prune(other, BEFORE_US, batch=4)
        ledger.write(whole("c99", at_us=BEFORE_US))

    assert kept(ledger) == ["c99"]
    assert report(ledger).total.calls == 23
