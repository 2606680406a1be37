"""The provider's reports, as JSON and as CSV: bytes to `Charge`s.

JSON is what the provider's endpoints answer, under `/v1/organizations/`: `usage_report/messages` and `cost_report`
(https://platform.claude.com/docs/en/api/admin/usage_report, …/cost_report), and `analytics/usage` and
`analytics/cost` (https://platform.claude.com/docs/en/manage-claude/usage-cost-analytics-api). Amounts are decimal
strings in cents. Pages may come one after another, or as a list.

CSV is read by the names of its columns, `COLUMNS`: our own, or those of the exports of the console's pages for usage
and cost, whose amounts are in dollars. Fields and columns that are not known are ignored.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from tierwise.core.charges import SEARCHES, Charge
from tierwise.errors import MalformedReport
from tierwise.money import Nanos
from tierwise.usage import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderReport:
    """What one file says."""

    charges: tuple[Charge, ...]
    complete_until_us: int | None = None
    """Up to when its figures are complete, in microseconds since 1970 UTC; None where it does not say."""


def read_report(raw: bytes, *, file: str, at_list_prices: bool = False) -> ProviderReport:
    """Read a report, of whichever form: what begins with a brace or a bracket is JSON, the rest CSV.

    Args:
        raw: the file's bytes.
        file: its name, for errors.
        at_list_prices: whether amounts are taken before discounts, where the report tells both.

    Raises:
        MalformedReport: it is neither, or lacks what a charge needs.
    """
    place = _Place(file=file, where="the file", at_list_prices=at_list_prices)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise place.at(f"byte {error.start}").wrong("is not UTF-8", "Save the report as UTF-8.") from error
    if text.lstrip()[:1] in {"{", "["}:
        return _json_report(text, place)
    return ProviderReport(charges=_rounded(_csv_charges(text, place)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where in a report is being read, and how."""

    file: str
    where: str
    at_list_prices: bool

    def at(self, where: str) -> "_Place":
        return replace(self, where=where)

    def wrong(self, why: str, fix: str) -> MalformedReport:
        return MalformedReport(file=self.file, where=self.where, why=why, fix=fix)


class _CacheCreation(Struct):
    ephemeral_5m_input_tokens: Annotated[int, Meta(ge=0)] = 0
    ephemeral_1h_input_tokens: Annotated[int, Meta(ge=0)] = 0


class _ServerToolUse(Struct):
    web_search_requests: Annotated[int, Meta(ge=0)] = 0


class _Figures(Struct):
    """A result of a time bucket, or the figures of a row."""

    uncached_input_tokens: Annotated[int, Meta(ge=0)] | None = None
    cache_creation: _CacheCreation | None = None
    cache_read_input_tokens: Annotated[int, Meta(ge=0)] | None = None
    output_tokens: Annotated[int, Meta(ge=0)] | None = None
    server_tool_use: _ServerToolUse | None = None
    amount: Decimal | None = None
    list_amount: Decimal | None = None
    currency: str | None = None
    api_key_id: str | None = None
    model: str | None = None
    service_tier: str | None = None
    cost_type: str | None = None
    token_type: str | None = None


class _Row(Struct):
    """A time bucket with its results, or one row of the analytics endpoints."""

    starting_at: datetime
    ending_at: datetime
    results: list[_Figures] | None = None
    group: _Figures | None = None
    usage: _Figures | None = None
    cost: _Figures | None = None


class _Page(Struct):
    data: list[_Row]
    has_more: bool | None = None
    data_refreshed_at: datetime | None = None


_BUCKETS: Final[Mapping[str, str]] = {
    "uncached_input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_input_tokens": "cache_read_tokens",
    "cache_creation.ephemeral_5m_input_tokens": "cache_write_5m_tokens",
    "cache_creation.ephemeral_1h_input_tokens": "cache_write_1h_tokens",
    "input_no_cache": "input_tokens",
    "output": "output_tokens",
    "input_cache_read": "cache_read_tokens",
    "input_cache_write_5m": "cache_write_5m_tokens",
    "input_cache_write_1h": "cache_write_1h_tokens",
    "web_search": SEARCHES,
}
"""Our name of a bucket, by the endpoints' names and the console's."""

_ENDPOINTS: Final = (
    "Give the whole answer of usage_report/messages, cost_report, analytics/usage or analytics/cost."
)


def _json_report(text: str, place: _Place) -> ProviderReport:
    pages = list(_pages(text, place))
    if pages and pages[-1].has_more:
        raise place.at("the last page").wrong(
            "has_more is true: pages are missing",
            "Fetch the rest with page=<next_page>, and append it to the file.",
        )
    for number, page in enumerate(pages):
        if page.data and page in pages[:number]:
            raise place.at(f"page {number + 1}").wrong("is there twice", "Give each page once.")
    charges = [
        charge
        for page_number, page in enumerate(pages, 1)
        for row_number, row in enumerate(page.data)
        for charge in _row_charges(row, place.at(f"page {page_number}, data[{row_number}]"))
    ]
    refreshed = [_us(page.data_refreshed_at) for page in pages if page.data_refreshed_at is not None]
    return ProviderReport(charges=_rounded(charges), complete_until_us=min(refreshed, default=None))


def _pages(text: str, place: _Place) -> Iterator[_Page]:
    decoder = json.JSONDecoder(parse_float=Decimal)
    start = _next(text, 0)
    while start < len(text):
        try:
            value, end = decoder.raw_decode(text, start)
        except (json.JSONDecodeError, RecursionError) as error:
            line = text.count("\n", 0, getattr(error, "pos", start)) + 1
            raise place.at(f"line {line}").wrong(f"is not JSON: {error}", _ENDPOINTS) from error
        yield from _checked(value, place)
        start = _next(text, end)


def _next(text: str, start: int) -> int:
    """Where the next value begins."""
    return len(text) - len(text[start:].lstrip())


def _checked(value: Any, place: _Place) -> list[_Page]:
    """The page that a value is, or the pages that it lists."""
    try:
        if isinstance(value, list):
            return msgspec.convert(value, list[_Page])
        return [msgspec.convert(value, _Page)]
    except msgspec.ValidationError as error:
        why, _, where = str(error).partition(" - at ")
        raise place.at(where.strip("`") or "a page").wrong(why, _ENDPOINTS) from error


def _row_charges(row: _Row, place: _Place) -> Iterator[Charge]:
    day = _day(row, place)
    if row.results is not None:
        for number, figures in enumerate(row.results):
            yield from _charges(figures, figures, day, place.at(f"{place.where}.results[{number}]"))
        return
    group = row.group or _Figures()
    for figures in (row.usage, row.cost):
        if figures is not None:
            yield from _charges(group, figures, day, place)


def _day(row: _Row, place: _Place) -> date:
    if row.starting_at.tzinfo is None or row.ending_at.tzinfo is None:
        raise place.wrong("its times have no time zone", "Times are RFC 3339, in UTC.")
    start = row.starting_at.astimezone(UTC)
    last = row.ending_at.astimezone(UTC) - timedelta(microseconds=1)
    if last.date() != start.date():
        raise place.wrong(
            f"covers more than one day: {start:%Y-%m-%d} to {last:%Y-%m-%d}",
            "Ask for bucket_width=1d, or time_bucket_width=1d of the analytics endpoints.",
        )
    return start.date()


def _charges(group: _Figures, figures: _Figures, day: date, place: _Place) -> Iterator[Charge]:
    """The charge of a result or a row; none where it counts nothing."""
    usage = _usage(figures)
    listed = place.at_list_prices and figures.list_amount is not None
    amount = figures.list_amount if listed else figures.amount
    _check_figures(group, figures, usage, amount, place)
    if group.model is None and usage == Usage() and amount is None:
        return
    bucket = group.token_type or (group.cost_type if group.cost_type != "tokens" else None)
    yield Charge(
        day=day,
        key=group.api_key_id,
        model=group.model,
        usage=usage,
        cost_nanos=None if amount is None else _nanos(amount, 7, place),
        rounding_nanos=0 if amount is None else _last_place(amount, 7),
        bucket=_BUCKETS.get(bucket, bucket) if bucket else None,
        batch=group.service_tier == "batch",
    )


def _check_figures(
    group: _Figures, figures: _Figures, usage: Usage | None, amount: Decimal | None, place: _Place
) -> None:
    if usage is None and amount is None:
        raise place.wrong("has neither tokens nor an amount", _ENDPOINTS)
    if figures.currency not in (None, "USD"):
        raise place.wrong(f"is in {figures.currency}", "Only US dollars are compared.")
    counts_something = amount is not None or usage != Usage()
    if group.model is None and group.cost_type in (None, "tokens") and counts_something:
        raise place.wrong(
            "names no model", "Ask for group_by[]=model; for cost_report, group_by[]=description."
        )


def _usage(figures: _Figures) -> Usage | None:
    if figures.uncached_input_tokens is None and figures.output_tokens is None:
        return None
    written = figures.cache_creation or _CacheCreation()
    return Usage(
        input_tokens=figures.uncached_input_tokens or 0,
        cache_write_5m_tokens=written.ephemeral_5m_input_tokens,
        cache_write_1h_tokens=written.ephemeral_1h_input_tokens,
        cache_read_tokens=figures.cache_read_input_tokens or 0,
        output_tokens=figures.output_tokens or 0,
        web_search_requests=figures.server_tool_use.web_search_requests if figures.server_tool_use else 0,
    )


def _us(moment: datetime) -> int:
    return (moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


_LARGEST: Final = 15
"""Digits before the point of an amount: more is no money."""


def _nanos(amount: Decimal, places: int, place: _Place) -> Nanos:
    """Whole nanodollars, ties to even; `places` is 7 for cents and 9 for dollars."""
    if not amount.is_finite() or amount.adjusted() >= _LARGEST:
        raise place.wrong(f"{amount} is no amount", "Write it as a decimal number.")
    return int(amount.scaleb(places).to_integral_value(ROUND_HALF_EVEN))


def _last_place(amount: Decimal, places: int) -> Nanos:
    """One unit of the amount's last place, in nanodollars; 2 where it is finer than one, and was rounded here."""
    exponent = amount.as_tuple().exponent
    assert isinstance(exponent, int)
    return 10 ** (exponent + places) if exponent + places >= 0 else 2


def _rounded(charges: Iterable[Charge]) -> tuple[Charge, ...]:
    """The charges, each with half a unit of the finest place that the file's amounts have: how it rounds.

    Until here `rounding_nanos` holds the unit of each amount's own last place, which trailing zeros may hide.
    """
    found = tuple(charges)
    finest = min((each.rounding_nanos for each in found if each.cost_nanos is not None), default=0)
    return tuple(
        replace(each, rounding_nanos=0 if each.cost_nanos is None else finest // 2) for each in found
    )


COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "day": ("day", "usage_date_utc"),
    "api_key": ("api_key_id", "api_key"),
    "model": ("model", "model_version"),
    "input_tokens": ("input_tokens", "usage_input_tokens_no_cache"),
    "cache_write_5m_tokens": ("cache_write_5m_tokens", "usage_input_tokens_cache_write_5m"),
    "cache_write_1h_tokens": ("cache_write_1h_tokens", "usage_input_tokens_cache_write_1h"),
    "cache_read_tokens": ("cache_read_tokens", "usage_input_tokens_cache_read"),
    "output_tokens": ("output_tokens", "usage_output_tokens"),
    "web_search_requests": ("web_searches", "web_search_count"),
    "cost": ("cost_usd",),
    "list_cost": ("list_price_usd",),
    "bucket": ("token_type",),
    "cost_type": ("cost_type",),
    "kind": ("usage_type",),
}
"""The names that a column of CSV may have, ours first but for the key, whose id goes before its name."""

_COUNTS: Final = (
    "input_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "cache_read_tokens", "output_tokens",
    "web_search_requests",
)  # fmt: skip
_CSV: Final = (
    "The first line names the columns: day, model, and cost_usd or tokens (input_tokens, output_tokens, …)."
)


def _csv_charges(text: str, place: _Place) -> Iterator[Charge]:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = _columns(rows.fieldnames or (), place.at("line 1"))
        for row in rows:
            here = place.at(f"line {rows.line_num}")
            if None in row or None in row.values():
                raise here.wrong("has another number of fields than the first line", "Quote what has commas.")
            yield _csv_charge({field: row[name].strip() for field, name in columns.items()}, here)
    except csv.Error as error:
        raise place.at(f"after line {rows.line_num}").wrong(str(error), _CSV) from error


def _columns(names: Iterable[str], place: _Place) -> dict[str, str]:
    """The file's name of each known column that it has."""
    there = {name.strip().lower(): name for name in names}
    columns = {
        field: there[found]
        for field, known in COLUMNS.items()
        if (found := next((name for name in known if name in there), None))
    }
    lacking = [field for field in ("day", "model") if field not in columns]
    if not {"cost", *_COUNTS} & columns.keys():
        lacking.append("cost_usd")
    if lacking:
        raise place.wrong(f"there is no column {lacking[0]}", _CSV)
    return columns


def _csv_charge(cells: Mapping[str, str], place: _Place) -> Charge:
    listed = place.at_list_prices and cells.get("list_cost")
    amount = _decimal(listed or cells.get("cost", ""), place)
    counts = {name: _count(cells[name], place) for name in _COUNTS if name in cells}
    cost_type = cells.get("cost_type", "").lower()
    bucket = cells.get("bucket") or (cost_type if cost_type not in ("token", "tokens") else "")
    model = cells["model"].lower().replace(" ", "-").replace(".", "-") or None
    if model is None and not bucket:
        raise place.wrong("names no model", "Fill in the model's id.")
    return Charge(
        day=_csv_day(cells["day"], place),
        key=cells.get("api_key") or None,
        model=model,
        usage=Usage(**counts) if counts else None,
        cost_nanos=None if amount is None else _nanos(amount, 9, place),
        rounding_nanos=0 if amount is None else _last_place(amount, 9),
        bucket=_BUCKETS.get(bucket, bucket) if bucket else None,
        batch=cells.get("kind") == "batch",
    )


def _csv_day(cell: str, place: _Place) -> date:
    try:
        return date.fromisoformat(cell[:10])
    except ValueError as error:
        raise place.wrong(f"{cell!r} is no day", "Write it as 2026-11-20, in UTC.") from error


def _count(cell: str, place: _Place) -> int:
    if not cell:
        return 0
    if not (cell.isascii() and cell.isdigit() and len(cell) <= _LARGEST):
        raise place.wrong(f"{cell!r} is no number of tokens", "Write whole numbers, without separators.")
    return int(cell)


def _decimal(cell: str, place: _Place) -> Decimal | None:
    if not cell:
        return None
    try:
        return Decimal(cell)
    except InvalidOperation as error:
        raise place.wrong(f"{cell!r} is no amount", "Write dollars as a decimal number: 1.25.") from error
