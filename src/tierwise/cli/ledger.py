"""`tierwise ledger`: what can be done with a ledger."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.progress import Progress

from tierwise.cli.console import ExitCode, err, print_json, say
from tierwise.cli.groups import new_group
from tierwise.cli.options import DEFAULT_LEDGER, JsonOption, LedgerOption
from tierwise.cli.reconcile import reconcile
from tierwise.engine.clock import now_us
from tierwise.stores.ledger import migration, retention, verification
from tierwise.stores.ledger.copying import copy_ledger
from tierwise.stores.ledger.opening import is_shared, open_ledger, read_ledger, shown
from tierwise.stores.ledger.verification import Finding


def verify(ledger: LedgerOption = DEFAULT_LEDGER, as_json: JsonOption = False) -> None:
    """Check what must hold in a ledger.

    That is the file, the life of each call, that money is conserved on every account, and that the summary is what
    the entries add up to. It says which law is broken and by whom; the exit code is then 1. A gateway may go on
    writing meanwhile.

    Example: tierwise ledger verify
    """
    with closing(read_ledger(ledger)) as reader:
        findings = verification.verify(reader)
    sound = not any(finding.breaches for finding in findings)
    if as_json:
        print_json({"sound": sound, "laws": [_json(finding) for finding in findings]})
    else:
        for finding in findings:
            say(_line(finding))
    if not sound:
        raise typer.Exit(ExitCode.WRONG)


def prune(
    older_than: Annotated[
        str,
        typer.Option("--older-than", metavar="AGE", help="How old a call is at least: 90d, 26w."),
    ],
    ledger: LedgerOption = DEFAULT_LEDGER,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete old calls, and keep what they add up to.

    A call goes once its cost is known. Reports and budgets show the same as before, by whole days. It cannot be
    undone. A gateway may go on writing meanwhile.

    Example: tierwise ledger prune --older-than 90d
    """
    before_us = _before(older_than, at_us=now_us())
    with closing(read_ledger(ledger)) as reader:
        found = retention.closed_before(reader, before_us)
    day = f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=before_us):%Y-%m-%d}"
    if not yes and found:
        typer.confirm(
            f"Delete {found:,} calls from before {day} from {shown(ledger)}? It cannot be undone.",
            abort=True,
            err=True,
        )
    with closing(open_ledger(ledger)) as writer:
        pruned = retention.prune(writer, before_us)
    if as_json:
        print_json({"before": day, "calls": pruned.calls, "entries": pruned.entries})
    else:
        say(f"Deleted {pruned.calls:,} calls from before {day}, {pruned.entries:,} entries.")


def back_up(
    destination: Annotated[
        Path, typer.Argument(metavar="DEST", help="The file to write; it must not exist.")
    ],
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Copy a ledger's file as it is at one moment.

    A gateway may go on writing meanwhile. A ledger in PostgreSQL is dumped with PostgreSQL's own pg_dump.

    Example: tierwise ledger backup copy.sqlite3
    """
    if is_shared(ledger):
        raise typer.BadParameter(
            f"{shown(ledger)} is a database, and pg_dump makes a dump of it", param_hint="--ledger"
        )
    migration.back_up(ledger, destination)
    size = destination.stat().st_size
    if as_json:
        print_json({"ledger": ledger, "copy": str(destination), "bytes": size})
    else:
        say(f"Copied {ledger} to {destination}, {size:,} bytes.")


_PLACE: Final = "a file, or postgresql://… with its password in PGPASSWORD."


def copy(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=f"The ledger: {_PLACE}")],
    destination: Annotated[str, typer.Argument(metavar="DEST", help=f"A new one: {_PLACE}")],
    as_json: JsonOption = False,
) -> None:
    """Copy a ledger into a new one, a file or a database.

    This is how a ledger moves from SQLite to PostgreSQL, or back.

    Stop the gateways of the old ledger first, and start them on the new one: what is written to the old one meanwhile
    is not copied. The sums of both are compared before the copy counts; what stops it leaves the new ledger empty.

    Example: tierwise ledger copy tierwise.sqlite3 postgresql://tierwise@db.internal/tierwise
    """
    with (
        closing(read_ledger(source)) as reader,
        closing(open_ledger(destination)) as writer,
        Progress(console=err, transient=True, disable=not err.is_terminal) as progress,
    ):
        bar = progress.add_task("entries", total=None)
        entries = copy_ledger(
            reader,
            writer,
            progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    if as_json:
        print_json({"ledger": shown(source), "copy": shown(destination), "entries": entries})
    else:
        say(
            f"Copied {entries:,} entries from {shown(source)} to {shown(destination)}; both come to the same."
        )


ledger: Final = new_group(
    """Check a ledger, copy it, prune it, or hold it against the bill.

    Example: tierwise ledger verify
    """,
    {"verify": verify, "prune": prune, "backup": back_up, "copy": copy, "reconcile": reconcile},
)


def _json(finding: Finding) -> dict[str, object]:
    return {"law": finding.law, "breaches": finding.breaches, "examples": list(finding.examples)}


def _line(finding: Finding) -> str:
    if not finding.breaches:
        return f"ok      {finding.law}"
    return f"broken  {finding.law}: {finding.breaches:,}, such as {', '.join(finding.examples)}"


_DAYS: Final = {"d": 1, "w": 7}


def _before(older_than: str, *, at_us: int) -> int:
    """A time so long ago, in microseconds since 1970 UTC; a day at the least, for no call is in flight for so long."""
    number, unit = older_than[:-1], older_than[-1:]
    if not (number.isascii() and number.isdigit() and int(number) > 0 and unit in _DAYS):
        raise typer.BadParameter(
            f"{older_than!r} is no number of days or weeks (90d, 26w)", param_hint="--older-than"
        )
    before_us = at_us - int(number) * _DAYS[unit] * 86_400_000_000
    if before_us < 0:
        raise typer.BadParameter(f"{older_than!r} is before 1970", param_hint="--older-than")
    return before_us // 86_400_000_000 * 86_400_000_000
