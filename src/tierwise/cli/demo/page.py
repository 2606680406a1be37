"""The demo's last page: where the money goes, for a person in a minute; and the same for programs."""

from decimal import Decimal
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tierwise.cli.console import new_table
from tierwise.cli.demo.figures import Figures, TypeFigures
from tierwise.cli.report import dollars
from tierwise.money import Nanos, format_usd

DEAREST: Final = 5
PAIR_NAMES: Final = {"5.5": "Opus 5.5 and Haiku 5.5", "4.6": "Opus 4.6 and Haiku 4.5"}
_BAR: Final = 32


def print_page(figures: Figures, console: Console) -> None:
    """Print the page."""
    console.print()
    console.rule("Where the money of this day went")
    console.print(_spend(figures))
    console.print(_saving(figures))
    console.print()
    console.print(_dearest(figures))
    console.print(_overpaying(figures))
    console.print()
    console.print(_pairs(figures))
    console.print()
    console.print(_caps(figures))
    console.print(_latency(figures))
    console.print(_witness(figures))


def page_json(figures: Figures) -> dict[str, Any]:
    """Return the page's figures with stable names; money in dollars, exactly."""
    total = figures.report.total
    return {
        "tasks": figures.tasks,
        "calls": total.calls,
        "agents": figures.agents,
        "seconds": round(figures.seconds, 2),
        "spend_usd": {
            "all_frontier": dollars(total.at_frontier_nanos),
            "as_asked": dollars(total.as_asked_nanos),
            "routed": dollars(figures.routed_nanos),
            "provider_total": dollars(figures.provider_total_nanos),
        },
        "agrees_with_provider": figures.agree,
        "saving_share": figures.saving_share,
        "pairs": {
            pair.name: {
                "all_frontier_usd": dollars(pair.all_frontier_nanos),
                "routed_usd": dollars(pair.routed_nanos),
                "all_fast_usd": dollars(pair.all_fast_nanos),
            }
            for pair in figures.pairs
        },
        "caps": {
            "truncated": total.truncated,
            "truncated_share": total.truncated_share,
            "truncation_waste_usd": dollars(total.truncation_waste_nanos),
            "output_tokens_not_run": figures.tokens_not_run,
            "not_run_usd": dollars(figures.nanos_not_run),
        },
        "by_type": [_type_json(line) for line in figures.types],
        "added_ms": dict(figures.added_ms),
    }


def _type_json(line: TypeFigures) -> dict[str, Any]:
    return {
        "type": line.name,
        "tier": line.tier,
        "calls": line.calls,
        "spend_usd": dollars(line.spend_nanos),
        "as_asked_usd": dollars(line.as_asked_nanos),
        "at_fast_usd": dollars(line.at_fast_nanos),
        "needs_frontier_planted": line.needs_frontier,
        "truncated": line.truncated,
        "truncation_waste_usd": dollars(line.truncation_waste_nanos),
    }


def _spend(figures: Figures) -> Table:
    """Three ways to run the same day, as bars."""
    total = figures.report.total
    table = Table(box=None, show_header=False, padding=(0, 1))
    most = max(total.at_frontier_nanos or 0, total.as_asked_nanos or 0, figures.routed_nanos, 1)
    for name, nanos, style in (
        ("everything on the frontier tier", total.at_frontier_nanos, "red"),
        ("as the callers asked before", total.as_asked_nanos, "yellow"),
        ("routed by the policy", figures.routed_nanos, "green"),
    ):
        table.add_row(
            name, Text(format_usd(nanos), justify="right"), Text(_bar(nanos or 0, most), style=style)
        )
    return table


def _bar(nanos: Nanos, most: Nanos) -> str:
    return "█" * max(1, round(_BAR * nanos / most))


def _saving(figures: Figures) -> str:
    if figures.saving_share is None:
        return "What the callers asked for has no price, so there is no saving to tell."
    return (
        f"[bold]{figures.saving_share:.1%} saved[/bold] against what the callers asked for, at equal tokens: "
        f"{figures.report.total.calls:,} calls of {figures.tasks:,} tasks by {figures.agents} agents "
        f"in {figures.seconds:.0f} s."
    )


def _dearest(figures: Figures) -> Table:
    numbers = ("calls", "spend", "share", "at fast", "cut")
    table = new_table("task type", "tier", *numbers, "needs it", numbers=numbers)
    table.title, table.title_justify = f"The {DEAREST} dearest task types", "left"
    for line in figures.types[:DEAREST]:
        table.add_row(
            line.name,
            line.tier,
            f"{line.calls:,}",
            format_usd(line.spend_nanos),
            f"{line.spend_nanos / figures.routed_nanos:.1%}" if figures.routed_nanos else "",
            format_usd(line.at_fast_nanos),
            str(line.truncated),
            {True: "yes", False: "no", None: ""}[line.needs_frontier],
        )
    return table


def _overpaying(figures: Figures) -> str:
    """What the over-classified types cost too much, by the fleet's planted truth."""
    overpaying = figures.overpaying
    spend = sum(line.spend_nanos for line in overpaying)
    at_fast = sum(line.at_fast_nanos for line in overpaying)
    if not spend or not figures.routed_nanos:
        return "No task type is on the frontier tier without needing it."
    return (
        f"{len(overpaying)} of the {sum(line.tier == 'frontier' for line in figures.types)} task types that their "
        f"teams tagged frontier do not need it: {spend / figures.routed_nanos:.0%} of the spend, "
        f"{format_usd(spend)}; the same tokens on the fast tier: {format_usd(at_fast)}.\n"
        "Here that is known, because the fleet's file planted it. Of a real fleet no bill tells it: answers have to "
        "be compared."
    )


def _pairs(figures: Figures) -> Table:
    numbers = ("all frontier", "routed", "saved")
    table = new_table("the same calls at", *numbers, numbers=numbers)
    for pair in figures.pairs:
        saved = 1 - pair.routed_nanos / pair.all_frontier_nanos if pair.all_frontier_nanos else 0.0
        table.add_row(
            PAIR_NAMES[pair.name],
            format_usd(pair.all_frontier_nanos),
            format_usd(pair.routed_nanos),
            f"{saved:.1%}",
        )
    return table


def _caps(figures: Figures) -> str:
    total = figures.report.total
    return (
        f"Caps: {total.truncated:,} replies were cut ({(total.truncated_share or 0):.2%}) and cost "
        f"{format_usd(total.truncation_waste_nanos)}; by the provider's count they would have run on for "
        f"{figures.tokens_not_run:,} tokens, {format_usd(figures.nanos_not_run)}."
    )


def _latency(figures: Figures) -> str:
    shown = ", ".join(
        f"{name} {value:.2f} ms"
        for name, value in figures.added_ms.items()
        if value is not None and name != "p90"
    )
    return f"Added by the gateway to a call, from its last byte in to its last byte out: {shown}."


def _witness(figures: Figures) -> str:
    ledger, provider = (
        Decimal(figures.routed_nanos).scaleb(-9),
        Decimal(figures.provider_total_nanos).scaleb(-9),
    )
    if figures.agree:
        return (
            f"The provider's own total is ${provider:,.9f} over {figures.provider_calls:,} calls; "
            "the ledger agrees [bold]to the nanodollar[/bold]."
        )
    return (
        f"[bold red]The ledger has ${ledger:,.9f} over {figures.report.total.finished:,} finished calls, the "
        f"provider ${provider:,.9f} over {figures.provider_calls:,}: they disagree.[/bold red]"
    )
