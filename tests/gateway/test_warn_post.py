"""Warnings of budgets, as the server of an address gets them."""

import asyncio
import json
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from support.claims import an_account
from support.gateways import running_gateway
from support.policies import TWO_TIERS
from support.processes import an_extraction
from support.waiting import eventually
from tierwise.core.budgets import Crossing
from tierwise.gateway import warn_post
from tierwise.gateway.warn_post import WarnPost, warning_body
from tierwise.money import usd
from tierwise.sandbox.server import running


class Receiver:
    """A server that takes what is posted to it."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        """Of all posts, also of those that were not taken."""
        self.answers: list[int] = []
        """Statuses of the next answers; then 204."""
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.url = ""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@contextmanager
def receiving() -> Generator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.bodies.append(json.loads(body))
            receiver.may_answer.wait(30)
            self.send_response(receiver.answers.pop(0) if receiver.answers else 204)
            self.send_header("location", "/elsewhere?token=hidden")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 — the base's own name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hook?token=hidden"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.may_answer.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warn_post, "WAITS_S", (0, 0.01, 0.01, 0.01))
    monkeypatch.setattr(warn_post, "FAREWELL_S", 20)


CROSSING = Crossing(account=an_account(), percent=80, used_nanos=85)


def posting(url: str, *crossings: Crossing) -> None:
    """Post warnings until each is taken or given up."""

    async def post() -> None:
        poster = WarnPost(url)
        for crossing in crossings:
            poster.tell(crossing)
        running = asyncio.create_task(poster.run())
        await poster.drain()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    asyncio.run(post())


def test_each_share_that_a_budget_reaches_is_posted_once(tmp_path: Path, receiver: Receiver) -> None:
    policy = f"""
warn_url = "{receiver.url}"
{TWO_TIERS}
[[budgets]]
scope = "run"
window = "day"
limit_usd = "0.005"
warn_at = [10, 50, 90]
"""
    with running(seed=1) as sandbox, running_gateway(tmp_path, sandbox.base_url, policy=policy) as gateway:
        while gateway.http.messages(an_extraction(), {"x-tierwise-run-id": "run-7"}).status == 200:
            pass
        eventually(lambda: receiver.bodies, until=lambda bodies: len(bodies) == 3)

    first = receiver.bodies[0]
    assert [body["percent"] for body in receiver.bodies] == [10, 50, 90]
    assert first == {
        "type": "budget_warning",
        "text": first["text"],
        "budget": "run-day",
        "scope": "run",
        "value": "run-7",
        "window": "day",
        "window_ends_at": first["window_ends_at"],
        "percent": 10,
        "used_usd": first["used_usd"],
        "limit_usd": "0.005000000",
    }
    assert first["text"].startswith("budget run-day, run run-7: 10 % of $0.0050 is used")
    assert datetime.fromisoformat(first["window_ends_at"]) > datetime.now(UTC)
    assert usd("0.0005") <= usd(first["used_usd"]) < usd("0.005")


def test_a_warning_is_posted_again_until_it_is_taken(receiver: Receiver) -> None:
    receiver.answers = [500, 503, 429]

    posting(receiver.url, CROSSING)

    assert receiver.bodies == [warning_body(CROSSING)] * 4


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_warning_that_nobody_takes_is_given_up_with_a_log_line_that_hides_the_address(
    status: int, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers = [status] * 4
    other = Crossing(account=an_account(), percent=95, used_nanos=96)

    posting(receiver.url, CROSSING, other)

    assert receiver.bodies == [warning_body(CROSSING)] * 4 + [warning_body(other)]
    assert f"not taken by its address after 4 tries: status {status}" in caplog.text
    assert "hidden" not in caplog.text


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/hook?token=hidden", "http://[hidden/hook", "gone:hidden"]
)
def test_an_address_that_cannot_be_reached_is_told_without_its_secret(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    posting(url, CROSSING)

    assert "not taken by its address after 4 tries" in caplog.text
    assert "hidden" not in caplog.text


def test_calls_do_not_wait_for_a_warning_to_be_taken(tmp_path: Path, receiver: Receiver) -> None:
    policy = f"""
warn_url = "{receiver.url}"
{TWO_TIERS}
[[budgets]]
scope = "task"
limit_usd = "0.01"
warn_at = [1]
"""
    receiver.may_answer.clear()
    with running(seed=1) as sandbox, running_gateway(tmp_path, sandbox.base_url, policy=policy) as gateway:
        statuses = [
            gateway.http.messages(an_extraction(), {"x-tierwise-task-id": f"t{number}"}).status
            for number in range(10)
        ]
        waiting = len(receiver.bodies)
        receiver.may_answer.set()
        eventually(lambda: receiver.bodies, until=lambda bodies: len(bodies) == 10)

    assert statuses == [200] * 10
    assert waiting <= 1
    assert [body["value"] for body in receiver.bodies] == [f"t{number}" for number in range(10)]


def test_more_warnings_than_may_wait_are_told_to_the_log_alone(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(warn_post, "MOST_WAITING", 2)

    posting(receiver.url, CROSSING, CROSSING, CROSSING)

    assert len(receiver.bodies) == 2
    assert "a warning was not posted: 2 wait already" in caplog.text
