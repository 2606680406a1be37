"""What it costs to make entries durable, and how long a report takes.

    python bench/ledger.py [--quick] [--json FILE]

Entries a second through the writer's statements: a batch a commit, as under load, against a commit for each entry,
with both durabilities; one process, one connection, the file on this machine's disk. Then a report over growing
ledgers, by type.
"""

import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from measuring import arguments, spread, write
from tierwise.core.ledger import NO_TIMINGS, Decided, Entry, Posted
from tierwise.core.policy import Durability
from tierwise.stores.ledger.reports import report
from tierwise.stores.ledger.sqlite import open_ledger, read_ledger
from tierwise.stores.ledger.writer import LARGEST_BATCH
from tierwise.usage import Usage

DURABILITIES: Final[tuple[Durability, ...]] = ("kill", "power")


def main() -> None:
    asked = arguments("Measures durable entries a second, and reports over growing ledgers.")
    repeats, seconds = (3, 0.5) if asked.quick else (7, 2.0)
    rates: dict[str, dict[str, float]] = {}
    for durability in DURABILITIES:
        for size in (LARGEST_BATCH, 1):
            found = [_entries_a_second(size, durability, seconds) for _ in range(repeats)]
            rates[f"{durability}, {size} a commit"] = spread(found)
    sizes = (1_000, 10_000) if asked.quick else (1_000, 10_000, 100_000, 1_000_000)
    reports = {str(size): spread(_report_seconds(size, repeats)) for size in sizes}
    _show(rates, reports)
    write(asked.json, {"entries_per_s": rates, "report_s": reports})


def _entries(first: int, calls: int) -> list[Entry]:
    return [entry for number in range(first, first + calls) for entry in (_decided(number), _posted(number))]


def _entries_a_second(batch: int, durability: Durability, seconds: float) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ledger.sqlite3")
        entries = _entries(0, 100_000)
        with closing(open_ledger(path, durability=durability)) as ledger:
            written = 0
            begun = time.perf_counter()
            while written < len(entries) and time.perf_counter() - begun < seconds:
                ledger.write(entries[written : written + batch])
                written += batch
            return min(written, len(entries)) / (time.perf_counter() - begun)


def _report_seconds(entries: int, repeats: int) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ledger.sqlite3")
        with closing(open_ledger(path)) as ledger:
            for first in range(0, entries // 2, LARGEST_BATCH):
                ledger.write(_entries(first, min(LARGEST_BATCH, entries // 2 - first)))
        with closing(read_ledger(path)) as reader:
            return [_seconds(lambda: report(reader)) for _ in range(repeats)]


def _seconds(work: Any) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _decided(number: int) -> Decided:
    return Decided(
        call_id=f"c{number:016x}",
        at_us=1_795_000_000_000_000 + number,
        task_type=f"type-{number % 20}",
        declared="model",
        unknown_type=None,
        nearest_type=None,
        task_id=f"task-{number}",
        run_id=f"run-{number % 100}",
        agent=f"agent-{number % 20}",
        requested_model="task/extraction",
        tier="fast",
        decided_model="claude-haiku-5-5",
        acts=True,
        stream=False,
        max_tokens_asked=4096,
        max_tokens_sent=512,
        policy_version="0123456789ab",
        selection_probability=1.0,
        reasons=("The model name declares the task type extraction.", "Capped at the contract's 512."),
        changes=("model: task/extraction -> claude-haiku-5-5 (decision.model)",),
    )


def _posted(number: int) -> Posted:
    return Posted(
        call_id=f"c{number:016x}",
        at_us=1_795_000_000_000_500 + number,
        served_model="claude-haiku-5-5",
        stop_reason="end_turn",
        usage=Usage(input_tokens=1_000, output_tokens=200),
        thinking_tokens=None,
        cost_nanos=200_000,
        price_version="2026-11-23",
        at_frontier_nanos=8_000_000,
        as_asked_nanos=200_000,
        as_decided_nanos=200_000,
        timings=NO_TIMINGS,
        request_id=f"req_{number}",
    )


def _show(rates: dict[str, dict[str, float]], reports: dict[str, dict[str, float]]) -> None:
    table = Table(title="durable entries a second, one process", title_justify="left")
    for column in ("survives", "min", "median", "max", "ratio to one a commit"):
        table.add_column(column, justify="left" if column == "survives" else "right")
    for name, found in rates.items():
        alone = rates[f"{name.partition(',')[0]}, 1 a commit"]
        ratio = found["median"] / alone["median"]
        table.add_row(name, *(f"{found[part]:,.0f}" for part in ("min", "median", "max")), f"{ratio:.1f}")
    Console().print(table)
    table = Table(title="seconds of a report by type", title_justify="left")
    for column in ("entries", "min", "median", "max"):
        table.add_column(column, justify="right")
    for name, found in reports.items():
        table.add_row(f"{int(name):,}", *(f"{found[part]:.4f}" for part in ("min", "median", "max")))
    Console().print(table)


if __name__ == "__main__":
    main()
