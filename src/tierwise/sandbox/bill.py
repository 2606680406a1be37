"""What a call costs and what was charged so far: the witness's own price table, exact to the nanodollar.

Prices are the provider's list prices in US dollars per million tokens. All arithmetic is done in fractions;
each call is rounded once, half to even, to whole nanodollars.
"""

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from functools import lru_cache
from math import lcm
from operator import mul
from typing import Any, Final, Literal

Speed = Literal["standard", "fast"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one call, in disjoint buckets."""

    input_tokens: int = 0
    """Read at the full rate: neither from the cache nor into it."""
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0
    """All that was generated, thinking included."""
    thinking_tokens: int = 0
    """The part of `output_tokens` that was thinking; not billed a second time."""
    web_searches: int = 0

    @property
    def prompt_tokens(self) -> int:
        """The length of the prompt, whatever it was billed at."""
        return (
            self.input_tokens
            + self.cache_read_tokens
            + self.cache_write_5m_tokens
            + self.cache_write_1h_tokens
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """Prices in nanodollars a token: a dollar a million tokens is a thousand of them."""

    input: Fraction
    output: Fraction
    write_5m: Fraction
    write_1h: Fraction
    read: Fraction
    parts: int = field(init=False)
    """How many parts a nanodollar is divided into for all prices to be whole."""
    prices: tuple[int, ...] = field(init=False)
    """The prices in those parts, in the order above: as exact as the fractions, and quicker to sum."""

    def __post_init__(self) -> None:
        fractions = (self.input, self.output, self.write_5m, self.write_1h, self.read)
        parts = lcm(*(price.denominator for price in fractions))
        object.__setattr__(self, "parts", parts)
        object.__setattr__(self, "prices", tuple(int(price * parts) for price in fractions))

    def times(self, factor: Fraction) -> "Card":
        """The card with every price multiplied."""
        return Card(
            input=self.input * factor,
            output=self.output * factor,
            write_5m=self.write_5m * factor,
            write_1h=self.write_1h * factor,
            read=self.read * factor,
        )

    def parts_of(self, usage: Usage) -> int:
        """What these tokens cost, exactly, in `parts` of a nanodollar."""
        buckets = (
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_write_5m_tokens,
            usage.cache_write_1h_tokens,
            usage.cache_read_tokens,
        )
        return sum(map(mul, buckets, self.prices))


_PRICES: Final = """
model                       input  output  write_5m  write_1h  read
claude-fable-5-2            8      40      10        16        0.20
claude-mythos-5-2           8      40      10        16        0.20
claude-fable-5-1            10     50      12.5      20        0.25
claude-mythos-5-1           10     50      12.5      20        0.25
claude-fable-5              10     50      12.5      20        1.00
claude-mythos-5             10     50      12.5      20        1.00
claude-opus-5-5             4      20      5         8         0.20
claude-opus-5               5      25      6.25      10        0.50
claude-opus-4-8             5      25      6.25      10        0.50
claude-opus-4-7             5      25      6.25      10        0.50
claude-opus-4-6             5      25      6.25      10        0.50
claude-opus-4-5-20251101    5      25      6.25      10        0.50
claude-sonnet-5-5           2      10      2.5       4         0.10
claude-sonnet-5             2      10      2.5       4         0.20
claude-sonnet-4-6           3      15      3.75      6         0.30
claude-sonnet-4-5-20250929  3      15      3.75      6         0.30
claude-haiku-5-5            0.10   0.50    0.125     0.20      0.01
claude-haiku-4-5-20251001   1      5       1.25      2         0.10
"""

_LONG_PROMPT_PRICES: Final = """
model                       input  output  write_5m  write_1h  read
claude-haiku-5-5            0.50   2.50    0.625     1.00      0.05
"""
"""What every token of a request costs when its prompt is longer than `LONG_PROMPT_TOKENS`."""

LONG_PROMPT_TOKENS: Final = 100_000

# The cache prices in fast mode are the fast input price times the model's ordinary cache multipliers.
_FAST_PRICES: Final = """
model              input  output  write_5m  write_1h  read
claude-fable-5-2   16     80      20        32        0.40
claude-mythos-5-2  16     80      20        32        0.40
claude-opus-5-5    8      40      10        16        0.40
claude-opus-5      10     50      12.5      20        1.00
claude-opus-4-8    10     50      12.5      20        1.00
"""

US_GEO_FACTOR: Final = Fraction(11, 10)
"""US-only inference costs this much more, on every kind of token."""

BATCH_FACTOR: Final = Fraction(1, 2)
"""Message Batches cost half, on every kind of token."""

WEB_SEARCH_NANOS: Final = 10_000_000
"""One web search: ten dollars a thousand."""


def _cards(table: str) -> Mapping[str, Card]:
    rows = [row.split() for row in table.strip().splitlines()[1:]]
    return {
        name: Card(
            **dict(
                zip(
                    ("input", "output", "write_5m", "write_1h", "read"),
                    (Fraction(price) * 1000 for price in prices),
                    strict=True,
                )
            )
        )
        for name, *prices in rows
    }


CARDS: Final = _cards(_PRICES)
LONG_PROMPT_CARDS: Final = _cards(_LONG_PROMPT_PRICES)
FAST_CARDS: Final = _cards(_FAST_PRICES)


@lru_cache(maxsize=256)
def card(
    model: str,
    *,
    long_prompt: bool = False,
    us_only: bool = False,
    speed: Speed = "standard",
    batch: bool = False,
) -> Card:
    """The prices of one model under one set of terms. Raises KeyError for a model without a price."""
    base = FAST_CARDS[model] if speed == "fast" else CARDS[model]
    if long_prompt:
        base = LONG_PROMPT_CARDS.get(model, base)
    factor = (US_GEO_FACTOR if us_only else Fraction(1)) * (BATCH_FACTOR if batch else Fraction(1))
    return base if factor == 1 else base.times(factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """One line of a call's bill: tokens of one model on one set of terms."""

    model: str
    usage: Usage
    us_only: bool = False
    speed: Speed = "standard"
    batch: bool = False

    @property
    def card(self) -> Card:
        """The prices that hold for this charge; a long prompt counts per charge."""
        return card(
            self.model,
            long_prompt=self.usage.prompt_tokens > LONG_PROMPT_TOKENS,
            us_only=self.us_only,
            speed=self.speed,
            batch=self.batch,
        )


def price(charges: Sequence[Charge]) -> int:
    """What a call costs in whole nanodollars: its charges, summed exactly and rounded once, half to even."""
    cards = [charge.card for charge in charges]
    parts = lcm(*(card.parts for card in cards))
    tokens = sum(
        card.parts_of(charge.usage) * (parts // card.parts)
        for card, charge in zip(cards, charges, strict=True)
    )
    searches = sum(charge.usage.web_searches for charge in charges)
    return round(Fraction(tokens, parts)) + searches * WEB_SEARCH_NANOS


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What the sandbox remembers of one call."""

    request_id: str
    model: str
    """The model that answered."""
    charges: tuple[Charge, ...]
    nanos: int
    """What was charged; 0 for a call that is not billed."""
    billed: bool
    ending: str
    """How the reply ended: a stop reason, `cut` (by the sandbox), `left` (by the client) or `error`."""
    cut_tokens: int
    """How many output tokens the reply would have run on without its cap."""
    sent: Mapping[str, Any]
    """What the client asked for: model, max_tokens, stream and the like, and its x- headers."""


@dataclass(slots=True)
class _Totals:
    calls: int = 0
    nanos: int = 0
    tokens: dict[str, int] = field(default_factory=lambda: defaultdict(int))


class Ledger:
    """The running totals and the latest calls. Not thread-safe: one event loop owns it."""

    def __init__(self, *, keep: int = 20_000) -> None:
        """Keep the totals of every call and the records of the latest `keep`."""
        self._calls: deque[Call] = deque(maxlen=keep)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._calls.clear()
        self._all = _Totals()
        self._by_model: dict[str, _Totals] = defaultdict(_Totals)
        self._unbilled = 0
        self._truncated = 0
        self._cut_tokens = 0
        self._cut_nanos = Fraction(0)

    def add(self, call: Call) -> None:
        """Record a call and, when it is billed, add it to the totals."""
        self._calls.append(call)
        if not call.billed:
            self._unbilled += 1
            return
        self._all.calls += 1
        self._all.nanos += call.nanos
        totals = self._by_model[call.model]
        totals.calls += 1
        totals.nanos += call.nanos
        for charge in call.charges:
            _add_tokens(totals.tokens, charge.usage)
        if call.cut_tokens:
            self._truncated += 1
            self._cut_tokens += call.cut_tokens
            self._cut_nanos += call.cut_tokens * call.charges[-1].card.output

    def billing(self) -> dict[str, Any]:
        """The totals, ready for JSON; money in whole nanodollars.

        A call counts under the model that answered, with all that it cost: also what an advisor or a
        compaction added at another model's price.
        """
        return {
            "calls": self._all.calls,
            "total_nanos": self._all.nanos,
            "by_model": {
                model: {"calls": totals.calls, "total_nanos": totals.nanos, **totals.tokens}
                for model, totals in sorted(self._by_model.items())
            },
            "truncated": {
                "calls": self._truncated,
                "output_tokens_cut": self._cut_tokens,
                "nanos_not_run": round(self._cut_nanos),
            },
            "unbilled": {"calls": self._unbilled},
        }

    def latest(self, limit: int) -> list[dict[str, Any]]:
        """The latest calls, newest first, ready for JSON."""
        calls = list(self._calls)[-limit:] if limit > 0 else []
        return [_record(call) for call in reversed(calls)]


_BUCKETS: Final = tuple(bucket.name for bucket in fields(Usage))


def _add_tokens(tokens: dict[str, int], usage: Usage) -> None:
    for bucket in _BUCKETS:
        tokens[bucket] += getattr(usage, bucket)


def _record(call: Call) -> dict[str, Any]:
    return {
        "request_id": call.request_id,
        "model": call.model,
        "nanos": call.nanos,
        "billed": call.billed,
        "ending": call.ending,
        "output_tokens_cut": call.cut_tokens,
        "charges": [
            {
                "model": charge.model,
                "us_only": charge.us_only,
                "speed": charge.speed,
                **{bucket: getattr(charge.usage, bucket) for bucket in _BUCKETS},
            }
            for charge in call.charges
        ],
        "sent": dict(call.sent),
    }
