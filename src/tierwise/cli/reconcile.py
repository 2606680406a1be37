"""`tierwise ledger reconcile`: the ledger beside the provider's own report, and what the report settles."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.table import Table
from rich.text import Text

from tierwise.cli.console import ExitCode, harmless, new_table, out, print_json, say
from tierwise.cli.options import DEFAULT_LEDGER, DEFAULT_POLICY, JsonOption, LedgerOption, PolicyOption
from tierwise.cli.report import dollars
from tierwise.config import load_book
from tierwise.core.charges import Charge
from tierwise.core.ledger import Settled
from tierwise.core.pricing import PriceBook
from tierwise.core.reconciling import REPORTED_AFTER, Line
from tierwise.core.reconciling import reconcile as compare
from tierwise.engine.clock import now_us
from tierwise.errors import MalformedReport
from tierwise.money import Nanos, format_usd
from tierwise.names import begun
from tierwise.stores.ledger.groups import key_ids, our_calls, pruned_until
from tierwise.stores.ledger.opening import open_ledger, read_ledger
from tierwise.wire.provider_reports import read_report


def reconcile(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="The provider's reports, JSON or CSV.", exists=True, dir_okay=False
        ),
    ],
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key",
            metavar="ID=HASH",
            help="Which key of the report is which key_id of the ledger; its first digits do. Repeatable.",
        ),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="DAY", help="From this day on: 2026-11-01 (UTC).")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="DAY", help="Up to this day, which is not included.")
    ] = None,
    settle: Annotated[
        bool, typer.Option("--settle", help="Write what the report settles into the ledger.")
    ] = False,
    list_prices: Annotated[
        bool, typer.Option("--list-prices", help="Compare amounts before discounts, where both are told.")
    ] = False,
    policy: PolicyOption = DEFAULT_POLICY,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Hold the ledger against the provider's report.

    A line is a UTC day, a key and a model: what the ledger has, what the report has, and why they differ. Without
    --key, all keys are one. Where calls of unknown cost can explain a difference, --settle books it on them; without
    it nothing is written. The exit code is 1 where something stays unexplained.

    Example: tierwise ledger reconcile usage.json cost.json --settle
    """
    found = reconciled(
        files,
        ledger=ledger,
        prices=load_book(policy).prices,
        keys=_pairs(key or ()),
        span=(_day(since, "--since"), _day(until, "--until")),
        at_list_prices=list_prices,
        at_us=now_us(),
    )
    if settle and found.settled:
        write(found.settled, ledger)
    if as_json:
        print_json(reconciliation_json(found, written=settle))
    else:
        _print(found, written=settle)
    if not all(line.explained for line in found.lines):
        raise typer.Exit(ExitCode.WRONG)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """All lines of a comparison."""

    lines: tuple[Line, ...]
    pruned_until: date | None
    """The report's days before this one are left out: the ledger no longer has their calls. None: none are."""

    @property
    def settled(self) -> tuple[Settled, ...]:
        """What the report settles."""
        return tuple(entry for line in self.lines for entry in line.settled)

    @property
    def ours_nanos(self) -> Nanos:
        """The known costs of all lines."""
        return sum(line.ours.cost_nanos for line in self.lines if line.ours)

    @property
    def theirs_nanos(self) -> Nanos | None:
        """What the report charges on all lines; None where it tells no money."""
        told = [
            line.theirs.cost_nanos
            for line in self.lines
            if line.theirs and line.theirs.cost_nanos is not None
        ]
        return sum(told) if told else None


def reconciled(
    files: Sequence[Path],
    *,
    ledger: Path | str,
    prices: PriceBook,
    keys: Mapping[str, str],
    span: tuple[date | None, date | None] = (None, None),
    at_list_prices: bool = False,
    at_us: int,
) -> Reconciliation:
    """Compare a ledger with reports in files.

    Args:
        files: the reports; what one tells, no other may tell too.
        ledger: where it is.
        prices: our price book.
        keys: the ledger's name of a credential, or its first digits, by the provider's id or name of the key.
        span: first day, and the first day after the last; None takes the report's.
        at_list_prices: whether amounts are taken before discounts, where the report tells both.
        at_us: now, in microseconds since 1970 UTC.

    Raises:
        MalformedReport: a file is no report, or two tell the same.
        LedgerUnavailable: the ledger cannot be read.
        typer.BadParameter: a key is not the ledger's, or the report does not tell keys apart.
    """
    reports = [
        read_report(file.read_bytes(), file=str(file), at_list_prices=at_list_prices) for file in files
    ]
    _check_told_once(files, [report.charges for report in reports])
    since, until = span
    with closing(read_ledger(ledger)) as reader:
        pruned = pruned_until(reader)
        charges = [
            charge
            for report in reports
            for charge in report.charges
            if (since is None or charge.day >= since)
            and (until is None or charge.day < until)
            and (pruned is None or charge.day >= pruned)
        ]
        named = _named_keys(keys, charges, key_ids(reader))
        days = [charge.day for charge in charges]
        ours = our_calls(reader, since=min(days), until=max(days) + timedelta(days=1)) if days else ()
    complete = [report.complete_until_us for report in reports if report.complete_until_us is not None]
    lines = compare(
        ours,
        charges,
        prices=prices,
        keys=named,
        now_us=at_us,
        complete_until_us=min(complete, default=None),
    )
    left_out = pruned is not None and any(
        charge.day < pruned for report in reports for charge in report.charges
    )
    return Reconciliation(lines=lines, pruned_until=pruned if left_out else None)


def write(entries: Sequence[Settled], ledger: Path | str) -> None:
    """Append what was settled; a call that was settled meanwhile keeps what it has.

    Raises:
        LedgerUnavailable: nothing was written.
    """
    with closing(open_ledger(ledger)) as store:
        store.write(entries)


def reconciliation_json(found: Reconciliation, *, written: bool) -> dict[str, Any]:
    """Return a comparison with stable names; money in dollars, exactly, and None where the report tells none."""
    return {
        "explained": all(line.explained for line in found.lines),
        "written": written,
        "pruned_until": None if found.pruned_until is None else f"{found.pruned_until}",
        "ours_usd": dollars(found.ours_nanos),
        "theirs_usd": dollars(found.theirs_nanos),
        "lines": [_line_json(line) for line in found.lines],
        "settled": [
            {"call_id": entry.call_id, "cost_usd": dollars(entry.cost_nanos), "note": entry.note}
            for entry in found.settled
        ],
    }


def _line_json(line: Line) -> dict[str, Any]:
    ours, theirs = line.ours, line.theirs
    return {
        "day": f"{line.group.day}",
        "key_id": line.group.key,
        "model": line.group.model,
        "batch": line.group.batch,
        "calls": ours.calls if ours else 0,
        "unknown_cost_calls": len(ours.kept) if ours else 0,
        "ours_usd": dollars(ours.cost_nanos if ours else 0),
        "theirs_usd": dollars(theirs.cost_nanos if theirs else None),
        "difference_usd": dollars(line.difference_nanos),
        "cause": line.cause,
        "sentence": line.sentence,
        "explained": line.explained,
        "final": line.final,
        "settled_usd": dollars(sum(entry.cost_nanos for entry in line.settled)) if line.settled else None,
    }


def _pairs(texts: Iterable[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, key_id = text.rpartition("=")
        if not (name and equals and key_id):
            raise typer.BadParameter(f"{text!r} is not ID=HASH, as in apikey_01=3f2a9c", param_hint="--key")
        pairs[name] = key_id
    return pairs


def _day(text: str | None, hint: str) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a day (2026-11-01)", param_hint=hint) from error


def _named_keys(keys: Mapping[str, str], charges: Sequence[Charge], known: Sequence[str]) -> dict[str, str]:
    """The pairs, each with the whole name that the ledger has for the key."""
    if keys and any(charge.key is None for charge in charges):
        raise typer.BadParameter(
            "the report has charges that name no key: leave --key out, or ask for analytics/cost with "
            "group_by[]=api_key_id (cost_report cannot tell keys apart)",
            param_hint="--key",
        )
    return {name: _whole(key_id, known) for name, key_id in keys.items()}


def _whole(key_id: str, known: Sequence[str]) -> str:
    meant = begun(key_id, known)
    if len(meant) != 1:
        which = "more than one key_id begins" if meant else "no key_id of the ledger begins"
        raise typer.BadParameter(
            f"{which} with {key_id!r}; there are: {', '.join(known) or 'none'}", param_hint="--key"
        )
    return meant[0]


def _check_told_once(files: Sequence[Path], told: Sequence[Sequence[Charge]]) -> None:
    """What two files tell would count twice."""
    seen: dict[tuple[object, ...], Path] = {}
    for file, charges in zip(files, told, strict=True):
        mine = {
            (charge.day, charge.key, charge.model, what)
            for charge in charges
            for what, amount in (("cost", charge.cost_nanos), ("usage", charge.usage))
            if amount is not None
        }
        for day, key, model, what in mine:
            other = seen.get((day, key, model, what))
            if other is not None:
                raise MalformedReport(
                    file=str(file),
                    where=f"{day}",
                    why=f"the {what} of {model or 'no model'} is in {other} too, and would count twice",
                    fix="Give each figure once: one report of usage and one of cost.",
                )
        seen |= dict.fromkeys(mine, file)


def _print(found: Reconciliation, *, written: bool) -> None:
    if found.lines:
        out.print(_table(found))
    else:
        say("The reports have no charges in this span.")
    for sentence in _remarks(found, written=written):
        say(sentence)


_NUMBERS: Final = ("calls", "ours", "theirs", "difference")


def _table(found: Reconciliation) -> Table:
    table = new_table("day", "key", "model", *_NUMBERS, "cause", numbers=_NUMBERS)
    for line in found.lines:
        table.add_row(*map(Text, map(harmless, _cells(line))))
    if len(found.lines) > 1:
        theirs = found.theirs_nanos
        table.add_section()
        table.add_row(
            "total",
            "",
            "",
            f"{sum(line.ours.calls for line in found.lines if line.ours):,}",
            _usd(found.ours_nanos),
            "" if theirs is None else _usd(theirs),
            "" if theirs is None else _usd(theirs - found.ours_nanos),
            "",
            style="bold",
        )
    return table


def _cells(line: Line) -> Iterator[str]:
    ours, theirs = line.ours, line.theirs
    yield f"{line.group.day}"
    yield line.group.key or "all keys"
    yield f"{line.group.model or '(no model)'}{' (batch)' if line.group.batch else ''}"
    yield f"{ours.calls if ours else 0:,}"
    yield _usd(ours.cost_nanos) if ours else ""
    yield "" if theirs is None else "tokens only" if theirs.cost_nanos is None else _usd(theirs.cost_nanos)
    yield "" if line.difference_nanos is None else _usd(line.difference_nanos)
    yield line.cause


def _remarks(found: Reconciliation, *, written: bool) -> Iterator[str]:
    """Why each line differs, and what is, or would be, settled."""
    for line in found.lines:
        if line.cause != "agrees":
            where = " ".join(filter(None, (f"{line.group.day}", line.group.key, line.group.model)))
            yield f"{where}: {line.cause}. {line.sentence}"
    early = sorted({line.group.day for line in found.lines if line.cause == "kept" and not line.final})
    if early:
        hours = REPORTED_AFTER // timedelta(hours=1)
        yield (
            f"Not settled yet: {', '.join(map(str, early))}. Reports arrive late, so a day is settled {hours} hours "
            "after its end, and once the report says that it is complete."
        )
    if found.pruned_until is not None:
        yield f"The days before {found.pruned_until} are left out: the ledger's calls of them were pruned."
    if found.settled:
        amount = _usd(sum(entry.cost_nanos for entry in found.settled))
        count = len(found.settled)
        calls = "1 call of unknown cost" if count == 1 else f"{count:,} calls of unknown cost"
        yield f"Settled: {calls}, {amount}." if written else f"--settle books {amount} on {calls}."


def _usd(nanos: Nanos) -> str:
    return format_usd(nanos, places=4)
