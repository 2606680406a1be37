"""A gateway in a process of its own, as `tierwise serve` runs it, and callers that never pause."""

import itertools
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

from support.policies import TWO_TIERS, with_upstream
from tierwise.sandbox.server import Answer, Running
from tierwise.stores.ledger.opening import read_ledger
from tierwise.stores.ledger.reservations import past
from tierwise.stores.ledger.verification import verify

BUDGETED: Final = f"""{TWO_TIERS}
[[budgets]]
scope = "all"
limit_usd = "1000.00"
"""
"""Two tiers under a budget that is not short."""

NUMBER: Final = "x-number"
"""Tells the callers' calls apart at the provider."""
TASK: Final = "x-tierwise-task-id"
"""Tells them apart at the gateway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedGateway:
    """A gateway that is up."""

    http: Running
    process: subprocess.Popen[str]
    ledger: Path | str
    told: list[str]
    """What it wrote to its log by now, by line."""

    def health(self) -> dict[str, Any]:
        return self.http.send("GET", "/tierwise/health").json()

    def stop(self) -> int:
        """Stop it, as an operator does; return its exit code."""
        self.process.terminate()
        return self.process.wait(60)


@contextmanager
def served_gateway(
    folder: Path, base_url: str, *, policy: str = BUDGETED, ledger: Path | str | None = None
) -> Generator[ServedGateway]:
    """Serve while the block runs; the policy, and the ledger where no other is named, are files of `folder`."""
    policy_path, where = folder / "tierwise.toml", ledger or folder / "ledger.sqlite3"
    policy_path.write_text(with_upstream(policy, base_url))
    command = [sys.executable, "-m", "tierwise", "serve", "--port", "0", "--quiet"]
    command += ["--policy", str(policy_path), "--ledger", str(where)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        told: list[str] = []
        reading = threading.Thread(target=told.extend, args=(process.stderr,), daemon=True)
        reading.start()
        try:
            address = process.stdout.readline().strip()
            assert address, (process.wait(60), told)
            yield ServedGateway(http=Running(address), process=process, ledger=where, told=told)
        finally:
            process.terminate()
            process.wait(60)
            reading.join(10)


@dataclass(slots=True)
class Callers:
    """Callers, and what they were answered."""

    answers: list[tuple[str, Answer]] = field(default_factory=list[tuple[str, Answer]])
    """The number of a call, and its answer."""
    broken: list[str] = field(default_factory=list[str])
    """Numbers of calls whose connection broke."""

    def numbers(self, status: int) -> set[str]:
        return {number for number, answer in self.answers if answer.status == status}

    def outcomes(self) -> set[tuple[int, str | None]]:
        """Statuses, with the gateway's own error."""
        return {(answer.status, answer.headers.get("x-tierwise-error")) for _, answer in self.answers}


@contextmanager
def calling(
    *gateways: Running,
    at_once: int = 8,
    body: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Generator[Callers]:
    """Call all gateways without a pause while the block runs; at its end calls in flight are waited for."""
    callers, numbers, over = Callers(), itertools.count(1), threading.Event()
    threads = [
        threading.Thread(
            target=_call,
            args=(gateway, numbers, over, callers, body or an_extraction(), headers or {}),
            daemon=True,
        )
        for gateway in gateways
        for _ in range(at_once)
    ]
    for thread in threads:
        thread.start()
    try:
        yield callers
    finally:
        over.set()
        for thread in threads:
            thread.join(60)


def an_extraction(output_tokens: int = 100) -> dict[str, Any]:
    text = f"Which firm? [[sandbox output_tokens={output_tokens}]]"
    return {
        "model": "task/extraction",
        "max_tokens": 400,
        "messages": [{"role": "user", "content": text}],
    }


def billed(sandbox: Running) -> set[str]:
    """Numbers of the calls that the provider billed."""
    calls = [call["sent"]["headers"] for call in sandbox.calls(limit=5_000) if call["billed"]]
    return {headers[NUMBER] for headers in calls if NUMBER in headers}


def set_aside(ledger: Path | str) -> set[str]:
    """Numbers of the calls whose reservation is in the ledger."""
    query = """
        SELECT d.task_id AS number FROM entries AS d JOIN entries AS r ON r.call_id = d.call_id
        WHERE d.kind = 'decided' AND r.kind = 'set-aside'
    """
    with closing(read_ledger(ledger)) as reader:
        return {row["number"] for row in reader.rows(query)}


def breaches(ledger: Path | str) -> int:
    """How many breaches of its laws `tierwise ledger verify` finds in a ledger."""
    with closing(read_ledger(ledger)) as reader:
        return sum(finding.breaches for finding in verify(reader))


def totals(ledger: Path | str) -> tuple[int, int]:
    """What calls under budgets cost as far as it is known, and what is set aside for the others, in nanodollars."""
    with closing(read_ledger(ledger)) as reader:
        reservations = list(past(reader))
    return (
        sum(each.cost_nanos for each in reservations if each.cost_nanos is not None),
        sum(each.amount_nanos for each in reservations if each.cost_nanos is None),
    )


def _call(
    gateway: Running,
    numbers: Iterator[int],
    over: threading.Event,
    callers: Callers,
    body: Mapping[str, Any],
    headers: Mapping[str, str],
) -> None:
    while not over.is_set():
        number = str(next(numbers))
        callers.broken.append(number)
        with suppress(OSError, HTTPException):
            callers.answers.append(
                (number, gateway.messages(body, {**headers, NUMBER: number, TASK: number}))
            )
            callers.broken.remove(number)
