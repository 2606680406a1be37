"""`tierwise outcome`: tells a ledger how a task or a run came out."""

from contextlib import closing
from typing import Annotated

import typer

from tierwise.cli.console import print_json, say
from tierwise.cli.options import DEFAULT_LEDGER, JsonOption, LedgerOption
from tierwise.engine.clock import call_ids, now_us
from tierwise.stores.ledger.opening import open_ledger, read_ledger
from tierwise.wire.outcomes import outcome_entry, told


def outcome(
    run: Annotated[str | None, typer.Option("--run", metavar="ID", help="The run.")] = None,
    task: Annotated[
        str | None,
        typer.Option("--task", metavar="ID", help="The task; without it, the run itself is meant."),
    ] = None,
    success: Annotated[
        bool | None, typer.Option("--success/--failure", help="Whether it succeeded.", show_default=False)
    ] = None,
    quality: Annotated[
        float | None, typer.Option("--quality", metavar="NUMBER", help="How well, from 0 to 1, instead.")
    ] = None,
    own_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Names it: telling it again changes nothing.")
    ] = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Tell how a task or a run came out.

    The ledger takes it up whether or not the task's calls are in it yet. Of one task or run the latest counts.

    Example: tierwise outcome --run run-7 --task page-3 --success
    """
    found = told(success=success, quality=quality, run_id=run, task_id=task, id=own_id)
    read_ledger(ledger).close()  # a ledger that is not there is not made
    entry = outcome_entry(found, teller="", only_own=False, at_us=now_us(), new_id=call_ids())
    with closing(open_ledger(ledger)) as writer:
        writer.write([entry])
    if as_json:
        print_json({"outcome": entry.outcome_id})
    else:
        say(f"Recorded as {entry.outcome_id}.")
