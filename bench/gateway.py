"""What a call costs when it goes through the gateway: CPU time, added latency, calls a second, memory.

    python bench/gateway.py [--quick] [--peers] [--rig FOLDER] [--json FILE]

Everything is on: twelve task types, two budgets that count every call, a durable ledger; calls name their type, run
and agent. Beside it stand a bare pass-through on the same libraries, and with `--peers` the peers, each installed
into an environment of its own. All are measured in turn, three times over, so that what else the machine does meets
them all. CPU time, from the process table, is the figure to trust on a shared machine; a ratio is of two figures of
one round. A call that fails counts: where all of a peer's do, its other figures are of failing.
"""

import argparse
import sys
import tempfile
from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import track
from rich.table import Table

from measuring import Spread, arguments, spread, write
from peers import PEERS, install, served
from rig import (
    EVENTS,
    SOURCES,
    Request,
    Rig,
    Server,
    cpu_s,
    free_port,
    memory_mib,
    port_of,
    rig,
    serving,
)
from workload import POLICY, request

ROUNDS: Final = 3
OURS: Final = "tierwise"
FLOOR: Final = "floor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """One way to load a gateway."""

    name: str
    request: Request
    connections: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one test of one gateway gave in one round."""

    cpu_us: float
    """Of a call."""
    per_second: float
    p50_ms: float
    p99_ms: float
    failed: int
    rss_mb: float
    """After the load, in MiB."""


def main() -> None:
    asked = arguments("Measures the gateway under load, beside a bare pass-through and its peers.", _more)
    absent = {peer.name: install(peer) if asked.peers else "say --peers" for peer in PEERS}
    with ExitStack() as stack:
        the_rig = stack.enter_context(rig(asked.rig))
        servers = _start(the_rig, stack)
        for peer in PEERS:
            if absent[peer.name] is None:
                servers[peer.name] = stack.enter_context(served(peer, the_rig.upstream))
        idle = {name: memory_mib(server.pid) for name, server in servers.items()}
        rounds = [
            _round(the_rig, servers, _tests(quick=asked.quick), seconds=0.6 if asked.quick else 2.5)
            for _ in track(range(ROUNDS), description="Measuring", transient=True)
        ]
    figures = {name: _figures(name, rounds, idle[name]) for name in servers}
    missing = {name: why for name, why in absent.items() if why is not None}
    packages = {peer.name: peer.package for peer in PEERS if peer.name in servers}
    _show(figures, the_rig.name, missing)
    write(
        asked.json,
        {"bench": "gateway", "rig": the_rig.name, "absent": missing, "peers": packages, **_flat(figures)},
    )


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--peers", action="store_true", help="install the peers under .peers and measure them"
    )
    parser.add_argument("--rig", type=Path, default=SOURCES, help="folder of mock.c and load.c")


# --- What is measured.


def _start(the_rig: Rig, stack: ExitStack) -> dict[str, Server]:
    floor, port = [sys.executable, str(Path(__file__).with_name("floor.py"))], free_port()
    return {
        OURS: stack.enter_context(tierwise(the_rig.upstream)),
        FLOOR: stack.enter_context(serving([*floor, the_rig.upstream, str(port)], port)),
    }


@contextmanager
def tierwise(upstream: str) -> Generator[Server]:
    """Run our gateway for a while, on a new ledger."""
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder, "tierwise.toml")
        policy.write_text(POLICY)
        command = [sys.executable, "-m", "tierwise", "serve", "--quiet", "--log-level", "error"]
        command += ["--policy", str(policy), "--ledger", str(Path(folder, "ledger.sqlite3"))]
        port = free_port()
        with serving([*command, "--upstream", upstream, "--port", str(port)], port) as server:
            yield server


def _tests(*, quick: bool) -> list[Test]:
    whole, burst = request(stream=False), request(stream=True)
    tests = [
        Test(name=f"nonstream.c{connections}", request=whole, connections=connections)
        for connections in ((1, 16) if quick else (1, 16, 64, 256))
    ]
    tests += [
        Test(name=f"stream.c{connections}", request=burst, connections=connections)
        for connections in ((16,) if quick else (1, 16, 64))
    ]
    if not quick:
        tests.append(Test(name="paced.c64", request=request(stream=True, paced=True), connections=64))
    return tests


# --- One round.

Round = dict[tuple[str, str], Figures]
"""By gateway and test; the provider itself is the gateway `direct`, whose CPU time is not told."""


def _round(the_rig: Rig, servers: Mapping[str, Server], tests: Iterable[Test], *, seconds: float) -> Round:
    found: Round = {}
    direct = port_of(the_rig.upstream)
    for test in tests:
        load = partial(the_rig.load, connections=test.connections, seconds=seconds)
        if test.connections == 1:
            seen = load(direct, test.request)
            found["direct", test.name] = Figures(
                cpu_us=0,
                per_second=seen.per_second,
                p50_ms=seen.p50_ms,
                p99_ms=seen.p99_ms,
                failed=0,
                rss_mb=0,
            )
        for name, server in servers.items():
            before = cpu_s(server.pid)
            seen = load(server.port, test.request.beside(server.headers))
            used = cpu_s(server.pid) - before
            found[name, test.name] = Figures(
                cpu_us=1e6 * used / max(1, seen.calls),
                per_second=seen.per_second,
                p50_ms=seen.p50_ms,
                p99_ms=seen.p99_ms,
                failed=seen.failed,
                rss_mb=memory_mib(server.pid),
            )
    return found


# --- What is told.

Named = dict[str, Spread]
"""Figures by their stable names."""


def _figures(name: str, rounds: list[Round], idle_mib: float) -> Named:
    """The figures of one gateway, over all rounds; ratios are to ours, round by round."""
    tests = [test for gateway, test in rounds[0] if gateway == name]
    told: Named = {}
    for test in tests:
        own = [each[name, test] for each in rounds]
        ours = [each[OURS, test] for each in rounds]
        told[f"cpu_us.{test}"] = spread([each.cpu_us for each in own])
        told[f"rps.{test}"] = spread([each.per_second for each in own])
        told[f"failed.{test}"] = spread([each.failed for each in own])
        told[f"ratio.{test}"] = spread(
            [each.cpu_us / our.cpu_us for each, our in zip(own, ours, strict=True)]
        )
        if ("direct", test) in rounds[0]:
            bare = [each["direct", test] for each in rounds]
            pairs = list(zip(own, bare, strict=True))
            kind = "added_ms" if test.startswith("nonstream") else "added_stream_ms"
            told[f"{kind}.p50"] = spread([each.p50_ms - direct.p50_ms for each, direct in pairs])
            told[f"{kind}.p99"] = spread([each.p99_ms - direct.p99_ms for each, direct in pairs])
    told["rss_idle_mb"] = spread([idle_mib])
    told["rss_mb"] = spread([max(each[name, test].rss_mb for test in tests) for each in rounds])
    return told


def _flat(figures: Mapping[str, Named]) -> dict[str, Any]:
    """Ours under the plain names; of the others, the ratio of their CPU time to ours, and all they gave."""
    ours, others = figures[OURS], {name: each for name, each in figures.items() if name != OURS}
    return {
        **{name: value for name, value in ours.items() if not name.startswith("ratio.")},
        **{f"ratio.{name}": each["ratio.nonstream.c16"] for name, each in others.items()},
        **{f"ratio_stream.{name}": each["ratio.stream.c16"] for name, each in others.items()},
        "others": others,
    }


_COLUMNS: Final = (
    ("CPU µs a call", "cpu_us.nonstream.c16", 0),
    ("× ours", "ratio.nonstream.c16", 2),
    (f"CPU µs a stream of {EVENTS}", "cpu_us.stream.c16", 0),
    ("× ours", "ratio.stream.c16", 2),
    ("calls/s a core", "rps.nonstream.c16", 0),
    ("added ms p50", "added_ms.p50", 2),
    ("p99", "added_ms.p99", 2),
    ("MiB idle", "rss_idle_mb", 0),
    ("loaded", "rss_mb", 0),
)


_WIDTH: Final = 118


def _show(figures: Mapping[str, Named], rig_name: str, absent: Mapping[str, str]) -> None:
    table = Table(
        title=f"Medians of {ROUNDS} rounds, smallest–largest below; rig: {rig_name}", title_justify="left"
    )
    table.add_column("", no_wrap=True, min_width=max(map(len, figures)))
    for title, _, _ in _COLUMNS:
        table.add_column(title, justify="right")
    for name, each in figures.items():
        table.add_row(name, *(_cell(each[figure], places) for _, figure, places in _COLUMNS))
    console = Console()
    console.width = max(console.width, _WIDTH)
    console.print(table)
    for name, why in absent.items():
        console.print(f"{name} is absent: {why}")
    failed = {
        f"{name} {test}": value["max"]
        for name, each in figures.items()
        for test, value in each.items()
        if test.startswith("failed.") and value["max"]
    }
    for test, number in failed.items():
        console.print(f"[red]{test}: {number:.0f} calls failed[/red]")


def _cell(value: Spread, places: int) -> str:
    if value["min"] == value["max"]:
        return f"{value['median']:.{places}f}"
    return f"{value['median']:.{places}f}\n{value['min']:.{places}f}–{value['max']:.{places}f}"


if __name__ == "__main__":
    main()
