"""What all commands share: where they print, how their JSON looks, and which exit code means what."""

import os
import sys
from collections.abc import Collection, Iterable, Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, TextIO

import msgspec
from rich.console import Console
from rich.table import Table

from tierwise.errors import (
    MalformedPair,
    MalformedReport,
    MalformedRequest,
    PolicyError,
    PolicyProblem,
    UnknownTaskType,
)

PIPED_WIDTH: Final = 160
"""Columns where the output is no terminal and `COLUMNS` says nothing: enough for every table."""


class ExitCode(IntEnum):
    """What a command's exit code tells."""

    OK = 0
    WRONG = 1
    """What was asked about is wrong: the policy, the request."""
    USAGE = 2
    """The command was called wrongly."""
    ENVIRONMENT = 3
    """Something around the command is missing or in the way: a port, a file, the ledger."""


def _console(stream: TextIO, *, stderr: bool) -> Console:
    fixed = None if stream.isatty() or "COLUMNS" in os.environ else PIPED_WIDTH
    return Console(stderr=stderr, width=fixed, highlight=False, emoji=False)


out: Final = _console(sys.stdout, stderr=False)
"""For what was asked for."""
err: Final = _console(sys.stderr, stderr=True)
"""For everything else: progress, warnings, errors."""


def say(text: str, console: Console = out) -> None:
    """Print text as it is: brackets are no markup, and no line is broken.

    What callers sent may stand in it, so control characters are made harmless.
    """
    console.print(harmless(text), markup=False, soft_wrap=True)


def harmless(text: str) -> str:
    """Return text without control characters, which could move a terminal's cursor or change its colours."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "�" for letter in text)


def print_json(value: object) -> None:
    """Print a value as indented JSON; decimals are numbers, with all their digits."""
    sys.stdout.write(_json(value))


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON; decimals are numbers, with all their digits."""
    path.write_text(_json(value), encoding="utf-8")


def new_table(*columns: str, numbers: Collection[str] = ()) -> Table:
    """Begin a table without lines, which reads the same on a terminal and in a file; `numbers` go to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return table


def warning_lines(warnings: Iterable[PolicyProblem], file: Path | None) -> Iterator[str]:
    """Write a policy's warnings as its problems are written, and say that they are only warnings."""
    return (warning.describe(str(file), kind="warning") for warning in warnings)


def complain(error: Exception) -> ExitCode:
    """Say on stderr what failed, and return the exit code that it has."""
    prefix = "" if isinstance(error, PolicyError) else "tierwise: "
    say(f"{prefix}{_sentence(error)}", err)
    return _exit_code(error)


_encode: Final = msgspec.json.Encoder(decimal_format="number").encode


def _json(value: object) -> str:
    return msgspec.json.format(_encode(value), indent=2).decode() + "\n"


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _exit_code(error: Any) -> ExitCode:
    match error:
        case PolicyError() if isinstance(error.__cause__, OSError):
            return ExitCode.ENVIRONMENT
        case PolicyError() | MalformedRequest() | MalformedReport() | MalformedPair() | UnknownTaskType():
            return ExitCode.WRONG
        case _:
            return ExitCode.ENVIRONMENT
