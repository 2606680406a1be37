"""How long starting takes: until the gateway has served its first call, and until the library can be used.

    python bench/startup.py [--quick] [--rig FOLDER] [--json FILE]

Each start is a process of its own. An import's figure is what it takes beyond a Python that does nothing, and its CPU
time is the figure to trust on a shared machine.
"""

import argparse
import http.client
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from measuring import Spread, arguments, show, spread, write
from rig import SOURCES, Rig, free_port, rig
from workload import POLICY, request

WITHIN_S: Final = 60.0

IMPORTS: Final = {
    "package": "import tierwise",
    "router": "import tierwise; tierwise.Router",
    "transport": "import tierwise; tierwise.Transport",
}
"""What a user of the library writes first."""

WITH_SDK: Final = {"middleware": "import tierwise; tierwise.middleware", "anthropic": "import anthropic"}
"""The middleware is for the provider's SDK, whose own import takes most of it: `--quick` leaves both out."""


def main() -> None:
    asked = arguments("Measures how long the gateway takes to start, and the library to import.", _more)
    repeats = 2 if asked.quick else 9
    with rig(asked.rig) as the_rig:
        starts = [_first_call_ms(the_rig) for _ in range(repeats)]
    figures: dict[str, Spread] = {
        "first_call_ms": spread([wall for wall, _ in starts]),
        "first_call_cpu_ms": spread([cpu for _, cpu in starts]),
    }
    for name, statement in (IMPORTS if asked.quick else {**IMPORTS, **WITH_SDK}).items():
        taken = [_import_ms(statement) for _ in range(repeats)]
        figures[f"import_ms.{name}"] = spread([wall for wall, _ in taken])
        figures[f"import_cpu_ms.{name}"] = spread([cpu for _, cpu in taken])
    show("Starting", figures, unit="ms", places=0)
    write(asked.json, {"bench": "startup", "rig": the_rig.name, **figures})


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rig", type=Path, default=SOURCES, help="folder of mock.c and load.c")


def _first_call_ms(the_rig: Rig) -> tuple[float, float]:
    """Milliseconds from a gateway's start to its first reply, and its CPU time over its whole short life."""
    with tempfile.TemporaryDirectory() as folder:
        policy, port = Path(folder, "tierwise.toml"), free_port()
        policy.write_text(POLICY)
        command = [sys.executable, "-m", "tierwise", "serve", "--quiet", "--log-level", "error"]
        command += ["--policy", str(policy), "--ledger", str(Path(folder, "ledger.sqlite3"))]
        command += ["--upstream", the_rig.upstream, "--port", str(port)]
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            _call(port, process)
            wall = time.perf_counter() - began
        finally:
            process.terminate()
            _, _, used = os.wait4(process.pid, 0)
            process.returncode = 0
    return 1000 * wall, 1000 * (used.ru_utime + used.ru_stime)


def _call(port: int, process: subprocess.Popen[bytes]) -> None:
    """Make one call, as soon as there is somebody to take it."""
    one = request(stream=False)
    until = time.monotonic() + WITHIN_S
    while time.monotonic() < until:
        with suppress(ConnectionRefusedError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WITHIN_S)
            connection.request("POST", "/v1/messages", body=one.body, headers=dict(one.headers))
            status = connection.getresponse().status
            connection.close()
            assert status == 200, status
            return
        time.sleep(0.002)
    raise ChildProcessError(f"no gateway on port {port}: process {process.pid}")


def _import_ms(statement: str) -> tuple[float, float]:
    """Milliseconds, and those of CPU time, that a statement takes beyond a Python that does nothing."""
    with_it, without = _run_ms(statement), _run_ms("pass")
    return with_it[0] - without[0], with_it[1] - without[1]


def _run_ms(statement: str) -> tuple[float, float]:
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", statement])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = status
    assert status == 0, statement
    return 1000 * (time.perf_counter() - began), 1000 * (used.ru_utime + used.ru_stime)


if __name__ == "__main__":
    main()
