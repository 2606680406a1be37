"""`tierwise run`: one command with a gateway of its own, and what it spent."""

import os
import signal
import subprocess
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Final

import typer

from tierwise.cli.child import gateway_process
from tierwise.cli.console import err, say
from tierwise.cli.options import (
    DEFAULT_LEDGER,
    DEFAULT_POLICY,
    LedgerOption,
    LogLevelOption,
    PolicyOption,
    UpstreamOption,
)
from tierwise.cli.report import print_run_report
from tierwise.config import load_book
from tierwise.engine.clock import now_us

CANNOT_START: Final = 127
"""The exit code of a command that cannot be started, as shells have it."""

FORWARDED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="The command and its arguments.")],
    policy: PolicyOption = DEFAULT_POLICY,
    ledger: LedgerOption = DEFAULT_LEDGER,
    upstream: UpstreamOption = None,
    log_level: LogLevelOption = "warning",
) -> None:
    """Run one command with a gateway of its own.

    The gateway takes a free port, and the command finds it in ANTHROPIC_BASE_URL; with [openai] in the policy, in
    OPENAI_BASE_URL too. When the command has ended, its report goes to stderr and its exit code is kept. SIGINT,
    SIGTERM and SIGHUP are passed on to the command. The calls stay in the ledger; where other gateways share that,
    their calls of this time are in the report too. A command that cannot be started is exit code 127.

    Example: tierwise run -- python agents.py --tasks 20
    """
    serves_openai = load_book(policy).policy.openai is not None  # what is wrong with it is said here
    since_us = now_us()
    with (
        _Signals().forwarded() as signals,
        gateway_process(policy=policy, ledger=ledger, upstream=upstream, log_level=log_level) as address,
    ):
        code = _run(command, environment(os.environ, address, openai=serves_openai), signals)
    print_run_report(ledger, since_us=since_us, console=err)
    raise typer.Exit(code)


def environment(inherited: Mapping[str, str], address: str, *, openai: bool = False) -> dict[str, str]:
    """Return the environment of a command whose calls go to the gateway.

    Loopback is kept out of any proxy: the SDKs would send even this traffic to one. Claude Code is asked for the
    headers that tell gateways what a call is for, which match rules can look at. Where the gateway serves `openai`,
    calls of OpenAI's clients go to it too.
    """
    not_proxied = inherited.get("no_proxy") or inherited.get("NO_PROXY") or ""
    if not_proxied != "*":
        not_proxied = ",".join(filter(None, (not_proxied, _LOOPBACK)))
    return {
        "CLAUDE_CODE_GATEWAY_HINT_HEADERS": "1",
        **inherited,
        "ANTHROPIC_BASE_URL": address,
        **({"OPENAI_BASE_URL": f"{address}/v1"} if openai else {}),
        "NO_PROXY": not_proxied,
        "no_proxy": not_proxied,
    }


_LOOPBACK: Final = "127.0.0.1"


class _Signals:
    """Passes signals on to the command while it runs; before and after, they end this process."""

    def __init__(self) -> None:
        self._command: subprocess.Popen[bytes] | None = None
        self._starting = False
        self._early: list[int] = []

    @contextmanager
    def forwarded(self) -> Generator["_Signals"]:
        """Take over the signals for as long as the block runs."""
        before = {number: signal.signal(number, self._arrived) for number in FORWARDED}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def start(self, command: Sequence[str], environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start the command; a signal that arrives meanwhile reaches it once it is there.

        Raises:
            OSError: it cannot be started.
        """
        self._starting = True
        try:
            self._command = subprocess.Popen(command, env=environ)  # noqa: S603 — the caller's own command
        finally:
            self._starting = False
        for number in self._early:
            self._pass_on(number, self._command)
        return self._command

    def _arrived(self, number: int, _frame: object) -> None:
        if self._starting:
            self._early.append(number)
        elif self._command is None or self._command.poll() is not None:
            raise SystemExit(_SIGNALLED + number)
        else:
            self._pass_on(number, self._command)

    def _pass_on(self, number: int, command: subprocess.Popen[bytes]) -> None:
        if number != signal.SIGINT or not _from_terminal():
            command.send_signal(number)


_SIGNALLED: Final = 128
"""What shells add to a signal's number for the exit code of a command that it ended."""


def _from_terminal() -> bool:
    """Whether a SIGINT is the terminal's, which then sends it to the command as well: this process is in front."""
    try:
        terminal = os.open(os.ctermid(), os.O_RDONLY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _run(command: Sequence[str], environ: Mapping[str, str], signals: _Signals) -> int:
    try:
        started = signals.start(command, environ)
    except OSError as error:
        say(f"tierwise: {command[0]} cannot be started: {error.strerror}", err)
        raise typer.Exit(CANNOT_START) from error
    code = started.wait()
    return code if code >= 0 else _SIGNALLED - code
