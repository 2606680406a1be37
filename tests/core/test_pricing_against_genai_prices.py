"""Thousands of usages, priced by genai-prices' calculation and by ours: equal, or different for a known reason.

A reason that no case shows any more fails the test too, so that the table of differences stays true.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from hashlib import sha256
from itertools import product
from typing import Final

import genai_prices
import pytest
from genai_prices import data

from tierwise.config.prices import shipped_prices
from tierwise.core.pricing import Card
from tierwise.money import ATTOS_PER_NANO, Nanos
from tierwise.usage import Metered, Usage, UsageLine

BOOK: Final = shipped_prices()
THEIR_MODELS: Final = {
    model.id: model for provider in data.providers if provider.id == "anthropic" for model in provider.models
}
NOT_IN_GENAI_PRICES: Final = {"claude-mythos-5", "claude-mythos-5-1"}
"""Offered to verified organizations only; the supplement has them."""
RETIRED: Final = {
    "claude-2",
    "claude-3-5-haiku-latest",
    "claude-3-5-sonnet",
    "claude-3-7-sonnet-latest",
    "claude-3-haiku",
    "claude-3-opus-latest",
    "claude-3-sonnet",
    "claude-opus-4-0",
    "claude-opus-4-1",
    "claude-sonnet-4-0",
    "claude-v1",
}
"""In genai-prices and not here: a gateway can no longer call them."""
MODELS: Final = tuple(model for model in BOOK.models() if model in THEIR_MODELS)
BATCHES_LISTED: Final = datetime(2026, 10, 14, tzinfo=UTC)
"""First day for which genai-prices has batch prices of the models released before it."""
SONNET_5_5_CUT: Final = datetime(2026, 10, 7, tzinfo=UTC)
OPUS_4_6_SLOW: Final = datetime(2026, 6, 29, tzinfo=UTC)
FAST_MODELS: Final = {
    "claude-fable-5-2",
    "claude-mythos-5-2",
    "claude-opus-5-5",
    "claude-opus-5",
    "claude-opus-4-8",
}

WAYS: Final[dict[str, dict[str, str]]] = {
    "standard": {},
    "fast": {"speed": "fast"},
    "batch": {"processing": "batch"},
    "fast batch": {"speed": "fast", "processing": "batch"},
    "us": {"inference_geo": "us"},
}
"""What a way of serving is called in genai-prices."""

INSTANTS: Final = tuple(
    boundary + offset
    for boundary in (
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2026, 3, 13, tzinfo=UTC),
        OPUS_4_6_SLOW,
        SONNET_5_5_CUT,
        BATCHES_LISTED,
        datetime(2026, 11, 23, tzinfo=UTC),
    )
    for offset in (timedelta(microseconds=-1), timedelta(0))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    model: str
    at: datetime
    way: str
    usage: Usage

    @property
    def fast(self) -> bool:
        return "fast" in self.way

    @property
    def batch(self) -> bool:
        return "batch" in self.way


def test_we_agree_to_the_nanodollar_but_for_known_differences() -> None:
    seen: Counter[str] = Counter()
    for case in cases():
        ours, theirs = our_cost(case), their_cost(case)
        reason = next((name for name, (applies, _) in DIFFERENCES.items() if applies(case)), None)
        if reason is None:
            assert ours == theirs, case
            continue
        _, expected = DIFFERENCES[reason]
        assert ours == expected(case), (reason, case)
        seen[reason] += ours != theirs

    assert all(seen[reason] for reason in DIFFERENCES), seen


def test_the_launch_price_of_the_cut_cache_reads_is_the_only_card_that_differs() -> None:
    differing = {
        (price.model, price.effective_from)
        for price in BOOK.prices
        if price.model in THEIR_MODELS and price.card != their_card(price.model, price.from_us)
    }

    assert differing == {("claude-sonnet-5-5", None)}


def test_genai_prices_lacks_two_models_that_are_offered() -> None:
    assert set(BOOK.models()) - THEIR_MODELS.keys() == NOT_IN_GENAI_PRICES
    for model in NOT_IN_GENAI_PRICES:
        with pytest.raises(LookupError):
            genai_prices.calc_price(genai_prices.Usage(input_tokens=1), model, provider_id="anthropic")


def test_every_other_model_of_genai_prices_is_retired() -> None:
    assert THEIR_MODELS.keys() - set(BOOK.models()) == RETIRED


def cases() -> Iterator[Case]:
    """Every model, way and day on which a price changes, with usages drawn anew for each."""
    for number, (model, at, way) in enumerate(product(MODELS, INSTANTS, WAYS)):
        for usage in (*(drawn(4 * number + draw) for draw in range(4)), *STEPS):
            yield Case(model=model, at=at, way=way, usage=usage)


STEPS: Final = tuple(
    Usage(
        input_tokens=step - 30_000, cache_read_tokens=20_000, cache_write_1h_tokens=10_000, output_tokens=777
    )
    for step in (100_000, 100_001, 200_000, 200_001)
)


def drawn(seed: int) -> Usage:
    """A usage in which each bucket is empty, small or large: a function of the seed."""
    digest = sha256(f"usage {seed}".encode()).digest()
    buckets = [int.from_bytes(digest[at : at + 4]) for at in range(0, 24, 4)]
    sizes = (1, 100, 10_000, 400_000)
    reads, short, long, into, out, searches = (bucket // 4 % sizes[bucket % 4] for bucket in buckets)
    return Usage(
        input_tokens=into,
        cache_read_tokens=reads,
        cache_write_5m_tokens=short,
        cache_write_1h_tokens=long,
        output_tokens=out,
        web_search_requests=searches % 20,
    )


def our_cost(case: Case) -> Nanos | None:
    line = UsageLine(
        model=case.model, usage=case.usage, fast=case.fast, batch=case.batch, us_only=case.way == "us"
    )
    at_us = int((case.at - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
    return BOOK.cost(Metered(lines=(line,)), at_us)


def their_cost(case: Case) -> Nanos:
    return nanos(their_usd(case.model, case.at, case.usage, WAYS[case.way]))


def their_usd(model: str, at: datetime, usage: Usage, context: dict[str, str]) -> Decimal:
    """What genai-prices computes. Its input includes the cache's tokens, and its writes both lifetimes."""
    writes = usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    return genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=usage.prompt_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=writes,
            cache_write_1h_tokens=usage.cache_write_1h_tokens,
            output_tokens=usage.output_tokens,
            web_searches=usage.web_search_requests,
        ),
        model,
        provider_id="anthropic",
        genai_request_timestamp=at,
        price_context=context,
    ).total_price


def nanos(amount: Decimal) -> Nanos:
    return int((amount * ATTOS_PER_NANO).quantize(Decimal(1), ROUND_HALF_EVEN))


def searches(usage: Usage) -> Decimal:
    return Decimal(usage.web_search_requests) / 100


def unknown(_: Case) -> None:
    return None


def half_of_standard(case: Case) -> Nanos:
    tokens = standard(case) - searches(case.usage)
    return nanos(tokens / 2 + searches(case.usage))


def a_tenth_more(case: Case) -> Nanos:
    tokens = standard(case) - searches(case.usage)
    return nanos(tokens * Decimal("1.1") + searches(case.usage))


def standard(case: Case) -> Decimal:
    """Their standard price, with the launch price of Sonnet 5.5's cache reads."""
    usd = their_usd(case.model, case.at, case.usage, {})
    if before_the_cut(case):
        usd += case.usage.cache_read_tokens * Decimal("0.10") / 1_000_000
    return usd


def before_the_cut(case: Case) -> bool:
    return case.model == "claude-sonnet-5-5" and case.at < SONNET_5_5_CUT


def is_fast_without_a_price(case: Case) -> bool:
    slow = case.model == "claude-opus-4-6" and case.at >= OPUS_4_6_SLOW
    return case.way == "fast" and case.model not in FAST_MODELS and not slow


def has_us_surcharge(case: Case) -> bool:
    return case.way == "us" and not case.model.endswith("-4-5")


DIFFERENCES: Final[dict[str, tuple[Callable[[Case], bool], Callable[[Case], Nanos | None]]]] = {
    "fast mode is not offered in batches: no price here, the batch price or the fast one there": (
        lambda case: case.way == "fast batch",
        unknown,
    ),
    "a model without fast mode: no price here, the standard one there": (is_fast_without_a_price, unknown),
    "US-only inference: a tenth more here, not known there": (has_us_surcharge, a_tenth_more),
    "batches before genai-prices listed them: half price here, full price there": (
        lambda case: (
            case.batch
            and case.at < BATCHES_LISTED
            and case.model not in {"claude-fable-5-2", "claude-mythos-5-2"}
        ),
        half_of_standard,
    ),
    "cache reads of Sonnet 5.5 before their cut: the launch price here, the present one there": (
        lambda case: before_the_cut(case) and case.way in {"standard", "us"},
        lambda case: nanos(standard(case)),
    ),
}
"""By reason: whether it applies to a case, and what we must then say. The first that applies explains it."""


def their_card(model: str, from_us: int) -> Card:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=max(from_us, 0))
    prices = THEIR_MODELS[model].get_prices(at)

    def base(key: str) -> Decimal:
        price = getattr(prices, key)
        return getattr(price, "base", price)

    return Card(
        input=base("input_mtok"),
        output=base("output_mtok"),
        cache_read=base("cache_read_mtok"),
        cache_write_5m=base("cache_write_mtok"),
        cache_write_1h=base("cache_write_1h_mtok"),
    )
