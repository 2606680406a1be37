"""Reconciling: causes by a table of small cases; settlement by its laws."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from support.policies import book
from tierwise.core.charges import SEARCHES, Charge, KeptCall, OurCalls, apportion
from tierwise.core.ledger import Settled
from tierwise.core.reconciling import REPORTED_AFTER, Line, reconcile
from tierwise.usage import Usage

PRICES: Final = book().prices
DAY: Final = date(2026, 11, 20)
NEXT_DAY: Final = DAY + timedelta(days=1)
MODEL: Final = "claude-haiku-5-5"
USAGE: Final = Usage(input_tokens=1000, output_tokens=200)
COST: Final = 200_000
"""Of `USAGE` at `MODEL`: 1,000 tokens at 100 nanodollars, 200 at 500."""


def us(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000


LATER: Final = us(datetime(2026, 11, 25, tzinfo=UTC))


def calls(**changes: Any) -> OurCalls:
    values: dict[str, Any] = {
        "day": DAY,
        "key": "k1",
        "model": MODEL,
        "calls": 1,
        "cost_nanos": COST,
        "assumed_nanos": 0,
        "usage": USAGE,
        "counted": not changes.get("kept"),
    }
    return OurCalls(**(values | changes))


def charge(**changes: Any) -> Charge:
    values: dict[str, Any] = {
        "day": DAY,
        "key": "apikey_1",
        "model": MODEL,
        "usage": USAGE,
        "cost_nanos": COST,
    }
    return Charge(**(values | changes))


def kept(call_id: str = "c1", *, at_least: int = 0, reserved: int | None = 50_000) -> KeptCall:
    return KeptCall(call_id=call_id, at_least_nanos=at_least, reserved_nanos=reserved)


def lines(ours: list[OurCalls], theirs: list[Charge], **changes: Any) -> tuple[Line, ...]:
    values: dict[str, Any] = {"prices": PRICES, "keys": {}, "now_us": LATER}
    return reconcile(ours, theirs, **(values | changes))


def line(ours: OurCalls | None, theirs: Charge | None, **changes: Any) -> Line:
    (found,) = lines([ours] if ours else [], [theirs] if theirs else [], **changes)
    return found


MORE: Final = Usage(input_tokens=2000, output_tokens=400)
FEWER: Final = Usage(input_tokens=1, output_tokens=1)
MIXED: Final = Usage(input_tokens=2000, output_tokens=1)


@pytest.mark.parametrize(
    ("ours", "theirs", "cause", "explained"),
    [
        pytest.param(calls(), charge(), "agrees", True, id="the same"),
        pytest.param(calls(), charge(usage=None), "agrees", True, id="the same money, no tokens told"),
        pytest.param(calls(), charge(cost_nanos=None), "agrees", True, id="the same tokens, no money told"),
        pytest.param(calls(), charge(cost_nanos=COST + 1), "agrees", True, id="rounded once a call"),
        pytest.param(calls(), charge(cost_nanos=COST - 2), "price", True, id="beyond rounding"),
        pytest.param(
            calls(), charge(cost_nanos=COST + 9, rounding_nanos=8), "agrees", True, id="the report's rounding"
        ),
        pytest.param(
            calls(cost_nanos=0, usage=Usage()), None, "agrees", True, id="nothing was billed, nothing is told"
        ),
        pytest.param(calls(counted=False), charge(usage=MORE), "agrees", True, id="tokens of a settled call"),
        pytest.param(calls(), None, "missing", False, id="the report has no line"),
        pytest.param(calls(kept=(kept(),)), None, "missing", False, id="no line for a call of unknown cost"),
        pytest.param(None, charge(), "outside", True, id="we never saw the model"),
        pytest.param(None, charge(batch=True), "outside", True, id="a batch"),
        pytest.param(
            None, charge(model=None, usage=None, bucket="code_execution"), "outside", True, id="a container"
        ),
        pytest.param(
            calls(), charge(usage=MORE, cost_nanos=2 * COST), "outside", True, id="more tokens, at our price"
        ),
        pytest.param(
            calls(), charge(usage=MORE, cost_nanos=None), "outside", True, id="more tokens, no money told"
        ),
        pytest.param(
            calls(),
            charge(usage=MORE, cost_nanos=5 * COST),
            "unexplained",
            False,
            id="more, at another price",
        ),
        pytest.param(
            calls(kept=(kept(),)), charge(usage=MORE, cost_nanos=COST + 9), "kept", True, id="within the room"
        ),
        pytest.param(
            calls(kept=(kept(reserved=None),)),
            charge(usage=MORE, cost_nanos=COST + 9),
            "kept",
            True,
            id="nothing set aside",
        ),
        pytest.param(
            calls(kept=(kept(),)), charge(usage=MORE, cost_nanos=None), "kept", True, id="kept, no money told"
        ),
        pytest.param(
            calls(kept=(kept(),)),
            charge(usage=MORE, cost_nanos=COST + 50_001),
            "unexplained",
            False,
            id="above the worst",
        ),
        pytest.param(
            calls(kept=(kept(at_least=500),)),
            charge(usage=MORE, cost_nanos=COST + 499),
            "unexplained",
            False,
            id="below the least",
        ),
        pytest.param(
            calls(kept=(kept(),)),
            charge(cost_nanos=COST + 9),
            "price",
            True,
            id="kept, and no token is lacking",
        ),
        pytest.param(
            calls(kept=(kept(),)),
            charge(usage=MIXED, cost_nanos=COST + 9),
            "unexplained",
            False,
            id="kept, and tokens here and there",
        ),
        pytest.param(
            calls(assumed_nanos=1_000, counted=False),
            charge(cost_nanos=COST - 900),
            "missing",
            True,
            id="assumed too much",
        ),
        pytest.param(
            calls(assumed_nanos=1_000, counted=False),
            charge(usage=None, cost_nanos=COST - 1_001),
            "missing",
            False,
            id="more than was assumed",
        ),
        pytest.param(
            calls(), charge(usage=FEWER, cost_nanos=COST // 2), "missing", False, id="ours is above theirs"
        ),
        pytest.param(
            calls(), charge(usage=FEWER, cost_nanos=None), "missing", False, id="our tokens are above theirs"
        ),
        pytest.param(
            calls(model="claude-new-9", kept=(kept(reserved=None),)),
            charge(model="claude-new-9", usage=MORE),
            "agrees",
            True,
            id="unpriced, and free",
        ),
        pytest.param(
            calls(model="claude-new-9", cost_nanos=0, kept=(kept(reserved=None),)),
            charge(model="claude-new-9"),
            "unpriced",
            True,
            id="the book lacks the model",
        ),
        pytest.param(
            calls(), charge(usage=MIXED, cost_nanos=None), "unexplained", False, id="tokens here and there"
        ),
        pytest.param(calls(), charge(usage=FEWER), "unexplained", False, id="the same money, other tokens"),
    ],
)
def test_the_first_cause_that_holds_is_a_groups(
    ours: OurCalls | None, theirs: Charge | None, cause: str, explained: bool
) -> None:
    found = line(ours, theirs)

    assert (found.cause, found.explained) == (cause, explained), found.sentence


def test_opposite_differences_of_neighbouring_days_are_calls_around_midnight() -> None:
    found = lines(
        [calls(), calls(day=NEXT_DAY)],
        [
            charge(usage=None, cost_nanos=COST - 700),
            charge(day=NEXT_DAY, usage=None, cost_nanos=COST + 700),
        ],
    )

    assert [each.cause for each in found] == ["boundary", "boundary"]
    assert "2026-11-21 has the opposite difference" in found[0].sentence


def test_days_with_a_day_between_them_are_no_neighbours() -> None:
    far = DAY + timedelta(days=2)
    found = lines(
        [calls(), calls(day=far)],
        [charge(usage=None, cost_nanos=COST - 700), charge(day=far, usage=None, cost_nanos=COST + 700)],
    )

    assert [each.cause for each in found] == ["missing", "unexplained"]


def test_what_midnight_explains_is_not_settled_on_calls_of_unknown_cost() -> None:
    found = lines(
        [calls(kept=(kept(),)), calls(day=NEXT_DAY)],
        [
            charge(usage=None, cost_nanos=COST + 700),
            charge(day=NEXT_DAY, usage=None, cost_nanos=COST - 700),
        ],
    )

    assert [(each.cause, each.settled) for each in found] == [("boundary", ()), ("boundary", ())]


def test_another_price_is_told_by_bucket_with_both_unit_prices() -> None:
    found = lines(
        [calls()],
        [
            charge(cost_nanos=None),
            charge(usage=None, cost_nanos=100_000, bucket="input_tokens"),
            charge(usage=None, cost_nanos=120_000, bucket="output_tokens"),
        ],
    )

    assert found[0].cause == "price"
    assert "output_tokens $0.6000 a million there, $0.5000 here" in found[0].sentence
    assert "input_tokens" not in found[0].sentence
    assert MODEL in found[0].sentence


def test_tokens_that_nobody_has_are_priced_one_by_one_however_many_they_are() -> None:
    usage = Usage(input_tokens=1_000_000)
    found = line(
        calls(usage=Usage(), cost_nanos=0), charge(usage=usage, cost_nanos=1_000_000 * 100), now_us=LATER
    )

    assert found.cause == "outside"


def test_another_price_is_told_on_average_where_the_report_has_no_buckets() -> None:
    found = line(calls(), charge(cost_nanos=2 * COST))

    assert "on average $0.3333 a million there, $0.1667 here" in found.sentence


def test_all_keys_are_one_group_without_a_mapping() -> None:
    found = line(replace(calls(), key="k2"), charge())

    assert (found.group.key, found.cause) == (None, "agrees")


def test_calls_of_two_keys_add_up_in_one_group_without_a_mapping() -> None:
    both = lines([calls(), calls(key="k2", calls=2)], [charge(usage=MORE, cost_nanos=2 * COST)])

    (found,) = both
    assert found.ours is not None
    assert (found.ours.calls, found.cause) == (3, "agrees")


def test_mapped_keys_are_compared_apart_and_the_others_stand_alone() -> None:
    found = lines(
        [calls(), calls(key="k2"), calls(key=None)],
        [charge(), charge(key="apikey_2"), charge(key="console")],
        keys={"apikey_1": "k1", "console": "k1"},
    )

    assert [(each.group.key, each.cause, each.difference_nanos) for each in found] == [
        (None, "missing", None),
        ("apikey_2", "outside", COST),
        ("k1", "outside", COST),
        ("k2", "missing", None),
    ]


def test_a_snapshot_is_its_model() -> None:
    found = line(calls(model="claude-haiku-4-5-20251001"), charge(model="claude-haiku-4-5"))

    assert (found.group.model, found.cause) == ("claude-haiku-4-5", "agrees")


def test_searches_that_the_report_charges_to_no_model_are_shared_by_how_many_each_had() -> None:
    searched = {"claude-opus-5-5": 3, MODEL: 1}
    found = lines(
        [
            calls(model=model, cost_nanos=COST + count * 10_000_000, usage=Usage(web_search_requests=count))
            for model, count in searched.items()
        ],
        [
            *(charge(model=model, usage=None) for model in searched),
            charge(model=None, usage=None, cost_nanos=40_000_000, bucket=SEARCHES),
        ],
    )

    assert [each.cause for each in found] == ["agrees", "agrees"]


def test_searches_of_nobody_stay_a_line_of_no_model() -> None:
    found = line(None, charge(model=None, usage=None, bucket=SEARCHES))

    assert (found.group.model, found.cause) == (None, "outside")


def test_one_call_takes_the_whole_remainder() -> None:
    found = line(calls(kept=(kept(at_least=100),)), charge(usage=None, cost_nanos=COST + 12_345))

    assert found.settled == (
        Settled(
            call_id="c1",
            at_us=LATER,
            cost_nanos=12_345,
            basis="reconciled",
            note="the provider's report of 2026-11-20 for claude-haiku-5-5",
        ),
    )


def test_several_calls_share_it_in_proportion_to_their_room_and_say_so() -> None:
    found = line(
        calls(kept=(kept("c1", at_least=10, reserved=110), kept("c2", at_least=0, reserved=300))),
        charge(usage=None, cost_nanos=COST + 10 + 201),
    )

    assert [entry.cost_nanos for entry in found.settled] == [10 + 50, 151]
    assert found.settled[0].note.endswith(", shared over 2 calls")


def test_no_remainder_voids_them() -> None:
    found = line(calls(kept=(kept("c1"), kept("c2"))), charge(usage=None))

    assert [entry.cost_nanos for entry in found.settled] == [0, 0]


@pytest.mark.parametrize(
    ("after", "complete_until", "settles"),
    [
        (REPORTED_AFTER, None, True),
        (REPORTED_AFTER - timedelta(seconds=1), None, False),
        (timedelta(days=9), datetime(2026, 11, 21, tzinfo=UTC), True),
        (timedelta(days=9), datetime(2026, 11, 20, 23, 59, tzinfo=UTC), False),
    ],
)
def test_a_day_is_settled_once_it_is_over_for_two_hours_and_the_report_is_complete(
    after: timedelta, complete_until: datetime | None, settles: bool
) -> None:
    found = line(
        calls(kept=(kept(),)),
        charge(usage=None, cost_nanos=COST + 5),
        now_us=us(datetime(2026, 11, 21, tzinfo=UTC) + after),
        complete_until_us=None if complete_until is None else us(complete_until),
    )

    assert (found.cause, found.final, bool(found.settled)) == ("kept", settles, settles)


def test_nothing_is_settled_where_a_call_had_no_money_set_aside() -> None:
    found = line(calls(kept=(kept("c1"), kept("c2", reserved=None))), charge(usage=None, cost_nanos=COST + 5))

    assert (found.cause, found.settled) == ("kept", ())


def test_a_call_that_was_counted_beyond_its_reservation_can_be_settled_at_that() -> None:
    found = line(
        calls(kept=(kept(at_least=60_000, reserved=50_000),)), charge(usage=None, cost_nanos=COST + 60_000)
    )

    assert [entry.cost_nanos for entry in found.settled] == [60_000]


AMOUNTS: Final = st.integers(0, 10**12)
ROOMS: Final = st.lists(st.tuples(AMOUNTS, AMOUNTS), min_size=1, max_size=8)


@given(rooms=ROOMS, share=st.fractions(0, 1), known=AMOUNTS)
@settings(max_examples=60)
def test_what_is_settled_is_the_remainder_exactly_within_every_calls_bounds_and_makes_the_group_agree(
    rooms: list[tuple[int, int]], share: Any, known: int
) -> None:
    those = tuple(
        kept(f"c{place}", at_least=least, reserved=least + room) for place, (least, room) in enumerate(rooms)
    )
    least = sum(low for low, _ in rooms)
    remainder = least + int(share * sum(room for _, room in rooms))
    theirs = charge(usage=None, cost_nanos=known + remainder)
    found = line(calls(cost_nanos=known, kept=those, calls=len(those)), theirs)

    amounts = [entry.cost_nanos for entry in found.settled]
    assert sum(amounts) == remainder
    assert all(low <= amount <= low + room for amount, (low, room) in zip(amounts, rooms, strict=True))
    assert [entry.call_id for entry in found.settled] == [call.call_id for call in those]
    again = line(calls(cost_nanos=known + sum(amounts), counted=False), theirs)
    assert (again.cause, again.difference_nanos, again.settled) == ("agrees", 0, ())


@given(rooms=ROOMS, theirs=AMOUNTS, known=AMOUNTS)
@settings(max_examples=60)
def test_what_lies_outside_the_bounds_settles_nothing(
    rooms: list[tuple[int, int]], theirs: int, known: int
) -> None:
    least = sum(low for low, _ in rooms)
    assume(not least <= theirs - known <= least + sum(room for _, room in rooms))
    those = tuple(
        kept(f"c{place}", at_least=low, reserved=low + room) for place, (low, room) in enumerate(rooms)
    )
    found = line(calls(cost_nanos=known, kept=those, calls=len(those)), charge(usage=None, cost_nanos=theirs))

    assert found.settled == ()


@given(total=AMOUNTS, weights=st.lists(AMOUNTS, min_size=1, max_size=8))
@settings(max_examples=60)
def test_shares_add_up_and_stay_within_their_weights(total: int, weights: list[int]) -> None:
    assume(sum(weights) > 0 and total <= sum(weights))

    shares = apportion(total, weights)

    assert sum(shares) == total
    assert all(0 <= share <= weight for share, weight in zip(shares, weights, strict=True))


def test_tokens_of_no_model_have_no_price_of_ours() -> None:
    found = line(None, charge(model=None, usage=MORE, cost_nanos=5 * COST))

    assert found.cause == "outside"


def test_a_neighbouring_day_explains_nothing_where_it_agrees_or_tells_no_money() -> None:
    more = charge(usage=MORE, cost_nanos=5 * COST)
    agrees = lines([calls(), calls(day=NEXT_DAY)], [more, charge(day=NEXT_DAY)])
    no_money = lines(
        [calls(), calls(day=NEXT_DAY)], [more, charge(day=NEXT_DAY, usage=MORE, cost_nanos=None)]
    )
    differs_too = lines([calls(), calls(day=NEXT_DAY)], [more, replace(more, day=NEXT_DAY)])

    assert [found[0].cause for found in (agrees, no_money, differs_too)] == ["unexplained"] * 3


def test_another_price_of_searches_alone_is_told_in_whole_amounts() -> None:
    searches = Usage(web_search_requests=3)
    found = line(calls(usage=searches), charge(usage=searches, cost_nanos=5 * COST))

    assert found.cause == "price"
    assert "there" in found.sentence
    assert "a million" not in found.sentence
