"""`tierwise audit run`: the audit of pairs that were recorded anywhere, with no gateway, policy or ledger."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import typer
from rich.table import Table
from rich.text import Text

from tierwise.audit.recorded import Concluded, conclude
from tierwise.audit.verdicts import CHECKED_MARGIN
from tierwise.cli.console import err, harmless, new_table, out, print_json, say
from tierwise.cli.options import JsonOption
from tierwise.cli.report import dollars
from tierwise.engine.offline import Gathered, gather
from tierwise.money import format_usd


def share(text: str, *, most: float) -> float:
    """Read a share of one, or points where it is 1 or more: 0.03 and 3 are the same."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    value = number / 100 if number >= 1 else number
    if not 0 < value < most or number >= 100:
        raise typer.BadParameter(f"{text} is not above 0 and below {most}; 0.03, or 3, is three points")
    return value


def _margin(text: str) -> float:
    return share(text, most=0.39)


def _error(text: str) -> float:
    return share(text, most=0.5)


def run_(
    file: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="FILE",
            help="The pairs, a JSON object a line; - reads them from standard input.",
        ),
    ],
    margin: Annotated[
        float,
        typer.Option(parser=_margin, metavar="POINTS", help="The loss of quality that counts as none."),
    ] = CHECKED_MARGIN,
    error: Annotated[
        float,
        typer.Option(parser=_error, metavar="PERCENT", help="The share of claims that may be wrong."),
    ] = 0.05,
    keep_going: Annotated[
        bool,
        typer.Option("--keep-going", help="Count lines that cannot be used as pairs that nobody can judge."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Audit pairs that were recorded elsewhere.

    A line of the file is a task that both tiers did: {"task_type", "cluster", "cheap": {"quality", "cost_usd"},
    "frontier": {"quality", "cost_usd"}}, with quality from 0 to 1, null where nobody can say. Of each cluster, a
    session or a repository for example, the first pair counts. The file may grow and be audited again.

    Example: tierwise audit run --from pairs.jsonl --margin 3
    """
    with ExitStack() as stack:
        lines: BinaryIO = sys.stdin.buffer if file == "-" else stack.enter_context(Path(file).open("rb"))
        found = gather(lines, file=file, keep_going=keep_going)
    concluded = conclude(found.types, margin=margin, alpha=error)
    for problem in found.problems:
        say(problem.describe(), err)
    if as_json:
        print_json(_json(found, concluded, margin=margin, error=error))
    else:
        _print(found, concluded, error=error)


def _json(
    found: Gathered, concluded: tuple[Concluded, ...], *, margin: float, error: float
) -> dict[str, Any]:
    return {
        "margin": margin,
        "error": error,
        "lines": found.lines,
        "pairs": sum(one.recorded.pairs for one in concluded),
        "same_cluster": sum(one.recorded.left_out for one in concluded),
        "without_cluster": found.alone,
        "unusable_lines": found.bad,
        "unusable_lines_of_no_type": found.nowhere,
        "types": [_row(one) for one in concluded],
    }


def _row(one: Concluded) -> Mapping[str, Any]:
    recorded, saved, costs = one.recorded, one.saved, one.recorded.costs
    return {
        "task_type": one.task_type,
        "verdict": one.verdict.value,
        "mean_difference": recorded.mean,
        "interval": [one.interval.low, one.interval.high],
        "pairs": recorded.pairs,
        "undecided": recorded.undecided,
        "same_cluster": recorded.left_out,
        "probability_safe": one.probability_safe,
        "needless_usd_per_task": None if saved is None else dollars(saved.nanos),
        "needless_usd_per_task_interval": None
        if saved is None
        else [dollars(saved.low_nanos), dollars(saved.high_nanos)],
        "frontier_usd_per_task": dollars(costs.dear_nanos // costs.pairs) if costs.pairs else None,
        "cheap_usd_per_task": dollars(costs.cheap_nanos // costs.pairs) if costs.pairs else None,
        "costed_pairs": costs.pairs,
        "more_pairs": one.more_pairs,
    }


_NUMBERS: Final = ("pairs", "open", "same cluster", "difference", "more pairs")
_COLUMNS: Final = (
    "type",
    "pairs",
    "open",
    "same cluster",
    "verdict",
    "difference",
    "saved a task",
    "more pairs",
)


def _print(found: Gathered, concluded: tuple[Concluded, ...], *, error: float) -> None:
    if concluded:
        table: Table = new_table(*_COLUMNS, numbers=_NUMBERS)
        for one in concluded:
            table.add_row(*(Text(harmless(cell)) for cell in _cells(one)))
        out.print(table)
    for sentence in _remarks(found, concluded, error=error):
        say(sentence)


def _cells(one: Concluded) -> Iterator[str]:
    recorded, saved = one.recorded, one.saved
    yield one.task_type
    yield f"{recorded.pairs:,}"
    yield f"{recorded.undecided:,}" if recorded.undecided else ""
    yield f"{recorded.left_out:,}" if recorded.left_out else ""
    yield one.verdict.value
    mean = "" if recorded.mean is None else f"{recorded.mean:+.3f} "
    yield f"{mean}({one.interval.low:+.3f} to {one.interval.high:+.3f})"
    yield (
        ""
        if saved is None
        else (
            f"{format_usd(saved.nanos, places=4)} "
            f"({format_usd(saved.low_nanos, places=4)} to {format_usd(saved.high_nanos, places=4)})"
        )
    )
    yield "" if one.more_pairs is None else f"{one.more_pairs:,}"


def _remarks(found: Gathered, concluded: tuple[Concluded, ...], *, error: float) -> Iterator[str]:
    if not concluded:
        yield "No pairs."
        return
    yield f"Of all claims proven, {100 * error:g} % are expected to be wrong at the most, however often you look."
    left_out = sum(one.recorded.left_out for one in concluded)
    if left_out:
        yield (
            f"{left_out:,} further pairs of clusters that have theirs are left out: they are no independent evidence."
        )
    if found.alone:
        yield f"{found.alone:,} pairs name no cluster and are taken as independent: if they are not, no claim holds."
    if any(one.recorded.undecided for one in concluded):
        yield "Open pairs lack a quality, and count at their worst for either claim."
    if found.bad:
        yield (
            f"{found.bad:,} lines cannot be used: {found.bad - found.nowhere:,} count as open pairs, "
            f"{found.nowhere:,} name no task type and are in none."
        )
