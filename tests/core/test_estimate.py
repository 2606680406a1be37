from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.calls import a_call
from tierwise.config.prices import shipped_prices
from tierwise.core.calibration import Calibration, Ratio
from tierwise.core.call import Call
from tierwise.core.catalog import find
from tierwise.core.estimate import CacheWrites, Contents, Estimate, estimate
from tierwise.core.pricing import Card, Price, PriceBook
from tierwise.usage import Metered, Usage, UsageLine

BOOK = shipped_prices()
NOW = 1_795_435_200_000_000  # 2026-11-23
MODEL = "claude-opus-4-7"  # dollars per million: input 5, cache writes 6.25 and 10, output 25; no fast mode
FAST_MODEL = "claude-opus-5-5"  # input 4, output 20; twice that in fast mode
LONG_MODEL = "claude-haiku-5-5"
DOLLAR = 10**18
TOKEN = DOLLAR // 10**6
TEXT = Contents(body_bytes=9_000, attachments=0, open_ended=False, cache_writes="none")


def bound(
    call: Call | None = None,
    contents: Contents = TEXT,
    model: str = MODEL,
    prices: PriceBook = BOOK,
    **known: Any,
) -> Estimate:
    found = estimate(call or a_call(), contents, model=model, prices=prices, at_us=NOW, **known)
    assert found is not None
    return found


def book_of(*prices: Price) -> PriceBook:
    return PriceBook(prices, terms=BOOK.terms, version="test")


def test_a_prompt_has_no_more_tokens_than_its_body_has_bytes_and_a_thousand_that_the_provider_adds() -> None:
    assert bound() == Estimate(fixed_attos=10_000 * 5 * TOKEN, output_attos_each=25 * TOKEN)


SEEN = Calibration(ratios={(MODEL, "ascii"): Ratio(calls=500, most_per_mille=200)})


def test_a_calibrated_text_has_as_many_tokens_as_were_seen_and_half_more() -> None:
    assert bound(calibration=SEEN).fixed_attos == (2_700 + 1_000) * 5 * TOKEN


@pytest.mark.parametrize(
    "contents", [replace(TEXT, attachments=1), replace(TEXT, open_ended=True), replace(TEXT, kind="unicode")]
)
def test_what_is_not_all_text_of_a_known_kind_is_not_calibrated(contents: Contents) -> None:
    assert bound(contents=contents, calibration=SEEN) == bound(contents=contents)


def test_a_count_of_the_provider_is_taken_with_a_fiftieth_and_200_tokens_on_top() -> None:
    assert bound(counted=5_000).fixed_attos == (5_000 + 100 + 200) * 5 * TOKEN


def test_a_count_never_makes_the_bound_larger() -> None:
    assert bound(counted=1_000_000) == bound()


def test_a_count_is_of_the_calls_own_model_and_bounds_no_other() -> None:
    call = a_call(fallbacks=True)

    assert bound(call, counted=1) == bound(call)


def test_each_of_the_providers_own_tools_adds_a_thousand_tokens() -> None:
    call = a_call(tool_types=("bash_20250124", "memory_20250818"))

    assert bound(call).fixed_attos == 12_000 * 5 * TOKEN


def test_an_attachment_adds_eight_thousand_tokens() -> None:
    assert bound(contents=replace(TEXT, attachments=3)).fixed_attos == 34_000 * 5 * TOKEN


def test_a_prompt_fills_no_more_than_the_models_context_window() -> None:
    contents = replace(TEXT, body_bytes=5_000_000)

    assert bound(contents=contents, model="claude-opus-4-5").fixed_attos == 200_000 * 5 * TOKEN


def test_an_open_ended_prompt_is_taken_to_fill_the_context_window() -> None:
    contents = replace(TEXT, open_ended=True)

    assert bound(contents=contents, model="claude-opus-4-5").fixed_attos == 200_000 * 5 * TOKEN


@pytest.mark.parametrize(
    ("body_bytes", "open_ended", "tokens"),
    [
        (9_000, False, 10_000),
        (2_999_000, False, 3_000_000),
        (9_000, True, 1_000_000),
        (2_999_000, True, 3_000_000),
    ],
)
def test_a_model_that_the_catalogue_does_not_know_has_no_window_below_what_the_body_tells(
    body_bytes: int, open_ended: bool, tokens: int
) -> None:
    card = Card(input=Decimal(5), output=Decimal(25))
    contents = replace(TEXT, body_bytes=body_bytes, open_ended=open_ended)

    found = bound(contents=contents, model="mine", prices=book_of(Price(model="mine", card=card)))

    assert found.fixed_attos == tokens * 5 * TOKEN


@pytest.mark.parametrize(("cache_writes", "usd"), [("none", "5"), ("5m", "6.25"), ("1h", "10")])
def test_a_prompt_is_priced_in_the_dearest_bucket_that_its_cache_marks_allow(
    cache_writes: CacheWrites, usd: str
) -> None:
    contents = replace(TEXT, cache_writes=cache_writes)

    assert bound(contents=contents).fixed_attos == 10_000 * int(Decimal(usd) * TOKEN)


def test_a_prompt_above_the_models_step_is_priced_by_the_long_card_with_its_output() -> None:
    price = BOOK.price(LONG_MODEL, NOW)
    assert price is not None
    assert price.long_prompt is not None
    long = price.long_prompt.card
    assert long.input is not None
    assert long.output is not None
    contents = replace(TEXT, body_bytes=price.long_prompt.above_prompt_tokens)

    found = bound(contents=contents, model=LONG_MODEL)

    assert found == Estimate(
        fixed_attos=(price.long_prompt.above_prompt_tokens + 1_000) * int(long.input * TOKEN),
        output_attos_each=int(long.output * TOKEN),
    )


def test_fast_mode_and_us_only_inference_are_priced() -> None:
    call = a_call(speed="fast", inference_geo="us")

    found = bound(call, model=FAST_MODEL)

    assert found == Estimate(fixed_attos=10_000 * 88 * TOKEN // 10, output_attos_each=44 * TOKEN)


def test_a_fast_call_to_a_model_without_fast_mode_is_priced_as_standard() -> None:
    assert bound(a_call(speed="fast")) == bound()


def test_a_fast_call_is_priced_as_standard_where_that_is_dearer() -> None:
    standard, fast = Card(input=Decimal(5), output=Decimal(25)), Card(input=Decimal(4), output=Decimal(30))
    book = book_of(Price(model="mine", card=standard, fast=fast))

    found = bound(a_call(speed="fast"), model="mine", prices=book)

    assert found == Estimate(fixed_attos=10_000 * 5 * TOKEN, output_attos_each=30 * TOKEN)


def test_a_model_without_a_price_has_no_estimate() -> None:
    for speed in (None, "fast"):
        call = a_call(speed=speed)
        assert estimate(call, TEXT, model="claude-unheard-of", prices=BOOK, at_us=NOW) is None


def test_a_model_without_a_price_for_a_bucket_that_the_call_can_use_has_no_estimate() -> None:
    book = book_of(Price(model="mine", card=Card(input=Decimal(5), output=Decimal(25))))

    assert estimate(a_call(), TEXT, model="mine", prices=book, at_us=NOW) is not None
    marked = replace(TEXT, cache_writes="5m")
    assert estimate(a_call(), marked, model="mine", prices=book, at_us=NOW) is None


@pytest.mark.parametrize("fields", [{"tool_types": ("web_search_20260209",)}, {"thread": True}])
def test_a_hundred_searches_are_priced_where_the_provider_may_search(fields: dict[str, Any]) -> None:
    contents = replace(TEXT, open_ended=True)

    assert bound(a_call(**fields), contents).fixed_attos == bound(contents=contents).fixed_attos + DOLLAR


def test_a_body_that_begins_a_thread_is_priced_like_any_other() -> None:
    assert bound(a_call(thread=True, begins_thread=True)) == bound()


def test_compaction_reads_and_writes_everything_once_more() -> None:
    found = bound(a_call(compaction=True))

    assert found == Estimate(fixed_attos=10_000 * 10 * TOKEN, output_attos_each=50 * TOKEN)


@pytest.mark.parametrize("fields", [{"fallbacks": True}, {"tool_types": ("advisor_20260301",)}])
def test_where_another_model_may_take_part_both_readings_are_priced_at_the_dearest_of_the_book(
    fields: dict[str, Any],
) -> None:
    dear = Price(model="dear", card=Card(input=Decimal(7), output=Decimal(70)))
    cheap = Price(model="cheap", card=Card(input=Decimal(1), output=Decimal(10)))
    unpriced = Price(model="unpriced", card=Card(output=Decimal(90)))
    tokens = 11_000 if "tool_types" in fields else 10_000

    found = bound(a_call(**fields), model="cheap", prices=book_of(dear, cheap, unpriced))

    assert found == Estimate(fixed_attos=tokens * 14 * TOKEN, output_attos_each=140 * TOKEN)


def test_a_cost_is_rounded_up() -> None:
    found = Estimate(fixed_attos=1, output_attos_each=10**9)

    assert [found.cost_nanos(cap) for cap in (0, 1)] == [1, 2]


def test_no_cap_is_within_an_amount_that_does_not_pay_for_the_prompt() -> None:
    found = Estimate(fixed_attos=10**9 + 1, output_attos_each=10**9)

    assert [found.most_tokens(nanos) for nanos in (1, 2, 3)] == [None, 0, 1]


def test_free_output_fits_whatever_its_cap() -> None:
    assert Estimate(fixed_attos=0, output_attos_each=0).most_tokens(0) == 2**31 - 1


@given(
    fixed=st.integers(0, 10**20),
    each=st.integers(1, 10**15),
    nanos=st.integers(0, 10**12),
)
def test_the_largest_cap_is_within_the_amount_and_one_token_more_is_not(
    fixed: int, each: int, nanos: int
) -> None:
    found = Estimate(fixed_attos=fixed, output_attos_each=each)

    most = found.most_tokens(nanos)

    if most is None:
        assert found.cost_nanos(0) > nanos
    else:
        assert found.cost_nanos(most) <= nanos < found.cost_nanos(most + 1)


@st.composite
def spendings(draw: st.DrawFn) -> tuple[Call, Contents, str, int, UsageLine]:
    """A call, and a usage that it can come to."""
    model = draw(st.sampled_from(BOOK.models()))
    call = a_call(
        speed=draw(st.sampled_from((None, "fast"))),
        inference_geo=draw(st.sampled_from((None, "us"))),
        tool_types=draw(st.sampled_from(((), ("web_search_20260209",)))),
    )
    contents = Contents(
        body_bytes=draw(st.integers(2, 1_500_000)),
        attachments=draw(st.integers(0, 20)),
        open_ended=draw(st.booleans()),
        cache_writes=draw(st.sampled_from(("none", "5m", "1h"))),
    )
    known = find(model)
    window = known.context_tokens if known else 1_000_000
    told = contents.body_bytes + 8_000 * contents.attachments
    prompt = draw(st.integers(0, window if contents.open_ended else min(told, window)))
    cuts = sorted(draw(st.lists(st.integers(0, prompt), min_size=3, max_size=3)))
    uncached, read, short, long = (to - start for start, to in zip((0, *cuts), (*cuts, prompt), strict=True))
    if contents.cache_writes != "1h":
        short, long = short + long, 0
    if contents.cache_writes == "none":
        uncached, short = uncached + short, 0
    cap = draw(st.integers(0, 128_000))
    usage = Usage(
        input_tokens=uncached,
        cache_read_tokens=read,
        cache_write_5m_tokens=short,
        cache_write_1h_tokens=long,
        output_tokens=draw(st.integers(0, cap)),
        web_search_requests=draw(st.integers(0, 100)) if call.tool_types else 0,
    )
    served_fast = call.speed == "fast" and draw(st.booleans())
    line = UsageLine(model=model, usage=usage, fast=served_fast, us_only=call.inference_geo == "us")
    return call, contents, model, cap, line


@settings(max_examples=300)
@given(spending=spendings())
def test_no_usage_within_the_bounds_costs_more_than_the_estimate(
    spending: tuple[Call, Contents, str, int, UsageLine],
) -> None:
    call, contents, model, cap, line = spending

    cost = BOOK.cost(Metered(lines=(line,)), NOW)

    # None: served fast by a model that has no fast price.
    assert cost is None or cost <= bound(call, contents, model).cost_nanos(cap)


@pytest.mark.parametrize("model", BOOK.models())
@pytest.mark.parametrize("cache_writes", ["none", "5m", "1h"])
def test_every_shipped_model_has_an_estimate_that_its_own_worst_case_reaches(
    model: str, cache_writes: CacheWrites
) -> None:
    bucket = {"none": "input_tokens", "5m": "cache_write_5m_tokens", "1h": "cache_write_1h_tokens"}[
        cache_writes
    ]
    usage = Usage(**{bucket: 10_000}, output_tokens=500)

    cost = BOOK.cost(Metered(lines=(UsageLine(model=model, usage=usage),)), NOW)

    assert bound(contents=replace(TEXT, cache_writes=cache_writes), model=model).cost_nanos(500) == cost
