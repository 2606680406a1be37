"""The keys of `[[prices]]`, described once."""

from datetime import date
from decimal import Decimal
from typing import Final

from tierwise.config.kinds import Amount, Day, Flag, Text, Whole
from tierwise.config.tables import REQUIRED, Key, Table

PRICED_MODEL: Final[Key[str]] = Key(
    name="model",
    kind=Text(noun="a model's id"),
    meaning="The model whose prices these are.",
    example='"claude-haiku-5-5"',
    absent=REQUIRED,
)
PRICES_FROM: Final[Key[date]] = Key(
    name="from",
    kind=Day(),
    meaning="First day, in UTC, on which they hold.",
    example="2026-12-01",
    absent="always",
)
US_SURCHARGE: Final[Key[bool]] = Key(
    name="us_surcharge",
    kind=Flag(),
    meaning="Whether US-only inference costs more.",
    example="false",
    absent="as known",
)
SOURCE: Final[Key[str]] = Key(
    name="source",
    kind=Text(),
    meaning="Where the figures come from.",
    example='"contract of 2026-11"',
    absent='"the policy"',
)
ABOVE_PROMPT_TOKENS: Final[Key[int]] = Key(
    name="above_prompt_tokens",
    kind=Whole(),
    meaning="Longest prompt, in tokens, that the prices outside this table hold for.",
    example="100000",
    absent="as known",
)


def _rate(name: str, what: str, example: str) -> Key[Decimal]:
    meaning = f"Dollars for a million tokens {what}."
    return Key(
        name=f"{name}_usd_per_mtok", kind=Amount(), meaning=meaning, example=f'"{example}"', absent="as known"
    )


RATES: Final[tuple[Key[Decimal], ...]] = (
    _rate("input", "of input", "4.00"),
    _rate("output", "of output, thinking included", "20.00"),
    _rate("cache_read", "read from the prompt cache", "0.20"),
    _rate("cache_write_5m", "written to the prompt cache for five minutes", "5.00"),
    _rate("cache_write_1h", "written to the prompt cache for an hour", "8.00"),
)

LONG_PROMPT: Final = Table(
    name="prices.long_prompt",
    shape="one",
    meaning="Prices of every token of a request whose prompt is longer than a step.",
    keys=(ABOVE_PROMPT_TOKENS, *RATES),
    example='[prices.long_prompt]\nabove_prompt_tokens = 100000\ninput_usd_per_mtok = "0.50"\n',
)
FAST_MODE: Final = Table(
    name="prices.fast",
    shape="one",
    meaning="Prices of requests that run in fast mode.",
    keys=RATES,
    example='[prices.fast]\ninput_usd_per_mtok = "8.00"\noutput_usd_per_mtok = "40.00"\n',
)
PRICES: Final = Table(
    name="prices",
    shape="listed",
    meaning="Prices of your own, which go before those of the package: a discount, or a model that is newer "
    "than this version. A table says only what differs; a model that is not known needs its input and "
    "output prices. Amounts are strings, because a number with a point is not exact.",
    keys=(PRICED_MODEL, PRICES_FROM, *RATES, US_SURCHARGE, SOURCE),
    parts=(LONG_PROMPT, FAST_MODE),
    example='[[prices]]\nmodel = "claude-opus-5-5"\nfrom = 2026-12-01\ninput_usd_per_mtok = "3.60"\n'
    'output_usd_per_mtok = "18.00"\nsource = "contract of 2026-11"\n',
)
