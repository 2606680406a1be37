"""A session: shared by the doors of a program, closed at its end, and not inherited by a fork."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anthropic
import pytest

import tierwise
from support.clients import Door, router_of
from support.plays import calls
from tierwise.client.session import session_of
from tierwise.errors import LedgerUnavailable
from tierwise.sandbox.server import Running

ASKED: dict[str, Any] = {
    "model": "task/extraction",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hi"}],
}


def test_the_doors_of_one_router_and_one_ledger_share_a_session(tmp_path: Path) -> None:
    router, ledger = router_of(tmp_path), tmp_path / "ledger.sqlite3"

    session = session_of(router, ledger)

    assert session_of(router, str(ledger)) is session
    assert session_of(session, None) is session
    session.close()
    again = session_of(router, ledger)
    assert again is not session
    again.close()


def test_without_a_ledger_calls_are_decided_and_fitted_and_nothing_is_written(
    tmp_path: Path, sandbox: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with tierwise.Session(router_of(tmp_path), ledger=None) as session:
        client: Any = anthropic.Anthropic(
            base_url=sandbox.base_url, api_key="any", middleware=[tierwise.middleware(session)]
        )
        with client:
            message = client.messages.create(**ASKED)

    assert message.model == "claude-haiku-5-5"
    assert [path.name for path in tmp_path.iterdir()] == ["tierwise.toml"]


def test_a_closed_session_makes_no_calls_and_says_so(door: Door, sandbox: Running) -> None:
    with door.client() as client:
        door.session.close()
        with pytest.raises(anthropic.InternalServerError, match="is closed") as raised:
            client.messages.create(**ASKED)

    assert raised.value.response.headers["x-should-retry"] == "false"
    assert sandbox.calls() == []


def test_closing_ends_the_streams_that_are_open(door: Door) -> None:
    with door.client() as client:
        events = client.messages.create(
            **ASKED, stream=True, extra_headers={"x-sandbox-fault": "stall-after:4,seconds=20"}
        )
        next(iter(events))
        door.session.close()

    (recorded,) = door.calls()
    assert recorded["error"] == "caller-left"


def test_one_session_serves_several_event_loops_and_threads(door: Door) -> None:
    async def ask() -> None:
        async with door.async_client() as client:
            await client.messages.create(**ASKED)

    asyncio.run(ask())
    asyncio.run(ask())
    with door.client() as client:
        client.messages.create(**ASKED)

    assert [call["ending"] for call in door.calls()] == ["posted"] * 3


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_is_told_to_open_its_own(door: Door) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        refusal = door.session.refusal()
        os.write(writing, b"" if refusal is None else refusal.body)
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)

    assert b"was forked after" in os.read(reading, 4096)
    os.close(reading)
    assert door.session.refusal() is None


PROGRAM = """
import sys, anthropic, tierwise
policy, url = sys.argv[1:]
client = anthropic.Anthropic(
    base_url=url, api_key="any", middleware=[tierwise.middleware(tierwise.Router.from_file(policy))]
)
with tierwise.task("extraction", run="run-7"):
    events = client.messages.create(
        model="claude-opus-5-5", max_tokens=100, messages=[{"role": "user", "content": "Hi"}], stream=True,
        extra_headers={"x-sandbox-fault": "stall-after:4,seconds=20"},
    )
    next(iter(events))
"""


def test_a_program_that_ends_closes_its_session_and_its_ledger_is_where_the_gateways_is(
    tmp_path: Path, sandbox: Running
) -> None:
    router_of(tmp_path)

    subprocess.run(
        [sys.executable, "-c", PROGRAM, "tierwise.toml", sandbox.base_url],
        cwd=tmp_path,
        check=True,
        timeout=60,
    )

    (recorded,) = calls(tmp_path / "tierwise.sqlite3", "true")
    assert (recorded["run_id"], recorded["error"]) == ("run-7", "caller-left")


def test_a_ledger_that_cannot_be_opened_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable):
        tierwise.Session(router_of(tmp_path), ledger=tmp_path)
