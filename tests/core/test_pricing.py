from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierwise.config.prices import shipped_prices
from tierwise.core.pricing import Card, LongPrompt, Price, PriceBook, ServerTool, Terms
from tierwise.errors import PriceDataError
from tierwise.money import round_half_even, usd
from tierwise.usage import Metered, Usage, UsageLine

BOOK = shipped_prices()
TERMS = Terms(
    batch=Decimal("0.5"),
    us_only=Decimal("1.1"),
    server_tools={"web_search": ServerTool(usd=Decimal(10), per=1000, unit="request")},
)
CARD = Card(
    input=Decimal(3),
    output=Decimal(15),
    cache_read=Decimal("0.3"),
    cache_write_5m=Decimal("3.75"),
    cache_write_1h=Decimal(6),
)
PRICE = Price(model="m", card=CARD)
MILLION = 1_000_000


def at(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * MILLION


NOW = at("2026-11-23T12:00:00")


def line(
    model: str,
    usage: Usage | None = None,
    *,
    fast: bool = False,
    us_only: bool = False,
    batch: bool = False,
    **buckets: int,
) -> UsageLine:
    return UsageLine(model=model, usage=usage or Usage(**buckets), fast=fast, us_only=us_only, batch=batch)


def one(
    model: str,
    usage: Usage | None = None,
    *,
    fast: bool = False,
    us_only: bool = False,
    batch: bool = False,
    **buckets: int,
) -> Metered:
    return Metered(lines=(line(model, usage, fast=fast, us_only=us_only, batch=batch, **buckets),))


def book(*prices: Price, terms: Terms = TERMS) -> PriceBook:
    return PriceBook(prices, terms=terms, version="test")


# input, output, 5m write, 1h write, cache read: the price page, 2026-11-23
PRICE_PAGE = [
    ("claude-fable-5-2", "8 40 10 16 0.20"),
    ("claude-mythos-5-2", "8 40 10 16 0.20"),
    ("claude-fable-5-1", "10 50 12.5 20 0.25"),
    ("claude-mythos-5-1", "10 50 12.5 20 0.25"),
    ("claude-fable-5", "10 50 12.5 20 1.00"),
    ("claude-mythos-5", "10 50 12.5 20 1.00"),
    ("claude-opus-5-5", "4 20 5 8 0.20"),
    ("claude-opus-5", "5 25 6.25 10 0.50"),
    ("claude-opus-4-8", "5 25 6.25 10 0.50"),
    ("claude-opus-4-7", "5 25 6.25 10 0.50"),
    ("claude-opus-4-6", "5 25 6.25 10 0.50"),
    ("claude-opus-4-5-20251101", "5 25 6.25 10 0.50"),
    ("claude-sonnet-5-5", "2 10 2.5 4 0.10"),
    ("claude-sonnet-5", "2 10 2.5 4 0.20"),
    ("claude-sonnet-4-6", "3 15 3.75 6 0.30"),
    ("claude-sonnet-4-5-20250929", "3 15 3.75 6 0.30"),
    ("claude-haiku-5-5", "0.10 0.50 0.125 0.20 0.01"),
    ("claude-haiku-4-5-20251001", "1 5 1.25 2 0.10"),
]


@pytest.mark.parametrize(("model", "figures"), PRICE_PAGE)
def test_every_current_model_has_the_prices_of_the_price_page(model: str, figures: str) -> None:
    into, out, write_5m, write_1h, read = (Decimal(figure) for figure in figures.split())

    price = BOOK.price(model, NOW)

    assert price is not None
    assert price.card == Card(
        input=into, output=out, cache_read=read, cache_write_5m=write_5m, cache_write_1h=write_1h
    )


def test_the_book_has_the_models_of_the_price_page_and_no_others() -> None:
    assert set(BOOK.models()) == {BOOK.resolve(model) for model, *_ in PRICE_PAGE}


def test_a_cost_is_the_sum_of_its_buckets() -> None:
    metered = one(
        "claude-opus-5-5",
        input_tokens=1_000,  # at $4: $0.004
        output_tokens=500,  # at $20: $0.010
        cache_read_tokens=20_000,  # at $0.20: $0.004
        cache_write_5m_tokens=2_000,  # at $5: $0.010
        cache_write_1h_tokens=3_000,  # at $8: $0.024
    )

    assert BOOK.cost(metered, NOW) == usd("0.052")


def test_moving_a_warm_conversation_down_can_cost_three_times_what_staying_costs() -> None:
    stay = BOOK.cost(one("claude-opus-5-5", cache_read_tokens=150_000), NOW)
    move = BOOK.cost(one("claude-haiku-5-5", cache_write_5m_tokens=150_000), NOW)

    assert (stay, move) == (usd("0.03"), usd("0.09375"))


@pytest.mark.parametrize(
    ("bucket", "per_million"),
    [
        ("input_tokens", "8"),
        ("output_tokens", "40"),
        ("cache_read_tokens", "0.40"),
        ("cache_write_5m_tokens", "10"),
        ("cache_write_1h_tokens", "16"),
    ],
)
def test_fast_mode_has_its_own_card_with_the_cache_multipliers_on_top(bucket: str, per_million: str) -> None:
    metered = one("claude-opus-5-5", Usage(**{bucket: MILLION}), fast=True)

    assert BOOK.cost(metered, NOW) == usd(per_million)


def test_a_fast_reply_of_a_model_without_fast_mode_has_no_price() -> None:
    assert BOOK.cost(one("claude-opus-4-7", fast=True, input_tokens=1), NOW) is None


def test_opus_4_6_bills_fast_requests_as_standard_since_fast_mode_left_it() -> None:
    metered = one("claude-opus-4-6", fast=True, input_tokens=MILLION)

    assert BOOK.cost(metered, at("2026-06-28T23:59:59")) is None
    assert BOOK.cost(metered, at("2026-06-29T00:00:00")) == usd("5")


def test_fast_mode_in_a_batch_has_no_price_because_it_is_not_offered() -> None:
    assert BOOK.cost(one("claude-opus-5-5", fast=True, batch=True, input_tokens=1), NOW) is None


def test_us_only_inference_adds_a_tenth_to_every_token_bucket() -> None:
    metered = one(
        "claude-opus-5-5",
        us_only=True,
        input_tokens=1_000,
        output_tokens=500,
        cache_read_tokens=20_000,
        cache_write_5m_tokens=2_000,
        cache_write_1h_tokens=3_000,
    )

    assert BOOK.cost(metered, NOW) == usd("0.0572")


def test_us_only_inference_does_not_change_the_price_of_models_before_4_6() -> None:
    for model in ("claude-haiku-4-5", "claude-sonnet-4-5", "claude-opus-4-5"):
        everywhere = BOOK.cost(one(model, input_tokens=MILLION), NOW)

        assert BOOK.cost(one(model, us_only=True, input_tokens=MILLION), NOW) == everywhere


def test_a_batch_halves_every_token_bucket_and_no_search() -> None:
    metered = one(
        "claude-opus-5-5",
        batch=True,
        input_tokens=1_000,
        output_tokens=500,
        cache_read_tokens=20_000,
        cache_write_5m_tokens=2_000,
        cache_write_1h_tokens=3_000,
        web_search_requests=3,
    )

    assert BOOK.cost(metered, NOW) == usd("0.026") + usd("0.03")


def test_multipliers_multiply_each_other() -> None:
    metered = one("claude-haiku-5-5", batch=True, us_only=True, output_tokens=MILLION)

    assert BOOK.cost(metered, NOW) == usd("0.275")


def test_a_thousand_searches_cost_ten_dollars_wherever_they_run() -> None:
    metered = one("claude-haiku-5-5", us_only=True, web_search_requests=1_000)

    assert BOOK.cost(metered, NOW) == usd("10")


def test_a_prompt_of_exactly_the_step_is_billed_at_the_standard_card() -> None:
    metered = one("claude-haiku-5-5", input_tokens=100_000, output_tokens=1_000)

    assert BOOK.cost(metered, NOW) == usd("0.0105")


def test_one_token_above_the_step_bills_the_whole_request_at_the_long_card() -> None:
    metered = one("claude-haiku-5-5", input_tokens=100_001, output_tokens=1_000)

    assert BOOK.cost(metered, NOW) == usd("0.0525005")


def test_cache_reads_and_writes_count_towards_the_step_and_output_does_not() -> None:
    at_step = Usage(
        input_tokens=25_000,
        cache_read_tokens=25_000,
        cache_write_5m_tokens=25_000,
        cache_write_1h_tokens=25_000,
        output_tokens=900_000,
    )
    above_step = replace(at_step, cache_read_tokens=25_001)

    standard = BOOK.breakdown(one("claude-haiku-5-5", at_step), NOW)
    long = BOOK.breakdown(one("claude-haiku-5-5", above_step), NOW)

    assert {item.card for item in standard} == {"standard"}
    assert {item.card for item in long} == {"long_prompt"}


def test_each_line_is_measured_against_the_step_by_itself() -> None:
    turn = line("claude-haiku-5-5", input_tokens=60_000)

    assert BOOK.cost(Metered(lines=(turn, turn)), NOW) == usd("0.012")


def test_the_fast_card_holds_whatever_the_length_of_the_prompt() -> None:
    fast = replace(CARD, input=Decimal(30))
    long = LongPrompt(above_prompt_tokens=10, card=replace(CARD, input=Decimal(6)))
    prices = book(replace(PRICE, fast=fast, long_prompt=long))

    assert prices.cost(one("m", fast=True, input_tokens=MILLION), NOW) == usd("30")


def test_long_prompts_cost_more_on_opus_4_6_until_the_day_that_ended_it() -> None:
    metered = one("claude-opus-4-6", input_tokens=200_001)

    assert BOOK.cost(metered, at("2026-03-12T23:59:59")) == usd("2.00001")
    assert BOOK.cost(metered, at("2026-03-13T00:00:00")) == usd("1.000005")


def test_a_price_holds_from_the_first_microsecond_of_its_day_in_utc() -> None:
    metered = one("claude-sonnet-5-5", cache_read_tokens=MILLION)
    cut = at("2026-10-07T00:00:00")

    assert (BOOK.cost(metered, cut - 1), BOOK.cost(metered, cut)) == (usd("0.20"), usd("0.10"))


def test_a_model_priced_from_a_day_on_has_no_price_before_it() -> None:
    prices = book(replace(PRICE, effective_from=date(2026, 1, 1)))

    assert prices.price("m", at("2025-12-31T23:59:59")) is None
    assert prices.cost(one("m", input_tokens=1), at("2025-12-31T23:59:59")) is None


def test_the_order_of_the_data_does_not_decide_which_price_holds() -> None:
    cut = replace(PRICE, effective_from=date(2026, 1, 1))
    cut_again = replace(PRICE, effective_from=date(2026, 6, 1))

    assert book(cut_again, PRICE, cut).price("m", NOW) is cut_again


def test_each_line_is_priced_at_the_model_that_served_it() -> None:
    metered = Metered(
        lines=(
            line("claude-haiku-4-5", input_tokens=1_000, output_tokens=1_000),  # $0.001 + $0.005
            line("claude-opus-5-5", input_tokens=1_000, output_tokens=1_000),  # $0.004 + $0.020
        )
    )

    assert BOOK.cost(metered, NOW) == usd("0.030")


def test_one_line_without_a_price_makes_the_whole_cost_unknown() -> None:
    metered = Metered(lines=(line("claude-haiku-4-5", input_tokens=1), line("claude-next", input_tokens=1)))

    assert BOOK.cost(metered, NOW) is None


def test_a_bucket_without_a_price_makes_the_cost_unknown_once_it_is_used() -> None:
    prices = book(replace(PRICE, card=Card(input=Decimal(3), output=Decimal(15))))

    assert prices.cost(one("m", input_tokens=MILLION), NOW) == usd("3")
    assert prices.cost(one("m", input_tokens=MILLION, cache_read_tokens=1), NOW) is None


def test_searches_without_a_price_make_the_cost_unknown() -> None:
    prices = book(PRICE, terms=replace(TERMS, server_tools={}))

    assert prices.cost(one("m", web_search_requests=1), NOW) is None


def test_a_snapshot_has_the_prices_of_its_model() -> None:
    assert BOOK.price("claude-haiku-4-5-20251001", NOW) is BOOK.price("claude-haiku-4-5", NOW)
    assert BOOK.resolve("claude-haiku-4-5-20251001") == "claude-haiku-4-5"


def test_a_snapshot_with_prices_of_its_own_keeps_them() -> None:
    snapshot = replace(PRICE, model="m-20260101")

    prices = book(PRICE, snapshot)

    assert prices.price("m-20260101", NOW) is snapshot
    assert prices.resolve("m-20260101") == "m-20260101"


@pytest.mark.parametrize(
    "model", ["claude-next", "", "-20251001", "claude-haiku-4-5-2025", "claude-haiku-4-5@20251001"]
)
def test_a_name_that_is_not_an_id_and_a_date_is_unknown(model: str) -> None:
    assert BOOK.resolve(model) is None
    assert BOOK.price(model, NOW) is None
    assert BOOK.cost(one(model), NOW) is None


def test_overrides_win_from_their_first_day_on() -> None:
    later = replace(PRICE, effective_from=date(2026, 6, 1))
    mine = replace(PRICE, effective_from=date(2026, 3, 1), source="mine")
    other = replace(PRICE, model="other")

    prices = book(PRICE, later, other).with_overrides([mine], version="mine")

    assert prices.price("m", at("2026-02-28T23:59:59")) is PRICE
    assert prices.price("m", NOW) is mine
    assert prices.price("other", NOW) is other
    assert prices.version == "mine"


def test_overrides_without_a_day_replace_all_of_a_model() -> None:
    later = replace(PRICE, effective_from=date(2026, 6, 1))
    mine = replace(PRICE, source="mine")
    mine_later = replace(PRICE, effective_from=date(2026, 7, 1), source="mine")

    prices = book(PRICE, later).with_overrides([mine_later, mine], version="mine")

    assert set(prices.prices) == {mine, mine_later}


def test_the_breakdown_says_what_each_bucket_costs() -> None:
    metered = Metered(
        lines=(
            line("claude-haiku-4-5", us_only=False, output_tokens=3, web_search_requests=2),
            line("claude-next", input_tokens=7),
        )
    )

    items = BOOK.breakdown(metered, NOW)

    assert [(item.model, item.card, item.bucket, item.quantity, item.attos) for item in items] == [
        ("claude-haiku-4-5", "standard", "output_tokens", 3, 15 * 10**12),
        ("claude-haiku-4-5", "standard", "web_search_requests", 2, 2 * 10**16),
        ("claude-next", None, "input_tokens", 7, None),
    ]


def test_the_breakdown_marks_the_bucket_that_has_no_price() -> None:
    prices = book(replace(PRICE, card=Card(input=Decimal(3), output=Decimal(15))))

    items = prices.breakdown(one("m", input_tokens=1, cache_read_tokens=1), NOW)

    assert [(item.bucket, item.attos) for item in items] == [
        ("input_tokens", 3 * 10**12),
        ("cache_read_tokens", None),
    ]


def test_a_cost_is_rounded_once_and_not_bucket_by_bucket() -> None:
    prices = book(replace(PRICE, card=replace(CARD, input=Decimal("0.0004"), output=Decimal("0.0004"))))

    assert prices.cost(one("m", input_tokens=1), NOW) == 0
    assert prices.cost(one("m", input_tokens=1, output_tokens=1), NOW) == 1


def test_half_a_nanodollar_is_rounded_to_the_even_one() -> None:
    prices = book(replace(PRICE, card=replace(CARD, input=Decimal("0.0005"))))

    assert [prices.cost(one("m", input_tokens=n), NOW) for n in (1, 3, 5)] == [0, 2, 2]


def test_a_reply_that_consumed_nothing_costs_nothing() -> None:
    assert BOOK.cost(Metered(lines=()), NOW) == 0


@pytest.mark.parametrize(
    ("amount", "why"),
    [
        ("-1", "-1 is not a price"),
        ("NaN", "NaN is not a price"),
        ("Infinity", "Infinity is not a price"),
        ("0.0000000000001", "finer than an attodollar"),
        ("1." + "1" * 70, "too many digits"),
    ],
)
def test_an_amount_that_cannot_be_priced_exactly_is_refused_with_its_model(amount: str, why: str) -> None:
    price = replace(PRICE, card=replace(CARD, output=Decimal(amount)), effective_from=date(2026, 1, 1))

    with pytest.raises(PriceDataError) as refused:
        book(price)

    assert refused.value.where == "m from 2026-01-01"
    assert why in refused.value.why


def test_a_search_price_that_does_not_divide_is_refused() -> None:
    thirds = {"web_search": ServerTool(usd=Decimal(1), per=3, unit="request")}

    with pytest.raises(PriceDataError, match="web_search"):
        book(PRICE, terms=replace(TERMS, server_tools=thirds))


def test_two_prices_of_a_model_from_one_day_are_refused() -> None:
    with pytest.raises(PriceDataError, match="m: is there twice"):
        book(PRICE, replace(PRICE, source="again"))


TOKENS = st.integers(0, 2_000_000)
USAGES = st.builds(
    Usage,
    input_tokens=TOKENS,
    cache_write_5m_tokens=TOKENS,
    cache_write_1h_tokens=TOKENS,
    cache_read_tokens=TOKENS,
    output_tokens=TOKENS,
    web_search_requests=st.integers(0, 50),
)
INSTANTS = st.integers(at("2025-10-01"), at("2027-01-01"))
LINES = st.builds(
    UsageLine,
    model=st.sampled_from(BOOK.models()),
    usage=USAGES,
    us_only=st.booleans(),
    batch=st.booleans(),
)
FIELDS = st.sampled_from(
    [
        "input_tokens",
        "cache_write_5m_tokens",
        "cache_write_1h_tokens",
        "cache_read_tokens",
        "output_tokens",
        "web_search_requests",
    ]
)


@given(st.lists(LINES, max_size=4), INSTANTS)
def test_a_cost_is_the_exact_sum_of_its_breakdown_rounded_once(lines: list[UsageLine], at_us: int) -> None:
    metered = Metered(lines=tuple(lines))

    items = BOOK.breakdown(metered, at_us)

    parts = [item.attos for item in items if item.attos is not None]
    assert len(parts) == len(items)
    assert BOOK.exact_cost(metered, at_us) == sum(parts)
    assert BOOK.cost(metered, at_us) == round_half_even(sum(parts))


@given(LINES, FIELDS, st.integers(1, 1_000), INSTANTS)
def test_more_of_any_bucket_never_costs_less(served: UsageLine, field: str, more: int, at_us: int) -> None:
    bigger = replace(served, usage=replace(served.usage, **{field: getattr(served.usage, field) + more}))

    cost = BOOK.exact_cost(Metered(lines=(served,)), at_us)
    bigger_cost = BOOK.exact_cost(Metered(lines=(bigger,)), at_us)

    assert cost is not None
    assert bigger_cost is not None
    assert bigger_cost > cost


@given(LINES, INSTANTS)
def test_a_batch_never_costs_more_and_us_only_never_less(served: UsageLine, at_us: int) -> None:
    plain = replace(served, batch=False, us_only=False)

    costs = [
        BOOK.exact_cost(Metered(lines=(way,)), at_us)
        for way in (replace(plain, batch=True), plain, replace(plain, us_only=True))
    ]

    known = [cost for cost in costs if cost is not None]
    assert len(known) == 3
    assert known == sorted(known)


@given(st.text(max_size=30), USAGES, INSTANTS)
def test_a_model_that_is_not_in_the_book_costs_an_unknown_amount(
    model: str, usage: Usage, at_us: int
) -> None:
    served = UsageLine(model=f"x{model}", usage=usage)

    assert BOOK.cost(Metered(lines=(served,)), at_us) is None
