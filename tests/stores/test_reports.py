"""Reports: figures by hand on a small ledger."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.entries import decided, failed, posted, settled
from tierwise.core.ledger import Entry
from tierwise.stores.ledger.reports import DIMENSIONS, By, Report, UnknownType, report
from tierwise.stores.ledger.sqlite import SqliteReader, open_ledger, read_ledger
from tierwise.usage import Usage

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
FIRST_US = 20_000 * DAY_US
"""The beginning of 2024-10-04, UTC."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


@contextmanager
def ledger_of(path: Path, entries: Sequence[Entry]) -> Generator[SqliteReader]:
    ledger = open_ledger(path)
    ledger.write(entries)
    ledger.close()
    connection = read_ledger(path)
    try:
        yield connection
    finally:
        connection.close()


def report_of(
    path: Path,
    entries: Sequence[Entry],
    *,
    by: By = "type",
    since_us: int | None = None,
    until_us: int | None = None,
    exact: bool = False,
) -> Report:
    with ledger_of(path, entries) as connection:
        return report(connection, by=by, since_us=since_us, until_us=until_us, exact=exact)


def lines(path: Path, entries: Sequence[Entry], by: By) -> list[tuple[str, int, int]]:
    """Key, calls and known cost of each line, in order."""
    found = report_of(path, entries, by=by)
    return [(line.key, line.totals.calls, line.totals.cost_nanos) for line in found.lines]


SMALL: tuple[Entry, ...] = (
    decided("c1", at_us=FIRST_US, task_type="extraction", agent="reader", run_id="r1", tier="fast"),
    posted("c1", cost_nanos=1_000, at_frontier_nanos=40_000, as_asked_nanos=30_000, as_decided_nanos=1_000),
    decided("c2", at_us=FIRST_US + 1, task_type="synthesis", agent="writer", run_id="r1", tier="frontier"),
    posted(
        "c2",
        served_model="claude-opus-5-5",
        stop_reason="max_tokens",
        cost_nanos=70_000,
        at_frontier_nanos=70_000,
        as_asked_nanos=70_000,
        as_decided_nanos=70_000,
        usage=Usage(input_tokens=10, cache_read_tokens=30, output_tokens=5),
    ),
    decided("c3", at_us=FIRST_US + DAY_US, task_type="extraction", agent=None, run_id="r2", tier="fast"),
    failed("c3", cost_nanos=0),
    decided("c4", at_us=FIRST_US + DAY_US, task_type=None, agent=None, run_id=None, tier=None, acts=False),
    failed("c4", error="caller-left", cost_nanos=None, at_least_nanos=500, served_model="claude-opus-5-5"),
    decided(
        "c5", at_us=FIRST_US + 2 * DAY_US, task_type="synthesis", run_id="r2", tier="frontier", acts=False
    ),
)
"""Five calls: two finished, of which one was cut, one refused for nothing, one left, one still open."""


def test_totals_are_sums_over_what_is_known_and_counts_of_what_is_not(path: Path) -> None:
    total = report_of(path, SMALL).total

    assert (total.calls, total.finished, total.failed, total.open) == (5, 2, 2, 1)
    assert (total.cost_nanos, total.unknown_cost, total.at_least_nanos) == (71_000, 1, 500)
    assert (total.at_frontier_nanos, total.as_asked_nanos, total.as_decided_nanos) == (
        110_000,
        100_000,
        71_000,
    )
    assert (total.input_tokens, total.cache_read_tokens, total.cache_write_tokens) == (110, 70, 23)
    assert total.output_tokens == 55
    assert (total.truncated, total.truncation_waste_nanos) == (1, 70_000)
    assert total.truncated_share == 1 / 2
    assert total.cache_hit_share == 70 / 203


def test_nothing_has_no_shares_and_no_baselines(path: Path) -> None:
    found = report_of(path, [])

    assert found.lines == ()
    assert found.unknown_types == ()
    assert (found.total.calls, found.total.cost_nanos, found.total.unknown_cost) == (0, 0, 0)
    assert (found.total.at_frontier_nanos, found.total.as_asked_nanos, found.total.as_decided_nanos) == (
        None,
        None,
        None,
    )
    assert (found.total.truncated_share, found.total.cache_hit_share) == (None, None)


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("type", [("synthesis", 2, 70_000), ("extraction", 2, 1_000), ("(undeclared)", 1, 0)]),
        ("agent", [("writer", 1, 70_000), ("reader", 2, 1_000), ("(none)", 2, 0)]),
        ("run", [("r1", 2, 71_000), ("(none)", 1, 0), ("r2", 2, 0)]),
        ("model", [("claude-opus-5-5", 2, 70_000), ("claude-haiku-5-5", 1, 1_000), ("(no reply)", 2, 0)]),
        ("tier", [("frontier", 1, 70_000), ("fast", 2, 1_000), ("(as asked)", 1, 0), ("(none)", 1, 0)]),
        ("key", [("k1", 5, 71_000)]),
        ("day", [("2024-10-04", 2, 71_000), ("2024-10-05", 2, 0), ("2024-10-06", 1, 0)]),
    ],
)
def test_a_line_is_what_was_asked_for_dearest_first_and_days_in_order(
    path: Path, by: By, expected: list[tuple[str, int, int]]
) -> None:
    assert lines(path, SMALL, by) == expected


def test_every_dimension_has_a_line_for_every_call(path: Path) -> None:
    with ledger_of(path, SMALL) as connection:
        for by in DIMENSIONS:
            found = report(connection, by=by)
            assert sum(line.totals.calls for line in found.lines) == found.total.calls == 5
            assert sum(line.totals.cost_nanos for line in found.lines) == found.total.cost_nanos
            assert (found.by, found.since_us, found.until_us) == (by, None, None)


def test_days_stay_in_order_when_a_later_one_is_dearer(path: Path) -> None:
    entries = [
        decided("c1", at_us=FIRST_US),
        posted("c1", cost_nanos=1),
        decided("c2", at_us=FIRST_US + DAY_US),
        posted("c2", cost_nanos=2),
    ]

    assert [key for key, _, _ in lines(path, entries, "day")] == ["2024-10-04", "2024-10-05"]


@pytest.mark.parametrize(
    ("since_us", "until_us", "calls"),
    [
        (None, None, 5),
        (FIRST_US, None, 5),
        (FIRST_US + 1, None, 4),
        (None, FIRST_US, 0),
        (None, FIRST_US + 1, 1),
        (FIRST_US + 1, FIRST_US + DAY_US, 1),
        (FIRST_US + 1, FIRST_US + DAY_US + 1, 3),
        (FIRST_US + 3 * DAY_US, None, 0),
        (0, 0, 0),
    ],
)
def test_an_exact_span_counts_from_its_first_microsecond_up_to_its_last_which_is_not_in_it(
    path: Path, since_us: int | None, until_us: int | None, calls: int
) -> None:
    found = report_of(path, SMALL, since_us=since_us, until_us=until_us, exact=True)

    assert found.total.calls == sum(line.totals.calls for line in found.lines) == calls
    assert (found.since_us, found.until_us) == (since_us, until_us)


@pytest.mark.parametrize(
    ("since_us", "until_us", "rounded", "calls"),
    [
        (None, None, (None, None), 5),
        (FIRST_US + HOUR_US - 1, None, (FIRST_US, None), 5),
        (FIRST_US + HOUR_US, None, (FIRST_US + HOUR_US, None), 3),
        (None, FIRST_US + HOUR_US - 1, (None, FIRST_US), 0),
        (None, FIRST_US + HOUR_US, (None, FIRST_US + HOUR_US), 2),
        (FIRST_US, FIRST_US + DAY_US + 5, (FIRST_US, FIRST_US + DAY_US), 2),
        (0, 0, (0, 0), 0),
    ],
)
def test_a_span_has_whole_hours_and_says_which(
    path: Path,
    since_us: int | None,
    until_us: int | None,
    rounded: tuple[int | None, int | None],
    calls: int,
) -> None:
    found = report_of(path, SMALL, since_us=since_us, until_us=until_us)

    assert found.total.calls == sum(line.totals.calls for line in found.lines) == calls
    assert (found.since_us, found.until_us) == rounded


def test_a_span_goes_by_when_a_call_was_read_and_not_by_when_it_ended(path: Path) -> None:
    entries = [decided("c1", at_us=FIRST_US), posted("c1", at_us=FIRST_US + DAY_US, cost_nanos=9)]

    assert report_of(path, entries, until_us=FIRST_US + HOUR_US).total.cost_nanos == 9


def test_a_finished_call_of_unknown_cost_is_finished_and_unknown_and_adds_nothing(path: Path) -> None:
    unpriced = posted(cost_nanos=None, at_frontier_nanos=None, as_asked_nanos=None, as_decided_nanos=None)
    total = report_of(path, [decided(), unpriced]).total

    assert (total.finished, total.unknown_cost, total.cost_nanos) == (1, 1, 0)
    assert (total.at_frontier_nanos, total.as_asked_nanos, total.as_decided_nanos) == (None, None, None)
    assert total.output_tokens == 50


def test_a_call_that_is_open_is_neither_failed_nor_of_unknown_cost(path: Path) -> None:
    total = report_of(path, [decided()]).total

    assert (total.open, total.failed, total.unknown_cost, total.cost_nanos) == (1, 0, 0, 0)


def test_a_lower_bound_counts_only_where_the_cost_is_unknown(path: Path) -> None:
    entries = [
        decided("c1"),
        failed("c1", cost_nanos=None, at_least_nanos=7),
        decided("c2"),
        failed("c2", cost_nanos=None, at_least_nanos=None),
        decided("c3"),
        failed("c3", cost_nanos=0, at_least_nanos=100),
    ]
    total = report_of(path, entries).total

    assert (total.unknown_cost, total.at_least_nanos, total.cost_nanos) == (2, 7, 0)


def test_observed_calls_cost_what_was_asked_and_say_what_was_decided(path: Path) -> None:
    entries = [
        decided("c1", acts=False),
        posted("c1", cost_nanos=40_000, as_asked_nanos=40_000, as_decided_nanos=1_000),
    ]
    found = report_of(path, entries, by="tier")

    assert [line.key for line in found.lines] == ["(as asked)"]
    assert (found.total.cost_nanos, found.total.as_decided_nanos) == (40_000, 1_000)


def test_unknown_types_are_told_most_frequent_first_with_what_was_meant_last(path: Path) -> None:
    entries = [
        decided("c1", at_us=1, task_type="default", unknown_type="extractoin", nearest_type=None),
        decided("c2", at_us=2, task_type="default", unknown_type="extractoin", nearest_type="extraction"),
        decided("c3", at_us=3, task_type="default", unknown_type="zzz", nearest_type=None),
        decided("c4", at_us=4, task_type="default", unknown_type="aaa", nearest_type=None),
        decided("c5", at_us=5),
    ]
    found = report_of(path, entries)

    assert found.unknown_types == (
        UnknownType(name="extractoin", nearest="extraction", calls=2),
        UnknownType(name="aaa", nearest=None, calls=1),
        UnknownType(name="zzz", nearest=None, calls=1),
    )
    assert report_of(path.with_name("span.sqlite3"), entries, since_us=5, exact=True).unknown_types == ()
    assert report_of(path.with_name("hour.sqlite3"), entries, since_us=HOUR_US).unknown_types == ()


def test_a_name_that_looks_like_a_placeholder_or_holds_quotes_is_a_name(path: Path) -> None:
    entries = [decided("c1", agent="a'; DROP TABLE entries; --"), decided("c2", agent="?")]

    assert {key for key, _, _ in lines(path, entries, "agent")} == {"a'; DROP TABLE entries; --", "?"}


def test_sums_beyond_what_a_float_holds_are_exact(path: Path) -> None:
    large = 2**53
    entries = [
        decided("c1"),
        posted("c1", cost_nanos=large),
        decided("c2"),
        posted("c2", cost_nanos=1),
    ]

    assert report_of(path, entries).total.cost_nanos == large + 1


def test_a_call_that_is_settled_later_costs_what_it_was_settled_at(path: Path) -> None:
    entries = [
        decided("c1"),
        posted("c1", cost_nanos=None, stop_reason="max_tokens"),
        settled("c1", cost_nanos=70),
        decided("c2"),
        failed("c2", cost_nanos=None, at_least_nanos=9),
        settled("c2", cost_nanos=0),
        decided("c3"),
        settled("c3", cost_nanos=5),
    ]
    found = report_of(path, entries, by="model")

    assert (found.total.cost_nanos, found.total.unknown_cost, found.total.at_least_nanos) == (75, 0, 0)
    assert (found.total.open, found.total.truncation_waste_nanos) == (1, 70)
    assert lines(path.with_name("again.sqlite3"), entries, "model") == [
        ("claude-haiku-5-5", 1, 70),
        ("(no reply)", 2, 5),
    ]
