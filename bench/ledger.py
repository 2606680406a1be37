"""What it costs to make entries durable, and how long reports and a start take.

    python bench/ledger.py [--quick] [--json FILE]

Entries a second through the writer's statements, the summary kept as in a gateway: a batch a commit, as under load,
against a commit for each entry; a file with both durabilities, and a PostgreSQL, which has one; one process, one
connection, everything on this machine and its disk. Then, over growing ledgers of which the last entries are not
summarized yet, a report by each dimension, and what a start reads: balances and open reservations. A call has three
entries, on two accounts; an hour has 10,000 calls; one call of a thousand has no known cost.
"""

import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from rich.console import Console
from rich.table import Table

from gateways import servers
from measuring import arguments, spread, write
from tierwise.core.ledger import NO_TIMINGS, Decided, Entry, Posted, SetAside
from tierwise.core.policy import Durability
from tierwise.stores.ledger.opening import Ledger, open_ledger, read_ledger
from tierwise.stores.ledger.reports import DIMENSIONS, report
from tierwise.stores.ledger.reservations import balances, open_reservations
from tierwise.stores.ledger.writer import LARGEST_BATCH
from tierwise.usage import Usage

Opened: TypeAlias = Callable[[], AbstractContextManager[Ledger]]
"""Opens a new ledger."""

DURABILITIES: Final[tuple[Durability, ...]] = ("kill", "power")


def main() -> None:
    asked = arguments("Measures durable entries a second, and readings of growing ledgers.")
    repeats, seconds = (3, 0.5) if asked.quick else (7, 2.0)
    rates: dict[str, dict[str, float]] = {}
    entries = _entries(0, 70_000)
    with servers() as shared:
        places: dict[str, Opened] = {durability: partial(_file, durability) for durability in DURABILITIES}
        places["PostgreSQL"] = lambda: closing(open_ledger(shared.database()))
        for name, opened in places.items():
            for size in (LARGEST_BATCH, 1):
                found = [_entries_a_second(opened, entries, size, seconds) for _ in range(repeats)]
                rates[f"{name}, {size} a commit"] = spread(found)
    sizes = (1_000, 10_000, 100_000, *(() if asked.quick else (1_000_000, 5_000_000)))
    readings = {str(size): _readings(size, repeats) for size in sizes}
    _show(rates, readings)
    write(asked.json, {"entries_per_s": rates, "read_s": readings})


def _entries(first: int, calls: int) -> list[Entry]:
    return [
        entry
        for number in range(first, first + calls)
        for entry in (_decided(number), _set_aside(number), _posted(number))
    ]


@contextmanager
def _file(durability: Durability) -> Generator[Ledger]:
    """A new ledger in a file."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(open_ledger(Path(folder, "ledger.sqlite3"), durability=durability)) as ledger,
    ):
        yield ledger


def _entries_a_second(opened: Opened, entries: list[Entry], batch: int, seconds: float) -> float:
    with opened() as ledger:
        written = 0
        begun = time.perf_counter()
        while written < len(entries) and time.perf_counter() - begun < seconds:
            ledger.write(entries[written : written + batch])
            written += batch
        return min(written, len(entries)) / (time.perf_counter() - begun)


def _readings(entries: int, repeats: int) -> dict[str, dict[str, float]]:
    """Seconds of each reading of a ledger."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ledger.sqlite3")
        with closing(open_ledger(path)) as ledger:
            calls = entries // 3
            for first in range(0, calls, LARGEST_BATCH):
                ledger.write(_entries(first, min(LARGEST_BATCH, calls - first)))
            with closing(read_ledger(path)) as reader:
                works: dict[str, Callable[[], Any]] = {
                    by: partial(report, reader, by=by) for by in DIMENSIONS
                }
                works["start"] = lambda: (balances(reader), open_reservations(reader))
                return {
                    name: spread([_seconds(work) for _ in range(repeats)]) for name, work in works.items()
                }


def _seconds(work: Any) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _at_us(number: int) -> int:
    return 1_795_000_000_000_000 + number * 360_000


def _decided(number: int) -> Decided:
    return Decided(
        call_id=f"c{number:016x}",
        at_us=_at_us(number),
        task_type=f"type-{number % 20}",
        declared="model",
        unknown_type=None,
        nearest_type=None,
        task_id=f"task-{number}",
        run_id=f"run-{number % 100}",
        agent=f"agent-{number % 20}",
        key_id=f"key-{number % 5}",
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


def _set_aside(number: int) -> SetAside:
    key = f"key-{number % 5}"
    return SetAside(
        call_id=f"c{number:016x}",
        at_us=_at_us(number) + 100,
        accounts=(
            f"key-day|{key}|day-{number // 240_000}",
            f"run-lifetime|{key}|run-{number % 100}|lifetime",
        ),
        reserved_nanos=1_000_000,
    )


def _posted(number: int) -> Posted:
    return Posted(
        call_id=f"c{number:016x}",
        at_us=_at_us(number) + 500,
        served_model="claude-haiku-5-5",
        stop_reason="end_turn",
        usage=Usage(input_tokens=1_000, output_tokens=200),
        thinking_tokens=None,
        cost_nanos=None if number % 1_000 == 0 else 200_000,
        price_version="2026-11-23",
        at_frontier_nanos=8_000_000,
        as_asked_nanos=200_000,
        as_decided_nanos=200_000,
        timings=NO_TIMINGS,
        request_id=f"req_{number}",
    )


def _show(rates: dict[str, dict[str, float]], readings: dict[str, dict[str, dict[str, float]]]) -> None:
    table = Table(title="durable entries a second, one process", title_justify="left")
    for column in ("survives", "min", "median", "max", "ratio to one a commit"):
        table.add_column(column, justify="left" if column == "survives" else "right")
    for name, found in rates.items():
        alone = rates[f"{name.partition(',')[0]}, 1 a commit"]
        ratio = found["median"] / alone["median"]
        table.add_row(name, *(f"{found[part]:,.0f}" for part in ("min", "median", "max")), f"{ratio:.1f}")
    Console().print(table)
    table = Table(title="median milliseconds of a report by each, and of a start", title_justify="left")
    for column in ("entries", *DIMENSIONS, "start"):
        table.add_column(column, justify="right")
    for size, works in readings.items():
        table.add_row(f"{int(size):,}", *(f"{found['median'] * 1000:.1f}" for found in works.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
