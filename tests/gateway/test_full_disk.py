"""A full disk, made by a real limit on the size of a gateway's files: nothing is sent that is not on record."""

import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.policies import with_upstream
from support.processes import (
    BUDGETED,
    ServedGateway,
    an_extraction,
    billed,
    breaches,
    calling,
    served_gateway,
    set_aside,
    totals,
)
from support.waiting import eventually
from tierwise.sandbox.server import Running, running
from tierwise.stores.ledger.writer import PATIENCE_S


@pytest.fixture
def sandbox() -> Iterator[Running]:
    with running(seed=5, latency_ms=100) as sandbox:
        yield sandbox


def fill(gateway: ServedGateway, *, left: int) -> None:
    """Leave so many bytes for the file that grows."""
    log = Path(f"{gateway.ledger}-wal")
    limit(gateway.process.pid, log.stat().st_size + left)


def empty(gateway: ServedGateway) -> None:
    limit(gateway.process.pid, resource.RLIM_INFINITY)


def limit(pid: int, size: int) -> None:
    _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, most))


def test_nothing_is_sent_while_the_disk_is_full_and_all_that_was_is_on_record_after(
    tmp_path: Path, sandbox: Running
) -> None:
    with served_gateway(tmp_path, sandbox.base_url) as gateway, calling(gateway.http) as callers:
        eventually(lambda: len(callers.numbers(200)), until=lambda served: served > 20)
        fill(gateway, left=20_000)
        failing = eventually(gateway.health, until=lambda health: health["status"] == "failing")
        time.sleep(PATIENCE_S + 1)  # calls in flight are let go meanwhile
        assert failing["ledger_problem"] is not None
        before = billed(sandbox)
        refused = gateway.http.messages(an_extraction())
        time.sleep(0.5)
        assert billed(sandbox) == before
        assert before <= set_aside(gateway.ledger), "a call left whose reservation is not durable"
        empty(gateway)
        eventually(gateway.health, until=lambda health: health["status"] == "ok")
        again = len(callers.numbers(200))
        eventually(lambda: len(callers.numbers(200)), until=lambda served: served > again + 20)

    assert (refused.status, refused.headers["x-tierwise-error"]) == (503, "ledger")
    assert refused.headers["x-should-retry"] == "true"
    assert callers.outcomes() == {(200, None), (503, "ledger")}
    assert callers.broken == []
    assert billed(sandbox) == callers.numbers(200)
    assert totals(gateway.ledger) == (sandbox.billing()["total_nanos"], 0)
    assert breaches(gateway.ledger) == 0


def test_a_gateway_that_ends_on_a_full_disk_says_so_and_what_it_could_not_write_is_kept(
    tmp_path: Path, sandbox: Running
) -> None:
    with served_gateway(tmp_path, sandbox.base_url) as gateway, calling(gateway.http) as callers:
        eventually(lambda: len(callers.numbers(200)), until=lambda served: served > 20)
        fill(gateway, left=5_000)
        eventually(gateway.health, until=lambda health: health["status"] == "failing")
        gateway.stop()
    with served_gateway(tmp_path, sandbox.base_url) as again:
        answered = again.http.messages(an_extraction())
        again.stop()
        known, kept = totals(again.ledger)

    assert "could not be written before the end" in "".join(gateway.told)
    assert answered.status == 200
    assert billed(sandbox) <= set_aside(again.ledger)
    assert known <= sandbox.billing()["total_nanos"] <= known + kept
    assert breaches(again.ledger) == 0


def test_a_gateway_does_not_start_on_a_full_disk_and_says_why(tmp_path: Path, sandbox: Running) -> None:
    policy, ledger = tmp_path / "tierwise.toml", tmp_path / "ledger.sqlite3"
    policy.write_text(with_upstream(BUDGETED, sandbox.base_url))
    command = [sys.executable, "-m", "tierwise", "serve", "--port", "0"]
    command += ["--policy", str(policy), "--ledger", str(ledger)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        limit(process.pid, 0)
        _, told = process.communicate(timeout=60)

    assert process.returncode not in {0, -signal.SIGXFSZ}
    assert str(ledger) in told
    assert "Traceback" not in told
