"""Prices as files hold them: the package's own data, and the policy's `[[prices]]` that go before it.

Both are TOML tables with the same keys, read by the same functions:

    model = "claude-haiku-5-5"
    from = 2026-10-07                    # absent: since the model's release
    input_usd_per_mtok = "0.10"          # and output_, cache_read_, cache_write_5m_, cache_write_1h_
    us_surcharge = true                  # whether US-only inference costs more
    source = "where the figures come from"
    long_prompt = { above_prompt_tokens = 100000, input_usd_per_mtok = "0.50" }  # and the other four
    fast = { }                           # all five again, for models with fast mode

The package's tables are complete. The policy's name only what they change, and the rest stays as it is
known, day by day.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import cache
from hashlib import sha256
from importlib import resources
from tomllib import TOMLDecodeError, loads
from typing import Final, TypeAlias, cast

from tierwise.core.pricing import BUCKETS, WEB_SEARCH, Card, LongPrompt, Price, PriceBook, ServerTool, Terms
from tierwise.errors import PriceDataError
from tierwise.names import nearest

Table: TypeAlias = Mapping[str, object]
"""One table of a TOML file, as `tomllib` reads it."""

PRICE_FILE: Final = "prices.toml"
"""Name of the package's own data, in `tierwise.data`."""


@cache
def shipped_prices() -> PriceBook:
    """Return the prices that the package was made with."""
    text = resources.files("tierwise.data").joinpath(PRICE_FILE).read_text(encoding="utf-8")
    return prices_from_toml(text, source=PRICE_FILE)


def prices_from_toml(text: str, *, source: str) -> PriceBook:
    """Read a whole price file; `source` names it in errors.

    The book's version is the file's date and the first eight digits of the SHA-256 of its bytes.

    Raises:
        PriceDataError: the text is not such a file; the error names the row.
    """
    try:
        top = _Row(where=source, table=loads(text))
    except TOMLDecodeError as error:
        raise PriceDataError(where=source, why=str(error)) from error
    top.allow(("date", "price", "modifier", "server_tool"))
    day = top.day("date")
    if day is None:
        raise top.wrong("`date` is missing")
    return PriceBook(
        [_complete(row) for row in top.rows("price")],
        terms=_terms(top),
        version=f"{day}-{sha256(text.encode()).hexdigest()[:8]}",
    )


def price_overrides(tables: Sequence[Table], *, known: PriceBook | None = None) -> list[Price]:
    """Read a policy's `[[prices]]`, for `PriceBook.with_overrides`.

    A table says what holds from its day on, or always where it names none. What it leaves out is as
    `known` has it, each later change of it included; `known` is the package's data where it is not given. A
    model that is not known needs its input and output prices; its other buckets stay unknown.

    Raises:
        PriceDataError: a table is wrong; the error names it.
    """
    book = shipped_prices() if known is None else known
    timelines: dict[str, _Timeline] = {}
    for row in _by_day(_Row(where="", table={"prices": [*tables]}).rows("prices")):
        model = book.resolve(row.text("model")) or row.text("model")
        timeline = timelines.get(model) or _Timeline(prices=_known(book, model), days=())
        timelines[model] = _patched(timeline, row, model)
    return [price for timeline in timelines.values() for price in timeline.own()]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A table and its place in the file."""

    where: str
    table: Table

    def wrong(self, why: str) -> PriceDataError:
        """The error that names this row."""
        return PriceDataError(where=self.where, why=why)

    def allow(self, names: Collection[str]) -> None:
        """Refuse every key that is not one of `names`."""
        for name in self.table:
            if name not in names:
                close = nearest(name, names)
                raise self.wrong(f"unknown key `{name}`" + (f"; did you mean `{close}`?" if close else ""))

    def rows(self, name: str) -> list["_Row"]:
        """The tables of an array of tables."""
        found = self.table.get(name, [])
        if not isinstance(found, list):
            raise self.wrong(f"`{name}` is an array of tables: write [[{name}]]")
        rows = enumerate(cast("list[object]", found), start=1)
        return [self._row(f"[[{name}]] {number}", table) for number, table in rows]

    def inner(self, name: str) -> "_Row | None":
        """The table that a key holds."""
        return self._row(f"`{name}`", self.table[name]) if name in self.table else None

    def text(self, name: str) -> str:
        """A string, which must be there."""
        found = self.table.get(name)
        if not isinstance(found, str) or not found:
            raise self.wrong(f"`{name}` must be there, as a string")
        return found

    def flag(self, name: str, *, absent: bool) -> bool:
        """True or false."""
        found = self.table.get(name, absent)
        if not isinstance(found, bool):
            raise self.wrong(f"`{name}` must be true or false")
        return found

    def count(self, name: str, absent: int | None = None) -> int:
        """A whole number above zero."""
        found = self.table.get(name, absent)
        if not isinstance(found, int) or isinstance(found, bool) or found <= 0:
            raise self.wrong(f"`{name}` must be a whole number above zero")
        return found

    def day(self, name: str) -> date | None:
        """A date without a time: prices change when a day begins in UTC."""
        found = self.table.get(name)
        if found is not None and type(found) is not date:
            raise self.wrong(f"`{name}` must be a date without a time, such as 2026-10-07")
        return found

    def number(self, name: str) -> Decimal | None:
        """An exact number; a TOML float is not one."""
        found = self.table.get(name)
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, str | int):
            raise self.wrong(f'`{name}` is {found!r}: write an exact number as a string, such as "4.00"')
        try:
            amount = Decimal(found)
        except InvalidOperation as error:
            raise self.wrong(f"`{name}` is {found!r}, which is not a number") from error
        if not amount.is_finite() or not 0 <= amount <= _LARGEST:
            raise self.wrong(f"`{name}` is {found!r}, which is not a price")
        if amount != round(amount, _DECIMALS):
            raise self.wrong(f"`{name}` is {found!r}, which has more than {_DECIMALS} decimals")
        return amount

    def needed(self, name: str) -> Decimal:
        """An exact number, which must be there."""
        amount = self.number(name)
        if amount is None:
            raise self.wrong(f"`{name}` is missing")
        return amount

    def _row(self, place: str, table: object) -> "_Row":
        where = f"{self.where}: {place}" if self.where else place
        if not isinstance(table, Mapping):
            raise PriceDataError(where=where, why="is not a table")
        table = cast("Table", table)
        label = table.get("model", table.get("name"))
        return _Row(where=f"{where} ({label})" if isinstance(label, str) else where, table=table)


_LARGEST: Final = 1_000_000
_DECIMALS: Final = 9  # with the multipliers' own, still a whole number of attodollars a token
_CARD_KEYS: Final = tuple(f"{bucket}_usd_per_mtok" for bucket in BUCKETS)
_PRICE_KEYS: Final = ("model", "from", "source", "us_surcharge", "long_prompt", "fast", *_CARD_KEYS)


def _price(row: _Row, *, effective_from: date | None, known: Price | None, model: str | None = None) -> Price:
    """Read one price; what the row leaves out is as `known` has it."""
    row.allow(_PRICE_KEYS)
    return Price(
        model=model or row.text("model"),
        effective_from=effective_from,
        card=_card(row, known and known.card),
        long_prompt=_long_prompt(row.inner("long_prompt"), known and known.long_prompt),
        fast=_fast(row.inner("fast"), known and known.fast),
        us_surcharge=row.flag("us_surcharge", absent=known is None or known.us_surcharge),
        source=_source(row, known),
    )


def _card(row: _Row, known: Card | None) -> Card:
    base = known or Card()
    found = {bucket: row.number(key) for bucket, key in zip(BUCKETS, _CARD_KEYS, strict=True)}
    return Card(**{bucket: getattr(base, bucket) if usd is None else usd for bucket, usd in found.items()})


def _long_prompt(row: _Row | None, known: LongPrompt | None) -> LongPrompt | None:
    if row is None:
        return known
    row.allow(("above_prompt_tokens", *_CARD_KEYS))
    return LongPrompt(
        above_prompt_tokens=row.count("above_prompt_tokens", known and known.above_prompt_tokens),
        card=_card(row, known and known.card),
    )


def _fast(row: _Row | None, known: Card | None) -> Card | None:
    if row is None:
        return known
    row.allow(_CARD_KEYS)
    return _card(row, known)


def _source(row: _Row, known: Price | None) -> str:
    source = row.text("source") if "source" in row.table else "the policy"
    return source if known is None else f"{source}; otherwise {known.source}"


def _complete(row: _Row) -> Price:
    """Read a row of a whole file: no card of it may have a hole, and it says where it comes from."""
    row.text("source")
    price = _price(row, effective_from=row.day("from"), known=None)
    cards = (price.card, price.fast, price.long_prompt and price.long_prompt.card)
    for card in (card for card in cards if card is not None):
        for bucket in BUCKETS:
            if getattr(card, bucket) is None:
                raise row.wrong(f"a card has no `{bucket}_usd_per_mtok`")
    return price


def _terms(top: _Row) -> Terms:
    modifiers = {row.text("name"): _multiplier(row) for row in top.rows("modifier")}
    tools = {row.text("name"): _server_tool(row) for row in top.rows("server_tool")}
    for name in ("batch", "us_only"):
        if name not in modifiers:
            raise top.wrong(f"no [[modifier]] is named {name}")
    if WEB_SEARCH not in tools:
        raise top.wrong(f"no [[server_tool]] is named {WEB_SEARCH}")
    return Terms(batch=modifiers["batch"], us_only=modifiers["us_only"], server_tools=tools)


def _multiplier(row: _Row) -> Decimal:
    row.allow(("name", "multiplier", "source"))
    row.text("source")
    return row.needed("multiplier")


def _server_tool(row: _Row) -> ServerTool:
    row.allow(("name", "usd", "per", "unit", "source"))
    row.text("source")
    return ServerTool(usd=row.needed("usd"), per=row.count("per"), unit=row.text("unit"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Timeline:
    """One model's prices in the order of their days, and the days on which the policy changes them."""

    prices: tuple[Price, ...]
    days: tuple[date | None, ...]

    def own(self) -> Iterable[Price]:
        """The policy's part: all from its first day on."""
        return (price for price in self.prices if _day(price.effective_from) >= _day(self.days[0]))


def _day(effective_from: date | None) -> date:
    return effective_from or date.min


def _by_day(rows: list[_Row]) -> list[_Row]:
    return sorted(rows, key=lambda row: _day(row.day("from")))


def _known(book: PriceBook, model: str) -> tuple[Price, ...]:
    prices = (price for price in book.prices if price.model == model)
    return tuple(sorted(prices, key=lambda price: _day(price.effective_from)))


def _patched(timeline: _Timeline, row: _Row, model: str) -> _Timeline:
    """Let the row hold from its day on: over the price in force then, and over each that follows."""
    day = row.day("from")
    if day in timeline.days:
        raise row.wrong("two tables for one model begin on the same day")
    before = [price for price in timeline.prices if _day(price.effective_from) <= _day(day)]
    after = [price for price in timeline.prices if _day(price.effective_from) > _day(day)]
    in_force = before[-1] if before else None
    first = _price(row, effective_from=day, known=in_force, model=model)
    if first.card.input is None or first.card.output is None:
        raise row.wrong("a model without known prices needs `input_usd_per_mtok` and `output_usd_per_mtok`")
    if in_force is not None and in_force.effective_from == day:
        before.pop()
    later = [_price(row, effective_from=price.effective_from, known=price, model=model) for price in after]
    return _Timeline(prices=(*before, first, *later), days=(*timeline.days, day))
