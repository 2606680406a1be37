"""`tierwise demo`: the sandbox, the gateway and the fleet put on the stage, and the page at the end."""

import asyncio
import json
import tempfile
import time
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.request import urlopen

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tierwise.cli.child import gateway_process
from tierwise.cli.console import err, out, print_json, write_json
from tierwise.cli.demo.day_figures import DaysFigures
from tierwise.cli.demo.figures import Figures, fold
from tierwise.cli.demo.page import page_json, print_page
from tierwise.errors import MissingExtra
from tierwise.money import format_usd
from tierwise.sandbox import fleet as fleets
from tierwise.sandbox.server import running_process
from tierwise.stores.ledger.reports import report
from tierwise.stores.ledger.sqlite import read_ledger

DAY_TASKS: Final = 10_000
DAYS_TASKS: Final = 2_500
"""A day: enough of each type for a verdict within two weeks."""


def demo(
    tasks: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How many tasks, with --days how many a day: 10,000 are a day of the fleet.",
            show_default=f"{DAY_TASKS}, with --days {DAYS_TASKS}",
        ),
    ] = None,
    days: Annotated[
        int | None,
        typer.Option(min=2, max=90, help="Replay so many days with the audit, by a clock that is moved."),
    ] = None,
    agents: Annotated[int, typer.Option(min=1, max=500, help="How many work in parallel.")] = 20,
    seed: Annotated[int, typer.Option(help="Another seed is another day.")] = 1,
    policy: Annotated[
        Path | None,
        typer.Option(help="A policy to try instead of the fleet's own.", exists=True, dir_okay=False),
    ] = None,
    ledger: Annotated[
        Path | None, typer.Option(help="Keep the ledger here, for `tierwise report`; it must not exist yet.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here too; - prints them.")
    ] = None,
) -> None:
    """Run a day of a fleet, and show where its money goes; or many days, and what the audit finds.

    Twenty agents do 10,000 tasks of twenty kinds with the provider's own SDK over HTTP, through the gateway, against
    the sandbox provider. It needs no key and no network. The last line holds the ledger against the provider's own
    count; the exit code is 1 if they differ.

    With --days the audit and its autopilot are on, and each day's progress is a line. In the end the fleet's truth
    stands beside what the audit found of it. A policy of your own decides by itself what is compared.

    Example: tierwise demo --tasks 500 --json out.json

    Example: tierwise demo --days 14
    """
    if find_spec("anthropic") is None:
        raise MissingExtra(package="anthropic", extra="demo")
    if ledger is not None and ledger.exists():
        raise typer.BadParameter(
            f"{ledger} exists; the demo's figures need a ledger of their own", param_hint="--ledger"
        )
    to_stdout = json_file is not None and str(json_file) == "-"
    if days is not None:
        agree = _replay(
            days, tasks or DAYS_TASKS, agents, seed, policy=policy, kept=ledger, json_file=json_file
        )
        raise typer.Exit(0 if agree else 1)
    with _ledger_file(ledger) as ledger_path, _policy_file(policy) as policy_path:
        figures = _run(tasks or DAY_TASKS, agents, seed, policy=policy_path, ledger=ledger_path)
    if to_stdout:
        print_json(page_json(figures))
    else:
        print_page(figures, out)
    if json_file is not None and not to_stdout:
        write_json(json_file, page_json(figures))
    if not figures.agree:
        raise typer.Exit(1)


def _replay(
    days: int,
    tasks: int,
    agents: int,
    seed: int,
    *,
    policy: Path | None,
    kept: Path | None,
    json_file: Path | None,
) -> bool:
    """Replay days and show what came of them; whether ledger and provider agree."""
    from tierwise.cli.demo import days_page  # noqa: PLC0415 — the SDK takes a while to import
    from tierwise.cli.demo.days import Replay, fleet_policy, replay  # noqa: PLC0415

    replayed = Replay(days=days, tasks=tasks, agents=agents, seed=seed)
    err.print(days_page.opening(replayed, own_policy=policy is None), markup=False)
    with tempfile.TemporaryDirectory(prefix="tierwise-demo-") as name, _ledger_file(kept) as ledger:
        folder = Path(name)
        if policy is None:
            policy = folder / "fleet-policy.toml"
            policy.write_text(fleet_policy(), "utf-8")
        figures = replay(
            replayed,
            policy=policy,
            ledger=ledger,
            folder=folder,
            told=lambda day: err.print(days_page.day_line(day), markup=False),
        )
    _show_days(figures, json_file)
    return figures.agree


def _show_days(figures: DaysFigures, json_file: Path | None) -> None:
    from tierwise.cli.demo.days_page import days_json, print_days  # noqa: PLC0415

    if str(json_file) == "-":
        print_json(days_json(figures))
        return
    print_days(figures, out)
    if json_file is not None:
        write_json(json_file, days_json(figures))


def _run(tasks: int, agents: int, seed: int, *, policy: Path, ledger: Path) -> Figures:
    fleet = fleets.load()
    planned = fleets.plan(fleet, tasks, seed)
    with (
        running_process("--seed", str(seed)) as sandbox,
        gateway_process(policy=policy, ledger=ledger, upstream=sandbox.base_url) as address,
    ):
        began = time.monotonic()
        _drive(planned, agents, address=address, ledger=ledger)
        seconds = time.monotonic() - began
        added_ms = _ask(f"{address}/tierwise/meters")["added_ms"]
        billing = sandbox.billing()
    connection = read_ledger(ledger)
    try:
        return fold(
            connection,
            tasks=tasks,
            agents=agents,
            seconds=seconds,
            planted={name: kind.needs == "frontier" for name, kind in fleet.types.items()},
            billing=billing,
            added_ms=added_ms,
        )
    finally:
        connection.close()


def _drive(planned: list[fleets.PlannedTask], agents: int, *, address: str, ledger: Path) -> None:
    """Let the fleet work, and show how far it is and what it has spent."""
    from tierwise.cli.demo.agents import do_tasks  # noqa: PLC0415 — the SDK takes a while to import

    connection = read_ledger(ledger)
    with _progress(err) as progress:
        bar = progress.add_task("tasks", total=len(planned), spent="")

        async def watch() -> None:
            while True:
                spent = report(connection, by="tier").total.cost_nanos
                progress.update(bar, spent=f"{format_usd(spent)} spent")
                await asyncio.sleep(0.5)

        async def work() -> None:
            watching = asyncio.create_task(watch())
            await do_tasks(planned, base_url=address, agents=agents, done=lambda _: progress.advance(bar))
            watching.cancel()

        _run_loop(work())
    connection.close()


def _run_loop(work: Coroutine[Any, Any, None]) -> None:
    import uvloop  # noqa: PLC0415 — only where it is used

    uvloop.run(work)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[spent]}"),
        TimeElapsedColumn(),
        console=console,
    )


@contextmanager
def _ledger_file(kept: Path | None) -> Generator[Path]:
    if kept is not None:
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="tierwise-demo-") as folder:
        yield Path(folder, "ledger.sqlite3")


@contextmanager
def _policy_file(given: Path | None) -> Generator[Path]:
    if given is not None:
        yield given
        return
    with as_file(files("tierwise.data").joinpath("fleet-policy.toml")) as path:
        yield path


def _ask(url: str) -> dict[str, Any]:
    with urlopen(url, timeout=10) as reply:  # noqa: S310 — our own address
        return json.loads(reply.read())
