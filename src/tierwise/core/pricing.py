"""Dated prices behind `PriceBook`: what a call costs, exact in whole attodollars and rounded once.

A price is dollars per million tokens, so a token costs a whole number of attodollars (10⁻¹⁸ dollars) at
every price that has at most twelve decimals, with every multiplier on it. A book works these numbers out
when it is made, for each model, date and way of serving; a call's cost is then a sum of products of
integers, exact whatever its size, and is rounded to nanodollars at the end.

Three cards can price a reply. The fast card prices what ran in fast mode, whatever the length of the
prompt. Otherwise the long card prices every token of a request whose prompt is longer than the model's
step, its output included, and the standard card the rest. US-only inference and batches multiply the
tokens of the card, and never the provider's searches.

Unknown is not zero: a model, a bucket or a way of serving without a price makes the whole call's cost
None, for a sum with a hole in it is too low.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Context, Decimal, Inexact
from itertools import pairwise, product
from typing import Final, Literal, TypeAlias

from tierwise.errors import PriceDataError
from tierwise.money import Attos, Nanos, round_half_even
from tierwise.usage import Metered, UsageLine

CardName: TypeAlias = Literal["standard", "long_prompt", "fast"]

WEB_SEARCH: Final = "web_search"
"""The server tool that a reply's usage counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """Prices of a million tokens in US dollars, by bucket; None where the price is not known."""

    input: Decimal | None = None
    output: Decimal | None = None
    cache_read: Decimal | None = None
    cache_write_5m: Decimal | None = None
    cache_write_1h: Decimal | None = None


BUCKETS: Final = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
"""The fields of a `Card`. With `_tokens` behind it, each is a field of `Usage`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LongPrompt:
    """A second card, for the whole of every request with a long prompt."""

    above_prompt_tokens: int
    """Longest prompt that the standard card prices; one token more, and this card does.

    A prompt's length is its input, cache reads and cache writes together.
    """
    card: Card


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """One model's prices from one day on."""

    model: str
    """The provider's id, without a snapshot's date."""
    effective_from: date | None = None
    """First day, in UTC, that these prices hold; None from the model's release on."""
    card: Card
    long_prompt: LongPrompt | None = None
    """None where the length of the prompt does not matter."""
    fast: Card | None = None
    """Fast mode; None where it has no price, because the provider refuses it or nobody published one."""
    us_surcharge: bool = True
    """Whether US-only inference costs more. Models before 4.6 cost the same wherever they run."""
    source: str = ""
    """Where the figures come from."""

    @property
    def from_us(self) -> int:
        """First instant that these prices hold, in microseconds since 1970 UTC; a far past where undated."""
        if self.effective_from is None:
            return _SINCE_RELEASE_US
        return (self.effective_from.toordinal() - _EPOCH) * _US_PER_DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTool:
    """What the provider charges for a tool that it runs itself."""

    usd: Decimal
    """Price of `per` units, in US dollars."""
    per: int
    unit: str
    """`request`, `container hour`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What holds for all models of the provider."""

    batch: Decimal
    """Multiplies every token's price in Message Batches."""
    us_only: Decimal
    """Multiplies every token's price under US-only inference, for models with a surcharge."""
    server_tools: Mapping[str, ServerTool]
    """By name. Only `web_search` is charged to a call: replies do not say how long a container ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostItem:
    """What one bucket of one line costs."""

    model: str
    card: CardName | None
    """The card that prices the line; None where the line has no price."""
    bucket: str
    """Name of the `Usage` field."""
    quantity: int
    attos_each: Attos | None
    """Price of one token or request, with all multipliers; None where it is not known."""

    @property
    def attos(self) -> Attos | None:
        """Cost of the whole quantity, exact."""
        return None if self.attos_each is None else self.quantity * self.attos_each


class PriceBook:
    """Every known price, by model and date. Immutable: other prices make another book."""

    __slots__ = ("_schedules", "prices", "terms", "version")

    def __init__(self, prices: Iterable[Price], *, terms: Terms, version: str) -> None:
        """Work out what a token costs in every way of serving it.

        Raises:
            PriceDataError: a price is negative, not a number, or finer than an attodollar a token; or two
                prices of a model begin on the same day.
        """
        self.prices: Final = tuple(prices)
        """As given."""
        self.terms: Final = terms
        self.version: Final = version
        """Names the book in every entry."""
        self._schedules: Final = _schedules(self.prices, terms)

    def models(self) -> tuple[str, ...]:
        """The models that have prices, in the order of the data."""
        return tuple(self._schedules)

    def resolve(self, model: str) -> str | None:
        """Return the id under which the book knows a model, or None where it does not.

        A snapshot is its model: `claude-haiku-4-5-20251001` is `claude-haiku-4-5`, unless the snapshot has
        prices of its own.
        """
        if model in self._schedules:
            return model
        undated = _undated(model)
        return undated if undated in self._schedules else None

    def price(self, model: str, at_us: int) -> Price | None:
        """Return the prices of a model at an instant, in microseconds since 1970 UTC; None where unknown."""
        dated = self._dated(model, at_us)
        return None if dated is None else dated.price

    def cost(self, metered: Metered, at_us: int) -> Nanos | None:
        """Price a reply at the instant of its call, rounded to nanodollars, ties to even.

        None where any part of it has no price, or the provider bills more than it counts.
        """
        attos = self.exact_cost(metered, at_us)
        return None if attos is None else round_half_even(attos)

    def rates(
        self, model: str, at_us: int, *, prompt_tokens: int, fast: bool, us_only: bool, batch: bool
    ) -> "Rates | None":
        """Return what each token of a call costs whose prompt has this length; None where nobody knows."""
        dated = self._dated(model, at_us)
        if dated is None:
            return None
        above = dated.above_prompt_tokens
        is_long = above is not None and prompt_tokens > above
        return dated.rates[fast << 3 | us_only << 2 | batch << 1 | is_long]

    def exact_cost(self, metered: Metered, at_us: int) -> Attos | None:
        """Price a reply as `cost` does, before rounding."""
        if metered.billed_apart:
            return None
        total = 0
        for line in metered.lines:
            rates = self._rates(line, at_us)
            if rates is None:
                return None
            usage = line.usage
            if rates.unknown and any(getattr(usage, bucket) for bucket in rates.unknown):
                return None
            total += (
                usage.input_tokens * rates.input_tokens
                + usage.output_tokens * rates.output_tokens
                + usage.cache_read_tokens * rates.cache_read_tokens
                + usage.cache_write_5m_tokens * rates.cache_write_5m_tokens
                + usage.cache_write_1h_tokens * rates.cache_write_1h_tokens
                + usage.web_search_requests * rates.web_search_requests
            )
        return total

    def breakdown(self, metered: Metered, at_us: int) -> tuple[CostItem, ...]:
        """List what each bucket in use costs, line by line: `exact_cost` is the sum of it."""
        return tuple(item for line in metered.lines for item in _items(line, self._rates(line, at_us)))

    def with_overrides(self, prices: Iterable[Price], *, version: str) -> "PriceBook":
        """Return a book in which these prices win: from the first day of a model's, all others of it end."""
        own = tuple(prices)
        first: dict[str, int] = {}
        for price in own:
            first[price.model] = min(first.get(price.model, price.from_us), price.from_us)
        kept = (
            price for price in self.prices if price.model not in first or price.from_us < first[price.model]
        )
        return PriceBook((*kept, *own), terms=self.terms, version=version)

    def _dated(self, model: str, at_us: int) -> "_Dated | None":
        schedule = self._schedules.get(model) or self._schedules.get(_undated(model), ())
        for dated in schedule:
            if dated.from_us <= at_us:
                return dated
        return None

    def _rates(self, line: UsageLine, at_us: int) -> "Rates | None":
        dated = self._dated(line.model, at_us)
        if dated is None:
            return None
        above = dated.above_prompt_tokens
        is_long = above is not None and line.usage.prompt_tokens > above
        return dated.rates[line.fast << 3 | line.us_only << 2 | line.batch << 1 | is_long]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Attodollars of one token or request, under the names of `Usage`; 0 where unknown."""

    card: CardName
    input_tokens: Attos
    output_tokens: Attos
    cache_read_tokens: Attos
    cache_write_5m_tokens: Attos
    cache_write_1h_tokens: Attos
    web_search_requests: Attos
    unknown: tuple[str, ...]
    """Names of the fields whose price is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dated:
    """A price made ready for multiplying."""

    price: Price
    from_us: int
    above_prompt_tokens: int | None
    rates: tuple[Rates | None, ...]
    """By fast, US-only, batch and long prompt, read as the four digits of a binary number."""


_SINCE_RELEASE_US: Final = -(2**63)
_US_PER_DAY: Final = 86_400_000_000
_EPOCH: Final = date(1970, 1, 1).toordinal()
_EXACT: Final = Context(prec=64, traps=[Inexact])
_ONCE: Final = Decimal(1)


def _schedules(prices: tuple[Price, ...], terms: Terms) -> dict[str, tuple[_Dated, ...]]:
    """Each model's prices, the newest first."""
    by_model: dict[str, list[_Dated]] = {}
    for price in prices:
        by_model.setdefault(price.model, []).append(_dated(price, terms))
    return {model: _newest_first(schedule) for model, schedule in by_model.items()}


def _newest_first(schedule: list[_Dated]) -> tuple[_Dated, ...]:
    ordered = sorted(schedule, key=lambda dated: -dated.from_us)
    for later, earlier in pairwise(ordered):
        if later.from_us == earlier.from_us:
            raise PriceDataError(where=_name(later.price), why="is there twice")
    return tuple(ordered)


def _dated(price: Price, terms: Terms) -> _Dated:
    ways = product((False, True), repeat=4)
    return _Dated(
        price=price,
        from_us=price.from_us,
        above_prompt_tokens=price.long_prompt and price.long_prompt.above_prompt_tokens,
        rates=tuple(
            _rates(price, terms, fast=fast, us_only=us_only, batch=batch, is_long=is_long)
            for fast, us_only, batch, is_long in ways
        ),
    )


def _rates(
    price: Price, terms: Terms, *, fast: bool, us_only: bool, batch: bool, is_long: bool
) -> Rates | None:
    if fast and batch:
        return None  # the provider offers no such combination, so no source gives its price
    name, card = _card(price, fast=fast, is_long=is_long)
    if card is None:
        return None
    multiplier = terms.batch if batch else _ONCE
    if us_only and price.us_surcharge:
        multiplier = _EXACT.multiply(multiplier, terms.us_only)
    prices = {f"{bucket}_tokens": _token(price, getattr(card, bucket), multiplier) for bucket in BUCKETS}
    prices["web_search_requests"] = _request(terms.server_tools.get(WEB_SEARCH))
    return Rates(
        card=name,
        unknown=tuple(field for field, attos in prices.items() if attos is None),
        **{field: attos or 0 for field, attos in prices.items()},
    )


def _card(price: Price, *, fast: bool, is_long: bool) -> tuple[CardName, Card | None]:
    if fast:
        return "fast", price.fast
    if is_long and price.long_prompt is not None:
        return "long_prompt", price.long_prompt.card
    return "standard", price.card


def _token(price: Price, usd_per_mtok: Decimal | None, multiplier: Decimal) -> Attos | None:
    if usd_per_mtok is None:
        return None
    return _whole_attos(_name(price), usd_per_mtok, multiplier, per=10**6)


def _request(tool: ServerTool | None) -> Attos | None:
    return None if tool is None else _whole_attos(WEB_SEARCH, tool.usd, _ONCE, per=tool.per)


def _whole_attos(where: str, usd: Decimal, multiplier: Decimal, *, per: int) -> Attos:
    if not usd.is_finite() or usd < 0:
        raise PriceDataError(where=where, why=f"{usd} is not a price")
    try:
        attos = _EXACT.multiply(usd.scaleb(18, _EXACT), multiplier)
        each, rest = _EXACT.divmod(attos, Decimal(per))
    except Inexact as error:
        raise PriceDataError(where=where, why=f"{usd} has too many digits") from error
    if rest:
        raise PriceDataError(where=where, why=f"{usd} is finer than an attodollar for each")
    return int(each)


def _name(price: Price) -> str:
    return price.model if price.effective_from is None else f"{price.model} from {price.effective_from}"


def _undated(model: str) -> str:
    """The id without a snapshot's date, as either provider writes it: `-20251001`, `-2025-08-07`."""
    if model[-9:-8] == "-" and model[-8:].isdecimal():
        return model[:-9]
    if _DATED.fullmatch(model[-11:]):
        return model[:-11]
    return model


_DATED: Final = re.compile(r"-\d{4}-\d\d-\d\d", re.ASCII)


def _items(line: UsageLine, rates: Rates | None) -> Iterable[CostItem]:
    for bucket in (*(f"{bucket}_tokens" for bucket in BUCKETS), "web_search_requests"):
        quantity = getattr(line.usage, bucket)
        if quantity:
            known = rates is not None and bucket not in rates.unknown
            yield CostItem(
                model=line.model,
                card=rates and rates.card,
                bucket=bucket,
                quantity=quantity,
                attos_each=getattr(rates, bucket) if known else None,
            )
