"""What a call costs when it goes through the gateway: CPU time, added latency, calls a second, memory.

    python bench/gateway.py [--quick] [--peers] [--workers N] [--rig FOLDER] [--json FILE]

Everything is on: twelve task types, two budgets that count every call, a durable ledger; calls name their type, run
and agent. Beside it stand a bare pass-through on the same libraries, and with `--peers` the peers, each installed
into an environment of its own. All are measured in turn, three times over, so that what else the machine does meets
them all. CPU time, from the process table, is the figure to trust on a shared machine; a ratio is of two figures of
one round. A call that fails counts: where all of a peer's do, its other figures are of failing.

`--workers N` asks besides what N workers do more than one, each time with the budgets in a Valkey: by calls a second,
where the machine has cores to spare for the load, and by CPU time a call, which is all that a larger one would see.
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

from measuring import Spread, arguments, show, spread, write
from peers import PEERS, install, served
from rig import (
    EVENTS,
    SOURCES,
    Load,
    Request,
    Rig,
    Server,
    cpu_s,
    free_port,
    memory_mib,
    most_memory,
    port_of,
    rig,
    serving,
)
from scaling import compare
from workload import POLICY, request

ROUNDS: Final = 3
FIRST_BYTE: Final = "paced.c16"
"""The test that tells how long the first byte of a stream takes, beyond what the provider takes for it."""

OPEN: Final = "paced.c1000"
"""The test that has 1,000 streams open at once."""

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
    """The most under the load, in MiB."""
    first_p50_ms: float
    """Until the first byte of the reply."""
    first_p99_ms: float


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
        scaling = {} if asked.workers == 1 else compare(the_rig, asked.workers, quick=asked.quick)
    figures = {name: _figures(name, rounds, idle[name]) for name in servers}
    missing = {name: why for name, why in absent.items() if why is not None}
    packages = {peer.name: peer.package for peer in PEERS if peer.name in servers}
    _show(figures, the_rig.name, missing)
    if scaling:
        show(f"{asked.workers} workers to one", scaling, unit="times")
    told = {"bench": "gateway", "rig": the_rig.name, "absent": missing, "peers": packages}
    write(asked.json, {**told, **_flat(figures), **scaling})


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--peers", action="store_true", help="install the peers under .peers and measure them"
    )
    parser.add_argument("--workers", type=int, default=1, help="compare so many workers with one")
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
    whole, burst, paced = request(stream=False), request(stream=True), request(stream=True, paced=True)
    tests = [
        Test(name=f"nonstream.c{connections}", request=whole, connections=connections)
        for connections in ((1, 16) if quick else (1, 16, 64, 256))
    ]
    tests += [
        Test(name=f"stream.c{connections}", request=burst, connections=connections)
        for connections in ((16,) if quick else (1, 16, 64))
    ]
    tests.append(Test(name="paced.c16", request=paced, connections=16))
    if not quick:
        large = request(stream=False, kib=500)
        tests.append(Test(name="large.c16", request=large, connections=16))
        tests.append(Test(name="paced.c64", request=paced, connections=64))
        tests.append(Test(name="paced.c1000", request=paced, connections=1000))
    return tests


# --- One round.

Round = dict[tuple[str, str], Figures]
"""By gateway and test; the provider itself is the gateway `direct`, whose CPU time is not told."""


def _round(the_rig: Rig, servers: Mapping[str, Server], tests: Iterable[Test], *, seconds: float) -> Round:
    found: Round = {}
    direct = port_of(the_rig.upstream)
    for test in tests:
        lasts = max(seconds, 2.0) if test.name.startswith("paced") else seconds  # one such stream takes 0.65
        load = partial(the_rig.load, connections=test.connections, seconds=lasts)
        if test.connections == 1 or test.name == FIRST_BYTE:
            found["direct", test.name] = _seen(load(direct, test.request), cpu_used_s=0, rss_mb=0)
        for name, server in servers.items():
            before = cpu_s(server.pid)
            with most_memory(server.pid) as memory:
                seen = load(server.port, test.request.beside(server.headers))
            used = cpu_s(server.pid) - before
            found[name, test.name] = _seen(seen, cpu_used_s=used, rss_mb=memory())
    return found


def _seen(load: Load, *, cpu_used_s: float, rss_mb: float) -> Figures:
    return Figures(
        cpu_us=1e6 * cpu_used_s / max(1, load.calls),
        per_second=load.per_second,
        p50_ms=load.p50_ms,
        p99_ms=load.p99_ms,
        failed=load.failed,
        rss_mb=rss_mb,
        first_p50_ms=load.first_p50_ms,
        first_p99_ms=load.first_p99_ms,
    )


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
            if test == FIRST_BYTE:
                told["first_byte_ms.p50"] = spread([a.first_p50_ms - b.first_p50_ms for a, b in pairs])
                told["first_byte_ms.p99"] = spread([a.first_p99_ms - b.first_p99_ms for a, b in pairs])
                continue
            kind = "added_ms" if test.startswith("nonstream") else "added_stream_ms"
            told[f"{kind}.p50"] = spread([each.p50_ms - direct.p50_ms for each, direct in pairs])
            told[f"{kind}.p99"] = spread([each.p99_ms - direct.p99_ms for each, direct in pairs])
    told["rss_idle_mb"] = spread([idle_mib])
    told["rss_mb"] = spread([max(each[name, test].rss_mb for test in tests) for each in rounds])
    if OPEN in tests:
        told["rss_open_mb"] = spread([each[name, OPEN].rss_mb for each in rounds])
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
    ("first byte p50", "first_byte_ms.p50", 2),
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
