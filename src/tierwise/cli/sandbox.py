"""`tierwise sandbox`: a provider on loopback, for tries without a key or a network."""

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from tierwise.cli.console import ExitCode, err, say
from tierwise.sandbox.fleet import FleetError
from tierwise.sandbox.outcomes import OutcomesError
from tierwise.sandbox.server import DEFAULT_PORT, Options
from tierwise.sandbox.server import serve as serve_sandbox


def sandbox(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = DEFAULT_PORT,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
    fleet: Annotated[Path | None, typer.Option(help="A fleet file, in place of the package's own.")] = None,
    rpm: Annotated[int | None, typer.Option(help="Requests a minute before a 429.")] = None,
    latency_ms: Annotated[float, typer.Option(help="Before every reply.")] = 0.0,
    event_gap_ms: Annotated[float, typer.Option(help="Before every event of a stream.")] = 0.0,
    clock: Annotated[
        Path | None, typer.Option(help="A file that tells the time, in place of the machine's clock.")
    ] = None,
    outcomes: Annotated[Path | None, typer.Option(help="Recorded outcomes, Parquet or JSON lines.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="The prompts of the outcomes, to know them by their text.")
    ] = None,
    weak: Annotated[str | None, typer.Option(help="The recorded model behind the Haiku line.")] = None,
    strong: Annotated[str | None, typer.Option(help="The recorded model behind all other lines.")] = None,
) -> None:
    """Serve a provider on loopback, for tries without a key.

    It speaks the Messages API and Message Batches, counts tokens, bills from a price list of its own, and fails on
    demand: the header `x-sandbox-fault: status:529` is answered with an overload. GET /sandbox/billing tells what it
    would have billed.

    Example: tierwise sandbox --port 4100, and beside it: tierwise serve --upstream http://127.0.0.1:4100
    """
    options = Options(
        host=host,
        port=port,
        seed=seed,
        fleet=fleet,
        rpm=rpm,
        latency_ms=latency_ms,
        event_gap_ms=event_gap_ms,
        clock=clock,
        outcomes=outcomes,
        prompts=prompts,
        weak=weak,
        strong=strong,
    )
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, _stopped)
    try:
        serve_sandbox(options, ready=_announce)
    except (FleetError, OutcomesError) as error:
        say(f"tierwise: {error}", err)
        raise typer.Exit(ExitCode.WRONG) from error
    except OSError as error:
        say(
            f"tierwise: {host}:{port} cannot be listened on: {error.strerror or error}; try another --port",
            err,
        )
        raise typer.Exit(ExitCode.ENVIRONMENT) from error


def _stopped(_signal: int, _frame: object) -> None:
    """Do nothing: the server raises its stop signal once more when it has stopped, and that is a good end."""


def _announce(address: str) -> None:
    typer.echo(f"sandbox provider at {address}")
    sys.stdout.flush()
