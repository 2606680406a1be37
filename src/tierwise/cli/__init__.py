"""The command line: which commands there are, each loaded when it is called."""

import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from tierwise.cli.groups import new_typer
from tierwise.errors import TierwiseError


def main() -> None:
    """Run `tierwise` and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="tierwise")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """Where a command is, and what `tierwise --help` says of it."""

    module: str
    command: str
    """The name of its function there, or of its group."""
    summary: str
    """The first sentence of its help: to list it, the module need not be loaded."""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Of its parser."""


COMMANDS: Final[Mapping[str, _Entry]] = {
    "init": _Entry(module="policy", command="init", summary="Write a policy to start from."),
    "check": _Entry(
        module="policy", command="check", summary="Say what is wrong with a policy, or what it means."
    ),
    "schema": _Entry(
        module="policy", command="schema", summary="Print the JSON Schema of the policy file, for editors."
    ),
    "serve": _Entry(module="serve", command="serve", summary="Serve the gateway until SIGTERM or Ctrl-C."),
    "client-key": _Entry(
        module="client_key", command="client_key", summary="Make a key for a client of the gateway."
    ),
    "run": _Entry(
        module="run",
        command="run",
        summary="Run one command with a gateway of its own.",
        settings={"allow_interspersed_args": False},
    ),
    "explain": _Entry(
        module="explain",
        command="explain",
        summary="Explain what a request would be sent as, or what a call was.",
    ),
    "prices": _Entry(module="prices", command="prices", summary="List what the models cost."),
    "report": _Entry(module="report", command="report", summary="Show what was spent and on what."),
    "budget": _Entry(
        module="budget", command="budget", summary="Show what the budgets have left, and raise their limits."
    ),
    "audit": _Entry(
        module="audit", command="audit", summary="Show which task types need their tier, and what to change."
    ),
    "outcome": _Entry(module="outcome", command="outcome", summary="Tell how a task or a run came out."),
    "ledger": _Entry(
        module="ledger",
        command="ledger",
        summary="Check a ledger, copy it, prune it, or hold it against the bill.",
    ),
    "sandbox": _Entry(
        module="sandbox", command="sandbox", summary="Serve a provider on loopback, for tries without a key."
    ),
    "demo": _Entry(
        module="demo.command",
        command="demo",
        summary="Run a day of a fleet, or many, and show where its money goes.",
    ),
}
"""In the order of `tierwise --help`."""


class _Unloaded(TyperCommand):
    """A command that is only listed: its module is not imported yet."""

    def __init__(self, name: str, entry: _Entry) -> None:
        super().__init__(name, help=entry.summary, rich_markup_mode=None)
        self._entry = entry

    def load(self) -> Any:
        """Import the module of the command, or of the group, and return it."""
        found = getattr(import_module(f"tierwise.cli.{self._entry.module}"), self._entry.command)
        if isinstance(found, typer.Typer):
            return typer.main.get_command(found)
        alone = new_typer(add_completion=False)
        alone.command(self.name, context_settings=dict(self._entry.settings))(found)
        return typer.main.get_command(alone)


class _Commands(TyperGroup):
    """The group of all commands: loads the one that is called, and turns errors into messages and exit codes."""

    def __init__(self, **attributes: Any) -> None:
        attributes["commands"] = {name: _Unloaded(name, entry) for name, entry in COMMANDS.items()}
        super().__init__(**attributes)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command that is called, and load it."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, _Unloaded) else command, rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command; an error of Tierwise or of the system becomes a message, never a traceback."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader of stdout has seen enough: the command ends quietly
        except (TierwiseError, OSError) as error:
            from tierwise.cli.console import complain  # noqa: PLC0415 — only where it is used

            raise typer.Exit(complain(error)) from error


_EPILOG: Final = """\
Exit codes: 0 it went well; 1 what was asked about is wrong (the policy, the request); 2 the command was called
wrongly; 3 something around it is missing or in the way (a port, a file, the ledger).

The provider's key is read from ANTHROPIC_API_KEY, or from the file that ANTHROPIC_API_KEY_FILE names, and from nowhere
else. TIERWISE_POLICY and TIERWISE_LEDGER stand for --policy and --ledger.
"""

app: Final = new_typer(add_completion=True, cls=_Commands, no_args_is_help=True, epilog=_EPILOG)


def _print_version(wanted: bool) -> None:
    if wanted:
        from tierwise import __version__  # noqa: PLC0415 — reads the package's metadata

        typer.echo(f"tierwise {__version__}")
        raise typer.Exit


@app.callback()
def tierwise(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Decide which model tier handles each call of a fleet of agents; cap, price and record every call.

    To begin: `tierwise init` writes a policy, `tierwise serve` serves the gateway, and
    `export ANTHROPIC_BASE_URL=http://127.0.0.1:4000` sends your agents' calls through it.
    """
