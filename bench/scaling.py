"""What several workers do more than one, the budgets of both in a Valkey of the bench's own."""

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from gateways import Servers, servers
from measuring import Spread, spread
from rig import Rig, Server, cpu_s, free_port, serving
from workload import POLICY, request

ROUNDS: Final = 3
CONNECTIONS: Final = 64


def compare(the_rig: Rig, workers: int, *, quick: bool) -> dict[str, Spread]:
    """Return how many times as much `workers` do as one.

    `scaling.rps` is of calls a second; `scaling.cpu` of CPU time, so many times as much of it, a call's at one worker
    to a call's at all of them. All cores are theirs, and the load's and the provider's too.
    """
    with ExitStack() as stack:
        shared = stack.enter_context(servers())
        one, many = (_workers(number, the_rig, shared, stack) for number in (1, workers))
        for server in (one, many):
            _load(the_rig, server, quick=True)  # workers begin when their first calls wait
        rounds = [
            (_load(the_rig, one, quick=quick), _load(the_rig, many, quick=quick)) for _ in range(ROUNDS)
        ]
    return {
        "scaling.rps": spread([many[0] / one[0] for one, many in rounds]),
        "scaling.cpu": spread([workers * one[1] / many[1] for one, many in rounds]),
    }


def _workers(number: int, the_rig: Rig, shared: Servers, stack: ExitStack) -> Server:
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    policy = Path(folder, "tierwise.toml")
    policy.write_text(f'budget_store = "{shared.budget_store()}"\n{POLICY}')
    port = free_port()
    command = [sys.executable, "-m", "tierwise", "serve", "--quiet", "--log-level", "error"]
    command += ["--policy", str(policy), "--ledger", str(Path(folder, "ledger.sqlite3"))]
    command += ["--upstream", the_rig.upstream, "--port", str(port), "--workers", str(number)]
    return stack.enter_context(serving(command, port, everywhere=True))


def _load(the_rig: Rig, server: Server, *, quick: bool) -> tuple[float, float]:
    """Calls a second, and the CPU time of one."""
    before = cpu_s(server.pid)
    seen = the_rig.load(
        server.port, request(stream=False), connections=CONNECTIONS, seconds=0.6 if quick else 2.5
    )
    return seen.per_second, (cpu_s(server.pid) - before) / max(1, seen.calls)
