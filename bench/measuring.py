"""What every bench shares: repeated timings, their spread, the table, the JSON file."""

import argparse
import json
import os
import platform
import statistics
import sys
import timeit
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Spread = dict[str, float]


def arguments(
    description: str, more: Callable[[argparse.ArgumentParser], None] | None = None
) -> argparse.Namespace:
    """Parse `--quick` and `--json FILE`, and what the bench adds."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="under half a minute, and less certain")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    if more is not None:
        more(parser)
    return parser.parse_args()


def timed(work: Callable[[], object], *, quick: bool) -> Spread:
    """Microseconds a run of `work`: minimum, median and maximum of several repeats."""
    timer = timeit.Timer(work)
    number, _ = timer.autorange()
    number = max(1, number // (8 if quick else 2))
    seconds = timer.repeat(repeat=5 if quick else 11, number=number)
    return spread([1e6 * second / number for second in seconds])


def spread(values: list[float]) -> Spread:
    """Minimum, median and maximum."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def machine() -> dict[str, Any]:
    """Where and with what the figures were taken."""
    packages = ("tierwise", "aiohttp", "httptools", "msgspec", "uvicorn", "uvloop")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": sys.version.split()[0],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "versions": {name: version(name) for name in packages},
    }


def show(title: str, rows: Mapping[str, Spread], *, unit: str, places: int = 2) -> None:
    """Print a table: a row a figure, with its spread."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in ("min", "median", "max"):
        table.add_column(f"{name} {unit}", justify="right")
    for name, figures in rows.items():
        table.add_row(name, *(f"{figures[column]:.{places}f}" for column in ("min", "median", "max")))
    Console().print(table)


def write(path: Path | None, figures: Mapping[str, Any]) -> None:
    """Write the figures and the machine to a file, where one is named."""
    if path is not None:
        path.write_text(json.dumps({**figures, "machine": machine()}, indent=2) + "\n")
