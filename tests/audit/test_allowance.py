from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tierwise.audit.allowance import (
    Allowance,
    Day,
    Exhausted,
    Taken,
    Terms,
    next_day,
    open_allowance,
    replay,
    take,
)
from tierwise.money import usd

DAY = usd(100)
STEPS = st.lists(st.tuples(st.sampled_from(["take", "day"]), st.integers(0, usd(60))), max_size=40)


def taken(allowance: Allowance, amount_nanos: int) -> Allowance:
    found = take(allowance, amount_nanos)
    assert isinstance(found, Taken)
    return found.allowance


def test_it_starts_with_a_month_of_two_percent_and_gives_fifteen_percent_of_a_day() -> None:
    allowance = open_allowance(DAY)

    assert allowance.balance_nanos == usd(60)
    assert allowance.available_nanos == usd(15)


def test_a_day_that_is_used_up_refuses_and_says_what_is_left() -> None:
    allowance = taken(open_allowance(DAY), usd(14))

    assert take(allowance, usd(2)) == Exhausted(available_nanos=usd(1))
    assert take(allowance, usd(1)) == Taken(allowance=taken(allowance, usd(1)))


def test_a_new_day_adds_its_share_of_the_day_before() -> None:
    allowance = next_day(taken(open_allowance(DAY), usd(15)), spend_nanos=usd(80))

    assert allowance.balance_nanos == usd("46.6")
    assert allowance.available_nanos == usd(12)


def test_a_full_bucket_does_not_grow_and_does_not_shrink_when_days_get_cheaper() -> None:
    full = open_allowance(DAY)

    assert next_day(full, spend_nanos=DAY).balance_nanos == usd(60)
    assert next_day(full, spend_nanos=usd(10)).balance_nanos == usd(60)


def test_once_the_credit_is_gone_a_day_gives_its_share() -> None:
    allowance = replace(open_allowance(DAY), balance_nanos=0)

    assert next_day(allowance, spend_nanos=DAY).available_nanos == usd(2)


def test_a_part_is_kept_for_types_on_the_cheaper_tier() -> None:
    over, under = open_allowance(DAY).purses_nanos

    assert (over, under) == (usd("12.75"), usd("2.25"))


@given(steps=STEPS, spend=st.integers(0, usd(1000)))
def test_no_order_of_events_takes_more_than_the_credit_and_the_share_of_what_was_spent(
    steps: list[tuple[str, int]], spend: int
) -> None:
    terms = Terms()
    allowance = open_allowance(spend, terms=terms)
    total, filled = 0, allowance.balance_nanos
    for step, amount in steps:
        if step == "day":
            filled += int(amount * terms.share)
            allowance = next_day(allowance, spend_nanos=amount)
            continue
        match take(allowance, amount):
            case Taken(allowance=after):
                allowance, total = after, total + amount
                assert after.taken_today_nanos <= after.daily_spend_nanos * terms.day_share
            case Exhausted(available_nanos=left):
                assert left < amount

    assert total <= filled
    assert allowance.balance_nanos >= 0


def test_the_first_day_is_measured_by_its_own_spend_so_far() -> None:
    found = replay([Day(day=7, spend_nanos=usd("100"), audit_nanos=0)], today=7, terms=Terms())

    assert found.available_nanos == usd("15")


def test_what_the_audit_spent_is_gone_and_a_share_of_each_day_comes_back() -> None:
    days = [
        Day(day=1, spend_nanos=usd("100"), audit_nanos=usd("10")),
        Day(day=2, spend_nanos=usd("100"), audit_nanos=usd("10")),
    ]

    found = replay(days, today=3, terms=Terms())

    assert found.balance_nanos == usd("60") - 2 * usd("10") + 2 * usd("2")
    assert found.available_nanos == usd("15")


def test_a_day_without_calls_costs_nothing_and_today_counts_instead() -> None:
    days = [
        Day(day=1, spend_nanos=usd("100"), audit_nanos=0),
        Day(day=4, spend_nanos=usd("10"), audit_nanos=usd("1")),
    ]

    found = replay(days, today=4, terms=Terms())

    assert found.balance_nanos == usd("60")
    assert found.available_nanos == usd("1.5")


def test_without_any_spend_there_is_no_allowance() -> None:
    assert replay([], today=4, terms=Terms()).available_nanos == 0
