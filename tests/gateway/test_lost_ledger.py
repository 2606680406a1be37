"""A ledger that is locked, or whose server is gone: nothing is sent that is not on record, and nothing is lost."""

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support import postgres
from support.postgres import Server
from support.processes import (
    Callers,
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


@pytest.fixture(scope="module")
def server() -> Generator[Server]:
    with postgres.running() as server:
        yield server


def lose_and_find(
    gateway: ServedGateway, sandbox: Running, lose: Callable[[], None], find: Callable[[], None]
) -> Callers:
    """Lose the ledger under load for longer than anybody waits for it, and find it again."""
    with calling(gateway.http) as callers:
        eventually(lambda: len(callers.numbers(200)), until=lambda served: served > 20)
        lose()
        try:
            eventually(gateway.health, until=lambda health: health["ledger_problem"] is not None)
            time.sleep(PATIENCE_S + 1)
            before = billed(sandbox)
            refused = gateway.http.messages(an_extraction())
            time.sleep(0.5)
            assert (refused.status, refused.headers["x-tierwise-error"]) == (503, "ledger")
            assert billed(sandbox) == before
        finally:
            find()
        eventually(gateway.health, until=lambda health: health["status"] == "ok")
        again = len(callers.numbers(200))
        eventually(lambda: len(callers.numbers(200)), until=lambda served: served > again + 20)
    return callers


def check_that_nothing_is_lost(gateway: ServedGateway, sandbox: Running, callers: Callers) -> None:
    assert callers.outcomes() == {(200, None), (503, "ledger")}
    assert callers.broken == []
    assert billed(sandbox) == callers.numbers(200)
    assert billed(sandbox) <= set_aside(gateway.ledger)
    assert totals(gateway.ledger) == (sandbox.billing()["total_nanos"], 0)
    assert breaches(gateway.ledger) == 0


def test_a_database_that_another_process_locks_refuses_calls_until_it_is_free(
    tmp_path: Path, sandbox: Running
) -> None:
    with (
        served_gateway(tmp_path, sandbox.base_url) as gateway,
        closing(sqlite3.connect(gateway.ledger, isolation_level=None)) as other,
    ):
        callers = lose_and_find(
            gateway,
            sandbox,
            lose=lambda: other.execute("BEGIN IMMEDIATE").close(),
            find=lambda: other.execute("ROLLBACK").close(),
        )

    check_that_nothing_is_lost(gateway, sandbox, callers)


@pytest.mark.parametrize("how", ["stopped", "paused"])
def test_a_database_server_that_goes_refuses_calls_until_it_is_back(
    how: str, tmp_path: Path, sandbox: Running, server: Server
) -> None:
    lose, find = {
        "stopped": (server.stop, server.start),
        "paused": (lambda: paused(server, signal.SIGSTOP), lambda: paused(server, signal.SIGCONT)),
    }[how]
    with served_gateway(tmp_path, sandbox.base_url, ledger=server.new_database()) as gateway:
        callers = lose_and_find(gateway, sandbox, lose=lose, find=find)

    check_that_nothing_is_lost(gateway, sandbox, callers)


def test_a_gateway_ends_while_its_database_server_does_not_answer_and_says_what_is_not_written(
    tmp_path: Path, sandbox: Running, server: Server
) -> None:
    with (
        served_gateway(tmp_path, sandbox.base_url, ledger=server.new_database()) as gateway,
        calling(gateway.http) as callers,
    ):
        eventually(lambda: len(callers.numbers(200)), until=lambda served: served > 20)
        paused(server, signal.SIGSTOP)
        try:
            eventually(gateway.health, until=lambda health: health["ledger_problem"] is not None)
            code = gateway.stop()
        finally:
            paused(server, signal.SIGCONT)
    known, kept = totals(gateway.ledger)

    assert code == 0
    assert "could not be written before the end" in "".join(gateway.told)
    assert billed(sandbox) <= set_aside(gateway.ledger)
    assert known <= sandbox.billing()["total_nanos"] <= known + kept


def paused(server: Server, what: signal.Signals) -> None:
    """Stop or continue all processes of the server."""
    workers = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    for pid in (server.pid, *map(int, workers)):
        os.kill(pid, what)
