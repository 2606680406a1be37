"""A gateway in a child process, for as long as one command needs it: what `run` and `demo` stand on."""

import os
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from tierwise.errors import TierwiseError

STOP_WITHIN_S: Final = 40.0
"""Longer than the gateway drains, in seconds."""


class GatewayDidNotStart(TierwiseError):
    """The gateway did not start; its own words are on stderr."""


@contextmanager
def gateway_process(
    *, policy: Path, ledger: Path | str, upstream: str | None = None, log_level: str = "warning"
) -> Generator[str]:
    """Run `tierwise serve` on a free port; yield its address; drain and stop it at the end.

    Raises:
        GatewayDidNotStart: it ended before it took calls.
    """
    command = [
        *(sys.executable, "-m", "tierwise", "serve", "--port", "0", "--quiet", "--until-eof"),
        *("--policy", str(policy), "--log-level", log_level),
        *(("--upstream", upstream) if upstream is not None else ()),
    ]
    with child(command, ledger=ledger) as started:
        yield started.address


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A gateway that takes calls."""

    address: str
    said: IO[str]
    """What it goes on saying on its stdout."""
    told: IO[str]
    """Its stdin."""


@contextmanager
def child(command: Sequence[str], *, ledger: Path | str) -> Generator[Child]:
    """Run a program that serves a gateway, says its address, and ends when its stdin does; stop it at the end.

    Raises:
        GatewayDidNotStart: it ended before it took calls.
    """
    # A session of its own: Ctrl-C reaches the command, and the gateway is stopped after it.
    # Its stdin is a pipe that closes with this process, however that ends: the gateway does not outlive it.
    # The ledger stands in its environment: an address may have a password, and everybody sees command lines.
    process = subprocess.Popen(  # noqa: S603 — our own program
        command,
        env={**os.environ, "TIERWISE_LEDGER": str(ledger)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        if not address:
            raise GatewayDidNotStart
        yield Child(address=address, said=process.stdout, told=process.stdin)
    finally:
        process.terminate()
        process.stdin.close()
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
