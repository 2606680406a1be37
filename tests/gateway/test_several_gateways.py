"""Several processes that take calls on one ledger and one set of balances, on real servers."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, Final

import pytest

from support import postgres
from support.policies import TWO_TIERS, with_upstream
from support.processes import (
    BUDGETED,
    Callers,
    ServedGateway,
    an_extraction,
    breaches,
    calling,
    served_gateway,
    set_aside,
    totals,
)
from support.valkey import Valkey, a_valkey, budgets_on
from support.waiting import eventually
from tierwise.config import load_book
from tierwise.core.budgets import Balance
from tierwise.money import usd
from tierwise.sandbox.server import Answer, Running, running
from tierwise.stores.ledger.opening import read_ledger
from tierwise.stores.ledger.reservations import balances, ledger_id, open_reservations

LIMIT_USD: Final = "0.05"
RUN: Final = {"x-tierwise-run-id": "run-1"}

POLICY: Final = f"""
{TWO_TIERS}
[tiers.middle]
model = "claude-sonnet-5-5"
thinking = "off"

[[budgets]]
scope = "run"
limit_usd = "{LIMIT_USD}"
warn_at = [50]
"""


@pytest.fixture(scope="module")
def valkey() -> Generator[Valkey]:
    with a_valkey() as server:
        yield server


@pytest.fixture
def sandbox() -> Iterator[Running]:
    with running(seed=5) as sandbox:
        yield sandbox


def on(valkey: Valkey, policy: str) -> str:
    return f'budget_store = "{valkey.address.text}"\n{policy}'


def folded(ledger: Path | str) -> Mapping[str, Balance]:
    with closing(read_ledger(ledger)) as reader:
        return balances(reader)


def shared(valkey: Valkey, ledger: Path | str) -> Mapping[str, Balance]:
    """What the Valkey holds for the gateways of a ledger."""
    with closing(read_ledger(ledger)) as reader:
        namespace = ledger_id(reader)
    with budgets_on(valkey, namespace=namespace) as store:
        return store.balances()


# --- Two gateways, with a ledger in PostgreSQL.


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two gateways, and a load on both that went on until a run's budget was spent."""

    first: ServedGateway
    second: ServedGateway
    policies: tuple[Path, Path]
    callers: Callers
    provider_total_nanos: int

    @property
    def ledger(self) -> Path | str:
        return self.first.ledger

    def told(self) -> list[str]:
        return [*self.first.told, *self.second.told]


@pytest.fixture(scope="module")
def pair(valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Generator[Pair]:
    policy = on(valkey, POLICY)
    with ExitStack() as stack:
        sandbox = stack.enter_context(running(seed=5, latency_ms=20))
        ledger = stack.enter_context(postgres.running()).new_database()
        folders = [tmp_path_factory.mktemp("gateway") for _ in range(2)]
        first, second = (
            stack.enter_context(served_gateway(folder, sandbox.base_url, policy=policy, ledger=ledger))
            for folder in folders
        )
        with calling(first.http, second.http, at_once=10, headers=RUN) as callers:
            eventually(lambda: len(callers.numbers(429)), until=lambda refused: refused > 100)
        yield Pair(
            first=first,
            second=second,
            policies=(folders[0] / "tierwise.toml", folders[1] / "tierwise.toml"),
            callers=callers,
            provider_total_nanos=sandbox.billing()["total_nanos"],
        )


def test_two_gateways_spend_one_limit_and_use_it(pair: Pair) -> None:
    assert usd(LIMIT_USD) * 9 // 10 < pair.provider_total_nanos <= usd(LIMIT_USD)
    assert pair.callers.outcomes() == {(200, None), (429, "budget")}


def test_the_calls_of_both_are_in_one_ledger_that_is_sound(pair: Pair) -> None:
    served = [gateway.health()["calls"] for gateway in (pair.first, pair.second)]

    assert min(served) > 0
    assert pair.callers.numbers(200) <= set_aside(pair.ledger)
    assert totals(pair.ledger)[0] == pair.provider_total_nanos
    assert breaches(pair.ledger) == 0


def test_the_shared_balances_are_what_the_ledger_adds_up_to(pair: Pair, valkey: Valkey) -> None:
    ours = folded(pair.ledger)

    assert any(balance.posted_nanos for balance in ours.values())
    assert eventually(lambda: shared(valkey, pair.ledger), until=lambda found: found == ours) == ours


def test_a_warning_is_told_once_over_all_gateways(pair: Pair) -> None:
    warned = [line for line in pair.told() if "run run-1: 50 % of" in line]

    assert len(warned) == 1


def test_a_conversation_keeps_its_tier_when_its_turns_go_to_different_gateways(pair: Pair) -> None:
    opening = {"role": "user", "content": "Which firm signed?"}
    later = [opening, {"role": "assistant", "content": "Acme."}, {"role": "user", "content": "When?"}]

    def ask(gateway: ServedGateway, *messages: Mapping[str, str]) -> str:
        body = {"model": "task/extraction", "max_tokens": 100, "messages": messages}
        return answered(gateway.http.messages(body, {"x-tierwise-run-id": "run-of-turns"}))["model"]

    assert ask(pair.first, opening) == "claude-haiku-5-5"
    extraction_goes_to_the_middle_tier(pair)

    assert batched(pair.second, later, [later[2]]) == {"0": "claude-haiku-5-5", "1": "claude-sonnet-5-5"}
    assert ask(pair.second, *later) == "claude-haiku-5-5"
    assert ask(pair.second, {"role": "user", "content": "Which court?"}) == "claude-sonnet-5-5"


def batched(gateway: ServedGateway, *conversations: list[dict[str, str]]) -> dict[str, str]:
    """Make a batch of items that go on with conversations, and return which model answered each."""
    requests = [
        {
            "custom_id": str(place),
            "params": {"model": "task/extraction", "max_tokens": 100, "messages": messages},
        }
        for place, messages in enumerate(conversations)
    ]
    headers = {"x-api-key": "k", "anthropic-version": "2023-06-01", "x-tierwise-run-id": "run-of-turns"}
    batches, body = "/v1/messages/batches", json.dumps({"requests": requests}).encode()
    made = answered(gateway.http.send("POST", batches, body, headers))["id"]
    answered(gateway.http.send("GET", f"{batches}/{made}", headers=headers))
    results = gateway.http.send("GET", f"{batches}/{made}/results", headers=headers).body.splitlines()
    lines = [json.loads(line) for line in results]
    return {line["custom_id"]: line["result"]["message"]["model"] for line in lines}


def answered(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer.body
    return answer.json()


def extraction_goes_to_the_middle_tier(pair: Pair) -> None:
    """Edit both policies, and wait until they are in force."""
    before, after = (f'[task_types.extraction]\ntier = "{tier}"' for tier in ("fast", "middle"))
    for gateway, policy in zip((pair.first, pair.second), pair.policies, strict=True):
        policy.write_text(policy.read_text().replace(before, after))
        version = load_book(policy).policy.version
        assert eventually(gateway.health, until=lambda health, version=version: health["policy"] == version)


# --- Several workers, with a ledger in a file.


@contextmanager
def a_crew(folder: Path, base_url: str, policy: str, *, workers: int) -> Generator[ServedGateway]:
    """Serve with several workers while the block runs."""
    file, ledger = folder / "tierwise.toml", folder / "ledger.sqlite3"
    file.write_text(with_upstream(policy, base_url))
    command = [sys.executable, "-m", "tierwise", "serve", "--port", "0", "--quiet", "--workers", f"{workers}"]
    command += ["--policy", str(file), "--ledger", str(ledger)]
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
            yield ServedGateway(http=Running(address), process=process, ledger=ledger, told=told)
        finally:
            process.terminate()
            process.wait(60)
            reading.join(10)


@contextmanager
def connections(crew: ServedGateway, workers: int) -> Generator[dict[int, HTTPConnection]]:
    """Connections to so many workers, by the worker's process id."""
    with ExitStack() as stack:
        found: dict[int, HTTPConnection] = {}

        def connect() -> int:
            connection = HTTPConnection(crew.http.base_url.removeprefix("http://"), timeout=30)
            stack.callback(connection.close)
            connection.request("GET", "/tierwise/health")
            with connection.getresponse() as reply:
                found.setdefault(json.load(reply)["pid"], connection)
            return len(found)

        eventually(connect, until=lambda number: number >= workers)
        yield found


def streaming(connection: HTTPConnection) -> HTTPResponse:
    """Begin a stream that pauses for a second in its midst; return it once it has begun."""
    headers = {"x-api-key": "any", "anthropic-version": "2023-06-01", "content-type": "application/json"}
    headers["x-sandbox-fault"] = "stall-after:4,seconds=1"
    connection.request(
        "POST", "/v1/messages", json.dumps({**an_extraction(), "stream": True}).encode(), headers
    )
    reply = connection.getresponse()
    assert reply.status == 200
    assert reply.readline().startswith(b"event: message_start")
    return reply


def test_a_worker_that_is_killed_cuts_its_own_calls_only_and_their_reservations_are_kept(
    valkey: Valkey, tmp_path: Path, sandbox: Running
) -> None:
    with (
        a_crew(tmp_path, sandbox.base_url, on(valkey, BUDGETED), workers=4) as crew,
        connections(crew, workers=2) as by_worker,
    ):
        (doomed, lost), (_, other) = list(by_worker.items())[:2]
        cut, finished = streaming(lost), streaming(other)
        os.kill(doomed, signal.SIGKILL)

        with pytest.raises((OSError, HTTPException)):
            cut.read()
        assert b"event: message_stop" in finished.read()
        after = crew.http.messages(an_extraction())
        eventually(lambda: shared(valkey, crew.ledger), until=lambda found: found == folded(crew.ledger))
        assert crew.stop() == 0

    assert after.status == 200
    assert any(f"worker {doomed} ended with SIGKILL" in line for line in crew.told)
    with closing(read_ledger(crew.ledger)) as reader:
        (kept,) = open_reservations(reader)
    known, pending = totals(crew.ledger)
    assert pending == kept.amount_nanos == shared(valkey, crew.ledger)[kept.accounts[0]].pending_nanos
    assert known < sandbox.billing()["total_nanos"] <= known + pending
    assert breaches(crew.ledger) == 0


def test_sigterm_lets_every_worker_finish_its_calls_and_nothing_stays_open(
    valkey: Valkey, tmp_path: Path, sandbox: Running
) -> None:
    with (
        a_crew(tmp_path, sandbox.base_url, on(valkey, BUDGETED), workers=2) as crew,
        connections(crew, workers=2) as by_worker,
    ):
        replies = [streaming(connection) for connection in by_worker.values()]
        crew.process.terminate()

        assert all(b"event: message_stop" in reply.read() for reply in replies)
        assert crew.process.wait(60) == 0

    assert totals(crew.ledger) == (sandbox.billing()["total_nanos"], 0)
    assert shared(valkey, crew.ledger) == folded(crew.ledger)
    assert breaches(crew.ledger) == 0


def test_hard_budgets_without_a_store_that_workers_share_are_refused_with_the_line_that_is_missing(
    tmp_path: Path,
) -> None:
    policy = tmp_path / "tierwise.toml"
    policy.write_text(with_upstream(BUDGETED, "http://127.0.0.1:1"))

    refused = subprocess.run(
        [sys.executable, "-m", "tierwise", "serve", "--port", "0", "--workers", "2"],
        env={**os.environ, "TIERWISE_POLICY": str(policy), "TIERWISE_LEDGER": str(tmp_path / "ledger")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert refused.returncode == 3
    assert 'budget_store = "valkey://127.0.0.1:6379"' in refused.stderr
