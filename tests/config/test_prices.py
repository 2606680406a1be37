import runpy
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any, cast

import pytest
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)

from tierwise.config.prices import Table, price_overrides, prices_from_toml, shipped_prices
from tierwise.core.pricing import Card, LongPrompt, Price, PriceBook
from tierwise.errors import PriceDataError

TOOL = Path(__file__).resolve().parents[2] / "tools" / "build_prices.py"
FILE = resources.files("tierwise.data").joinpath("prices.toml").read_text(encoding="utf-8")
NOW = int(datetime(2026, 11, 23, tzinfo=UTC).timestamp()) * 1_000_000

WHOLE = """
date = 2026-11-23
[[price]]
model = "m"
input_usd_per_mtok = "3"
output_usd_per_mtok = 15
cache_read_usd_per_mtok = "0.30"
cache_write_5m_usd_per_mtok = "3.75"
cache_write_1h_usd_per_mtok = "6"
source = "a page"
[[modifier]]
name = "batch"
multiplier = "0.5"
source = "a page"
[[modifier]]
name = "us_only"
multiplier = "1.1"
source = "a page"
[[server_tool]]
name = "web_search"
usd = "10"
per = 1000
unit = "request"
source = "a page"
"""


@pytest.fixture(scope="module")
def tool() -> dict[str, Any]:
    return runpy.run_path(str(TOOL))


def test_the_committed_file_is_what_the_tool_builds_from_its_sources(tool: dict[str, Any]) -> None:
    text, _ = tool["build"]()

    assert tool["stale"](text) == []


def test_the_tool_shows_what_would_change(tool: dict[str, Any]) -> None:
    text, _ = tool["build"]()

    difference = tool["stale"](text.replace('input_usd_per_mtok = "4.00"', 'input_usd_per_mtok = "3.00"'))

    assert '-input_usd_per_mtok = "4.00"\n' in difference
    assert '+input_usd_per_mtok = "3.00"\n' in difference


def test_the_tool_says_where_its_sources_disagree_and_why_it_takes_which(tool: dict[str, Any]) -> None:
    _, disagreements = tool["build"]()

    (sentence,) = disagreements
    assert sentence.startswith(
        "claude-sonnet-5-5: cache_read is 0.1 in genai-prices and 0.20 in the supplement"
    )


def test_the_tool_refuses_to_overrule_genai_prices_without_a_reason(tool: dict[str, Any]) -> None:
    known = prices_from_toml(WHOLE, source="test")
    own = price_overrides([{"model": "m", "input_usd_per_mtok": "4"}], known=known)
    disagreements = cast("Callable[..., Any]", tool["_disagreements"])

    with pytest.raises(
        tool["BuildError"], match="m: input is not as in genai-prices, and there is no reason"
    ):
        list(disagreements(own, known, {}))


FLAT = {
    "input_mtok": Decimal(4),
    "output_mtok": Decimal(20),
    "cache_read_mtok": Decimal("0.4"),
    "cache_write_mtok": Decimal(5),
    "cache_write_1h_mtok": Decimal(8),
}
STEPS = {
    bucket: TieredPrices(base=usd, tiers=[Tier(start=start, price=2 * usd)])
    for start, (bucket, usd) in enumerate(FLAT.items(), start=1)
}
AT_NIGHT = TimeOfDateConstraint(start_time=time(0), end_time=time(6))


@pytest.mark.parametrize(
    ("prices", "variants", "why"),
    [
        (ModelPrice(**FLAT, output_audio_mtok=Decimal(1)), [], "genai-prices has output_audio_mtok"),
        (ModelPrice(**STEPS), [], "genai-prices has several steps of prompt length"),
        (
            [ConditionalPrice(AT_NIGHT, prices=ModelPrice(**FLAT))],
            [],
            "genai-prices has prices by TimeOfDate",
        ),
        (
            ModelPrice(**FLAT),
            [PriceVariant(when={"inference_geo": "us"}, prices=ModelPrice())],
            "genai-prices has a price for {'inference_geo': 'us'}",
        ),
        (
            ModelPrice(**FLAT),
            [PriceVariant(when={"processing": "batch"}, prices=ModelPrice(**FLAT))],
            "a batch price that is not half",
        ),
    ],
)
def test_the_tool_stops_at_data_that_the_file_cannot_hold(
    tool: dict[str, Any], prices: ModelPrice | list[ConditionalPrice], variants: list[PriceVariant], why: str
) -> None:
    model = ModelInfo(id="m", match=ClauseEquals(equals="m"), prices=prices, price_variants=variants)

    with pytest.raises(tool["BuildError"]) as stopped:
        list(tool["_prices"](model))

    assert why in str(stopped.value)


def test_every_shipped_price_says_where_it_comes_from() -> None:
    assert all(price.source for price in shipped_prices().prices)


def test_the_version_of_a_book_is_its_date_and_the_beginning_of_its_hash() -> None:
    assert shipped_prices().version == f"2026-11-23-{sha256(FILE.encode()).hexdigest()[:8]}"


def test_the_shipped_prices_are_read_once() -> None:
    assert shipped_prices() is shipped_prices()


def test_a_file_says_all_that_a_book_needs() -> None:
    book = prices_from_toml(WHOLE, source="test")

    assert book.prices == (
        Price(
            model="m",
            card=Card(
                input=Decimal(3),
                output=Decimal(15),
                cache_read=Decimal("0.30"),
                cache_write_5m=Decimal("3.75"),
                cache_write_1h=Decimal(6),
            ),
            source="a page",
        ),
    )
    assert (book.terms.batch, book.terms.us_only) == (Decimal("0.5"), Decimal("1.1"))
    assert book.terms.server_tools["web_search"].per == 1000


ROW = "test: [[price]] 1 (m)"


@pytest.mark.parametrize(
    ("old", "new", "where", "why"),
    [
        ("date = 2026-11-23", "", "test", "`date` is missing"),
        ("date = 2026-11-23", "date = ", "test", "Invalid value"),
        ("date = 2026-11-23", "prices = 1", "test", "unknown key `prices`; did you mean `price`?"),
        ("[[price]]", "[price]", "test", "`price` is an array of tables: write [[price]]"),
        (
            "date = 2026-11-23\n[[price]]",
            "date = 2026-11-23\nprice = [1]\n[[modifier]]",
            "test: [[price]] 1",
            "is not a table",
        ),
        ('model = "m"\n', "", "test: [[price]] 1", "`model` must be there, as a string"),
        ('model = "m"\n', 'model = "m"\nzzz = 1\n', ROW, "unknown key `zzz`"),
        ('"3"', "3.0", ROW, '`input_usd_per_mtok` is 3.0: write an exact number as a string, such as "4.00"'),
        ('"3"', "true", ROW, "`input_usd_per_mtok` is True: write an exact number"),
        ('"3"', '"3,00"', ROW, "`input_usd_per_mtok` is '3,00', which is not a number"),
        ('"3"', '"-3"', ROW, "`input_usd_per_mtok` is '-3', which is not a price"),
        ('"3"', '"3000000"', ROW, "`input_usd_per_mtok` is '3000000', which is not a price"),
        (
            '"3"',
            '"3.0000000001"',
            ROW,
            "`input_usd_per_mtok` is '3.0000000001', which has more than 9 decimals",
        ),
        ('"3"', '"inf"', ROW, "`input_usd_per_mtok` is 'inf', which is not a price"),
        ('input_usd_per_mtok = "3"\n', "", ROW, "a card has no `input_usd_per_mtok`"),
        ('source = "a page"\n[[mod', "[[mod", ROW, "`source` must be there, as a string"),
        ('model = "m"', 'model = "m"\nfrom = "2026-10-07"', ROW, "`from` must be a date without a time"),
        (
            'model = "m"',
            'model = "m"\nfrom = 2026-10-07T00:00:00Z',
            ROW,
            "`from` must be a date without a time",
        ),
        ('model = "m"', 'model = "m"\nus_surcharge = "no"', ROW, "`us_surcharge` must be true or false"),
        ('model = "m"', 'model = "m"\nfast = "2x"', f"{ROW}: `fast`", "is not a table"),
        ('model = "m"', 'model = "m"\nfast = {}', ROW, "a card has no `input_usd_per_mtok`"),
        ('model = "m"', 'model = "m"\nfast = { above_prompt_tokens = 1 }', f"{ROW}: `fast`", "unknown key"),
        (
            'model = "m"',
            'model = "m"\nlong_prompt = {}',
            f"{ROW}: `long_prompt`",
            "`above_prompt_tokens` must be a whole number above zero",
        ),
        ('name = "batch"', 'name = "night"', "test", "no [[modifier]] is named batch"),
        ('name = "web_search"', 'name = "lookup"', "test", "no [[server_tool]] is named web_search"),
        ('multiplier = "0.5"', "", "test: [[modifier]] 1 (batch)", "`multiplier` is missing"),
        (
            "per = 1000",
            "per = 0",
            "test: [[server_tool]] 1 (web_search)",
            "`per` must be a whole number above zero",
        ),
        ("per = 1000", "per = true", "test: [[server_tool]] 1 (web_search)", "`per` must be a whole number"),
    ],
)
def test_a_mistake_in_a_file_is_reported_with_its_row(old: str, new: str, where: str, why: str) -> None:
    assert old in WHOLE

    with pytest.raises(PriceDataError) as refused:
        prices_from_toml(WHOLE.replace(old, new, 1), source="test")

    assert refused.value.where == where
    assert why in refused.value.why


def overridden(*tables: Table) -> PriceBook:
    return shipped_prices().with_overrides(price_overrides(tables), version="test")


def price_at(book: PriceBook, model: str, day: str) -> Price:
    price = book.price(model, int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * 1_000_000)
    assert price is not None
    return price


def test_an_override_changes_what_it_names_and_keeps_the_rest() -> None:
    mine = price_at(
        overridden({"model": "claude-opus-5-5", "input_usd_per_mtok": "3.20"}),
        "claude-opus-5-5",
        "2026-11-23",
    )

    known = price_at(shipped_prices(), "claude-opus-5-5", "2026-11-23")
    assert mine.card.input == Decimal("3.20")
    assert (mine.card.output, mine.card.cache_read, mine.fast) == (
        known.card.output,
        known.card.cache_read,
        known.fast,
    )
    assert mine.source == f"the policy; otherwise {known.source}"


def test_an_override_holds_from_its_day_on() -> None:
    book = overridden({"model": "claude-opus-5-5", "from": date(2026, 12, 1), "output_usd_per_mtok": 18})

    assert price_at(book, "claude-opus-5-5", "2026-11-30").card.output == Decimal(20)
    assert price_at(book, "claude-opus-5-5", "2026-12-01").card.output == Decimal(18)


def test_known_changes_go_on_under_an_override_that_does_not_name_them() -> None:
    book = overridden({"model": "claude-sonnet-5-5", "input_usd_per_mtok": "1.80"})

    cards = [price_at(book, "claude-sonnet-5-5", day).card for day in ("2026-10-06", "2026-10-07")]

    assert [(card.input, card.cache_read) for card in cards] == [
        (Decimal("1.80"), Decimal("0.20")),
        (Decimal("1.80"), Decimal("0.10")),
    ]


def test_a_later_override_changes_an_earlier_one() -> None:
    book = overridden(
        {"model": "claude-opus-5-5", "from": date(2026, 12, 1), "output_usd_per_mtok": "18"},
        {"model": "claude-opus-5-5", "input_usd_per_mtok": "3.20"},
    )

    cards = [price_at(book, "claude-opus-5-5", day).card for day in ("2026-11-30", "2026-12-01")]

    assert [(card.input, card.output) for card in cards] == [
        (Decimal("3.20"), Decimal(20)),
        (Decimal("3.20"), Decimal(18)),
    ]


def test_an_override_of_the_day_of_a_known_change_takes_its_place() -> None:
    book = overridden(
        {"model": "claude-sonnet-5-5", "from": date(2026, 10, 7), "cache_read_usd_per_mtok": "0.08"}
    )

    assert price_at(book, "claude-sonnet-5-5", "2026-10-06").card.cache_read == Decimal("0.20")
    assert price_at(book, "claude-sonnet-5-5", "2026-10-07").card.cache_read == Decimal("0.08")


def test_an_override_of_a_snapshot_is_one_of_its_model() -> None:
    book = overridden({"model": "claude-haiku-4-5-20251001", "input_usd_per_mtok": "0.90"})

    assert price_at(book, "claude-haiku-4-5", "2026-11-23").card.input == Decimal("0.90")


def test_the_long_prompt_and_fast_cards_are_overridden_bucket_by_bucket() -> None:
    book = overridden(
        {"model": "claude-haiku-5-5", "long_prompt": {"input_usd_per_mtok": "0.40"}},
        {"model": "claude-opus-5-5", "fast": {"output_usd_per_mtok": "36"}},
        {"model": "claude-opus-4-5", "us_surcharge": True},
    )

    long = price_at(book, "claude-haiku-5-5", "2026-11-23").long_prompt
    fast = price_at(book, "claude-opus-5-5", "2026-11-23").fast
    assert long is not None
    assert (long.above_prompt_tokens, long.card.input, long.card.output) == (
        100_000,
        Decimal("0.40"),
        Decimal("2.50"),
    )
    assert fast is not None
    assert (fast.input, fast.output) == (Decimal(8), Decimal(36))
    assert price_at(book, "claude-opus-4-5", "2026-11-23").us_surcharge


def test_a_new_model_needs_input_and_output_and_may_leave_the_rest_unknown() -> None:
    book = overridden(
        {"model": "next", "input_usd_per_mtok": "1", "output_usd_per_mtok": "2", "source": "a letter"}
    )

    assert book.price("next", NOW) == Price(
        model="next", card=Card(input=Decimal(1), output=Decimal(2)), source="a letter"
    )


def test_a_new_model_can_have_a_long_prompt_card() -> None:
    long = {"above_prompt_tokens": 1_000, "input_usd_per_mtok": "2"}
    book = overridden(
        {"model": "next", "input_usd_per_mtok": "1", "output_usd_per_mtok": "2", "long_prompt": long}
    )

    assert price_at(book, "next", "2026-11-23").long_prompt == LongPrompt(
        above_prompt_tokens=1_000, card=Card(input=Decimal(2))
    )


@pytest.mark.parametrize(
    ("tables", "where", "why"),
    [
        (
            [{"model": "next", "input_usd_per_mtok": "1"}],
            "[[prices]] 1 (next)",
            "a model without known prices needs",
        ),
        (
            [{"model": "next", "output_usd_per_mtok": "1"}],
            "[[prices]] 1 (next)",
            "a model without known prices needs",
        ),
        (
            [{"model": "claude-opus-5-5", "inputs": "1"}],
            "[[prices]] 1 (claude-opus-5-5)",
            "unknown key `inputs`",
        ),
        ([{"input_usd_per_mtok": "1"}], "[[prices]] 1", "`model` must be there"),
        (
            [{"model": "claude-haiku-4-5"}, {"model": "claude-haiku-4-5-20251001"}],
            "[[prices]] 2 (claude-haiku-4-5-20251001)",
            "two tables for one model begin on the same day",
        ),
    ],
)
def test_a_mistake_in_the_policy_is_reported_with_its_table(
    tables: list[Table], where: str, why: str
) -> None:
    with pytest.raises(PriceDataError) as refused:
        price_overrides(tables)

    assert refused.value.where == where
    assert why in refused.value.why
