from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Context, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierwise.errors import MoneyError
from tierwise.money import ATTOS_PER_NANO, format_usd, round_half_even, round_up, usd

WIDE = Context(prec=100)


@pytest.mark.parametrize(
    ("amount", "nanos"),
    [
        ("0", 0),
        ("0.000000001", 1),
        ("25.00", 25_000_000_000),
        ("-1.5", -1_500_000_000),
        (3, 3_000_000_000),
        (Decimal("0.10"), 100_000_000),
        ("1e-9", 1),
        ("123456789012345678901234567890.000000001", 123456789012345678901234567890000000001),
    ],
)
def test_dollars_become_nanodollars_exactly(amount: str | int | Decimal, nanos: int) -> None:
    assert usd(amount) == nanos


@pytest.mark.parametrize(
    "amount",
    [
        "0.0000000001",
        "1.0000000005",
        "1e-30",
        "1e-1000000",
        "0." + "1" * 60,
        "12345678901234567890.12345678901234567890",
    ],
)
def test_an_amount_finer_than_a_nanodollar_is_not_rounded_but_refused(amount: str) -> None:
    with pytest.raises(MoneyError) as refused:
        usd(amount)

    assert str(refused.value) == f"{amount!r} is finer than a nanodollar"


@pytest.mark.parametrize(
    "amount", ["", "ten", "NaN", "sNaN", "Infinity", "-inf", "1e31", "1e999999", "1e9999999999999999999"]
)
def test_what_is_no_number_or_out_of_all_bounds_is_not_money(amount: str) -> None:
    with pytest.raises(MoneyError) as refused:
        usd(amount)

    assert str(refused.value) == f"{amount!r} is not an amount of dollars"


@given(st.integers(-(10**18), 10**18))
def test_an_amount_written_with_nine_places_is_read_back_as_it_was(nanos: int) -> None:
    assert usd(f"{Decimal(nanos).scaleb(-9):f}") == nanos


@given(st.integers(-(10**30), 10**30) | st.integers(-4, 4).map(lambda n: n * ATTOS_PER_NANO // 2))
def test_a_cost_is_rounded_to_the_nearest_nanodollar_and_a_tie_to_the_even_one(attos: int) -> None:
    exact = WIDE.scaleb(Decimal(attos), -9)

    assert round_half_even(attos) == int(exact.to_integral_value(ROUND_HALF_EVEN, WIDE))


@given(st.integers(-(10**30), 10**30))
def test_a_worst_case_is_never_rounded_down(attos: int) -> None:
    exact = WIDE.scaleb(Decimal(attos), -9)

    assert round_up(attos) == int(exact.to_integral_value(ROUND_CEILING, WIDE))


@pytest.mark.parametrize(
    ("nanos", "text"),
    [
        (1_234_560_000_000, "$1,234.56"),
        (0, "$0.00"),
        (10_000_000, "$0.01"),
        (9_870_000, "$0.0099"),
        (350_000, "$0.00035"),
        (1, "$0.000000001"),
        (-1, "-$0.000000001"),
        (-2_500_000_000, "-$2.50"),
    ],
)
def test_an_amount_is_written_so_that_something_never_looks_like_nothing(nanos: int, text: str) -> None:
    assert format_usd(nanos) == text


def test_an_unknown_amount_is_called_unknown() -> None:
    assert format_usd(None) == "unknown"


def test_the_number_of_places_can_be_chosen() -> None:
    assert format_usd(usd("1234.5678"), places=0) == "$1,235"
    assert format_usd(usd("0.4"), places=0) == "$0.40"
    assert format_usd(usd("1.5"), places=4) == "$1.5000"
