"""Groups: the ledger's calls as they are compared with the provider's report."""

from collections.abc import Sequence
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from support.entries import decided, failed, posted, set_aside, settled
from tierwise.core.charges import KeptCall, OurCalls
from tierwise.core.ledger import Entry
from tierwise.stores.ledger.groups import key_ids, our_calls, pruned_until
from tierwise.stores.ledger.opening import open_ledger, read_ledger
from tierwise.stores.ledger.retention import prune
from tierwise.usage import Usage

DAY: Final = date(2024, 10, 4)
NEXT_DAY: Final = DAY + timedelta(days=1)
DAY_US: Final = 86_400_000_000
FIRST_US: Final = 20_000 * DAY_US
"""The beginning of `DAY`."""
HAIKU: Final = "claude-haiku-5-5"
USAGE: Final = Usage(
    input_tokens=1,
    cache_write_5m_tokens=2,
    cache_write_1h_tokens=3,
    cache_read_tokens=4,
    output_tokens=5,
    web_search_requests=6,
)


@pytest.fixture(params=["sqlite", "postgres"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place for a new ledger."""
    if request.param == "sqlite":
        return str(tmp_path / "ledger.sqlite3")
    return request.getfixturevalue("address")


def groups(
    where: str, entries: Sequence[Entry], *, since: date = DAY, until: date = NEXT_DAY
) -> tuple[OurCalls, ...]:
    with closing(open_ledger(where)) as ledger:
        ledger.write(entries)
    with closing(read_ledger(where)) as reader:
        return our_calls(reader, since=since, until=until)


def a_call(call_id: str, *, at_us: int = FIRST_US, **changes: Any) -> tuple[Entry, ...]:
    values = {"cost_nanos": 1_000, "usage": USAGE, "served_model": HAIKU, **changes}
    return decided(call_id, at_us=at_us, key_id="k1"), posted(call_id, at_us=at_us + 1, **values)


def a_cut_call(call_id: str, *, reserved: int | None = 9_000, **changes: Any) -> tuple[Entry, ...]:
    values = {"cost_nanos": None, "usage": USAGE, "at_least_nanos": 70, "served_model": HAIKU, **changes}
    set_asides = () if reserved is None else (set_aside(call_id, at_us=FIRST_US, reserved_nanos=reserved),)
    return (
        decided(call_id, at_us=FIRST_US, key_id="k1"),
        *set_asides,
        failed(call_id, at_us=FIRST_US + 1, error="stream-broke", **values),
    )


def test_a_group_adds_the_known_costs_and_the_usage_of_its_calls(where: str) -> None:
    (found,) = groups(where, [*a_call("c1"), *a_call("c2", cost_nanos=2_000)])

    assert found == OurCalls(
        day=DAY,
        key="k1",
        model=HAIKU,
        calls=2,
        cost_nanos=3_000,
        assumed_nanos=0,
        usage=Usage(
            input_tokens=2,
            cache_write_5m_tokens=4,
            cache_write_1h_tokens=6,
            cache_read_tokens=8,
            output_tokens=10,
            web_search_requests=12,
        ),
        counted=True,
    )


def test_days_keys_and_models_are_groups_of_their_own_in_order(where: str) -> None:
    entries = [
        *a_call("c1"),
        *a_call("c2", served_model="claude-opus-5-5"),
        *a_call("c3", at_us=FIRST_US + DAY_US),
        decided("c4", at_us=FIRST_US, key_id=None),
        posted("c4", at_us=FIRST_US, served_model=HAIKU),
    ]

    found = groups(where, entries, until=DAY + timedelta(days=2))

    assert [(each.day, each.key, each.model) for each in found] == [
        (DAY, None, HAIKU),
        (DAY, "k1", HAIKU),
        (DAY, "k1", "claude-opus-5-5"),
        (NEXT_DAY, "k1", HAIKU),
    ]


def test_a_call_belongs_to_the_day_on_which_it_ended(where: str) -> None:
    entries = [decided("c1", at_us=FIRST_US - 1), posted("c1", at_us=FIRST_US)]

    assert [each.day for each in groups(where, entries, since=DAY - timedelta(days=1))] == [DAY]


def test_a_call_without_an_ending_belongs_to_the_day_on_which_it_was_read_and_may_cost_its_reservation(
    where: str,
) -> None:
    (found,) = groups(where, [decided("c1", at_us=FIRST_US), set_aside("c1", reserved_nanos=9_000)])

    assert (found.model, found.calls, found.cost_nanos) == (HAIKU, 1, 0)
    assert found.kept == (KeptCall(call_id="c1", at_least_nanos=0, reserved_nanos=9_000),)


def test_calls_of_unknown_cost_are_listed_with_their_bounds_and_add_nothing(where: str) -> None:
    (found,) = groups(
        where, [*a_call("c1"), *a_cut_call("c3", at_least_nanos=None), *a_cut_call("c2", reserved=None)]
    )

    assert (found.calls, found.cost_nanos, found.usage, found.counted) == (3, 1_000, USAGE, False)
    assert found.kept == (
        KeptCall(call_id="c2", at_least_nanos=70, reserved_nanos=None),
        KeptCall(call_id="c3", at_least_nanos=0, reserved_nanos=9_000),
    )


def test_a_settled_call_adds_its_cost_and_leaves_the_tokens_uncounted(where: str) -> None:
    entries = [
        *a_cut_call("c1"),
        settled("c1", cost_nanos=500),
        *a_cut_call("c2"),
        settled("c2", basis="assumed", cost_nanos=9),
    ]

    (found,) = groups(where, entries)

    assert (found.cost_nanos, found.assumed_nanos, found.kept) == (509, 9, ())
    assert (found.usage, found.counted) == (Usage(), False)


def test_a_call_without_a_reply_is_of_the_model_that_was_asked(where: str) -> None:
    asked = "claude-opus-5-5"
    entries = [
        *(decided(call_id, at_us=FIRST_US, acts=acts) for call_id, acts in (("c1", True), ("c2", False))),
        *(failed(call_id, at_us=FIRST_US, cost_nanos=None) for call_id in ("c1", "c2")),
    ]

    assert [each.model for each in groups(where, entries)] == [HAIKU, asked]


def test_a_call_that_was_never_sent_is_no_call(where: str) -> None:
    refused = decided("c1", at_us=FIRST_US, tier=None, decided_model=None, max_tokens_sent=None)

    assert groups(where, [refused, failed("c1", at_us=FIRST_US)]) == ()


def test_the_keys_are_those_that_calls_came_with(where: str) -> None:
    groups(where, [*a_call("c1"), decided("c2", key_id=None), decided("c3", key_id="a0")])

    with closing(read_ledger(where)) as reader:
        assert key_ids(reader) == ("a0", "k1")


def test_the_days_of_deleted_calls_are_told(where: str) -> None:
    groups(where, [*a_call("c1"), *a_call("c2", at_us=FIRST_US + 3 * DAY_US)])
    with closing(open_ledger(where)) as ledger:
        before = pruned_until(ledger)
        prune(ledger, FIRST_US + 2 * DAY_US)
        after = pruned_until(ledger)

    assert (before, after) == (None, NEXT_DAY)
