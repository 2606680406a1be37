"""`tierwise report`: where the money went, as a table for people or JSON for programs."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tierwise.cli.console import harmless, new_table, out, print_json, say
from tierwise.cli.options import DEFAULT_LEDGER, JsonOption, LedgerOption
from tierwise.engine.clock import now_us
from tierwise.money import Nanos, format_usd
from tierwise.stores.ledger import reports
from tierwise.stores.ledger.opening import read_ledger
from tierwise.stores.ledger.reports import By, Report, Totals, UnknownType

_UNITS: Final = {"m": 60, "h": 3600, "d": 86400, "w": 604800}


def report(
    by: Annotated[By, typer.Option("--by", help="What a line is.")] = "type",
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="WHEN",
            help="From the beginning of which hour: 24h, 7d, 2026-11-01, 2026-11-01T09:00 (UTC).",
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="WHEN", help="Up to the beginning of which, in the same forms."),
    ] = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Show what was spent and on what.

    Two baselines stand beside the spend: they price the same tokens at the frontier tier's model, and at the models
    that the callers asked for. They are naive: another model would have written replies of another length.

    A span has whole hours: both its ends are rounded down.

    Example: tierwise report --by agent --since 24h
    """
    at_us = now_us()
    with closing(read_ledger(ledger)) as reader:
        found = reports.report(
            reader,
            by=by,
            since_us=_moment(since, at_us=at_us, hint="--since"),
            until_us=_moment(until, at_us=at_us, hint="--until"),
        )
    if as_json:
        print_json(report_json(found))
    else:
        print_report(found, out)


def print_run_report(ledger: str, *, since_us: int, console: Console) -> None:
    """Print the report of one run by task type: what `tierwise run` ends with."""
    with closing(read_ledger(ledger)) as reader:
        print_report(reports.report(reader, since_us=since_us, exact=True), console)


def report_json(found: Report) -> dict[str, Any]:
    """Return a report with stable names; money in dollars, exactly, and None where unknown."""
    return {
        "by": found.by,
        "since_us": found.since_us,
        "until_us": found.until_us,
        "total": totals_json(found.total),
        "rows": [{"key": line.key, **totals_json(line.totals)} for line in found.lines],
        "unknown_types": [asdict(unknown) for unknown in found.unknown_types],
    }


def totals_json(totals: Totals) -> dict[str, Any]:
    """Return sums with stable names."""
    return {
        "calls": totals.calls,
        "finished": totals.finished,
        "failed": totals.failed,
        "open": totals.open,
        "unknown_cost_calls": totals.unknown_cost,
        "spend_usd": dollars(totals.cost_nanos),
        "unknown_at_least_usd": dollars(totals.at_least_nanos),
        "all_frontier_usd": dollars(totals.at_frontier_nanos),
        "as_asked_usd": dollars(totals.as_asked_nanos),
        "as_decided_usd": dollars(totals.as_decided_nanos),
        "input_tokens": totals.input_tokens,
        "cache_read_tokens": totals.cache_read_tokens,
        "cache_write_tokens": totals.cache_write_tokens,
        "output_tokens": totals.output_tokens,
        "cache_hit_share": totals.cache_hit_share,
        "truncated": totals.truncated,
        "truncated_share": totals.truncated_share,
        "truncation_waste_usd": dollars(totals.truncation_waste_nanos),
    }


def dollars(nanos: Nanos | None) -> Decimal | None:
    """Dollars, exactly; a JSON number with up to nine places."""
    return None if nanos is None else Decimal(nanos).scaleb(-9) if nanos else Decimal(0)


def print_report(found: Report, console: Console) -> None:
    """Print a report for people."""
    if found.total.calls == 0:
        say("No calls in this span.", console)
        return
    console.print(_table(found))
    for sentence in _remarks(found):
        say(sentence, console)


_COLUMNS: Final = (
    "calls",
    "spend",
    "share",
    "at frontier",
    "as asked",
    "cut",
    "waste",
    "cache hits",
    "output",
)


def _table(found: Report) -> Table:
    table = new_table(found.by, *_COLUMNS, numbers=_COLUMNS)
    for line in found.lines:
        table.add_row(Text(harmless(line.key)), *_cells(line.totals, found.total))
    if len(found.lines) > 1:
        table.add_section()
        table.add_row("total", *_cells(found.total, found.total), style="bold")
    return table


def _cells(mine: Totals, total: Totals) -> Sequence[str]:
    return (
        f"{mine.calls:,}",
        format_usd(mine.cost_nanos),
        _share(mine.cost_nanos / total.cost_nanos if total.cost_nanos else None),
        format_usd(mine.at_frontier_nanos),
        format_usd(mine.as_asked_nanos),
        _share(mine.truncated_share),
        format_usd(mine.truncation_waste_nanos),
        _share(mine.cache_hit_share),
        _count(mine.output_tokens),
    )


def _remarks(found: Report) -> list[str]:
    """What the table cannot say: the saving, what is unknown, what is not declared right."""
    total = found.total
    remarks: list[str] = []
    if total.as_decided_nanos is not None and total.as_decided_nanos < total.cost_nanos:
        remarks.append(
            "Observed, not acted on: as decided, the same tokens would have cost "
            f"{format_usd(total.as_decided_nanos)}."
        )
    for name, baseline in (
        ("everything on the frontier tier", total.at_frontier_nanos),
        ("as the callers asked", total.as_asked_nanos),
    ):
        if baseline:
            saved = 1 - total.cost_nanos / baseline
            remarks.append(f"Against {name}, at equal tokens: {_signed(saved)} of {format_usd(baseline)}.")
    if total.unknown_cost:
        remarks.append(
            f"{total.unknown_cost:,} calls have an unknown cost, of at least {format_usd(total.at_least_nanos)}; "
            "it is not in these sums."
        )
    if total.open:
        remarks.append(f"{total.open:,} calls have no ending: in flight, or lost with their gateway.")
    remarks.extend(_unknown(unknown) for unknown in found.unknown_types)
    return remarks


def _unknown(unknown: UnknownType) -> str:
    meant = "" if unknown.nearest is None else f"; {unknown.nearest} is the nearest that it knows"
    return f"{unknown.calls:,} calls declare the task type {unknown.name!r}, which the policy does not know{meant}."


def _signed(saved: float) -> str:
    return f"saved {saved:.1%}" if saved >= 0 else f"spent {-saved:.1%} more"


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _count(count: int) -> str:
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return str(count)


def _moment(text: str | None, *, at_us: int, hint: str) -> int | None:
    """A span back from now (24h, 7d) or a UTC time (2026-11-01, 2026-11-01T09:00) in microseconds since 1970."""
    if text is None:
        return None
    if text[:-1].isdigit() and text[-1:] in _UNITS:
        return at_us - int(timedelta(seconds=int(text[:-1]) * _UNITS[text[-1]]).total_seconds()) * 1_000_000
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is neither a span (24h, 7d) nor a time (2026-11-01T09:00)", param_hint=hint
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000
