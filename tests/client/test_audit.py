"""The audit in process: pairs of calls that the real SDK makes, by each door, in the background."""

import asyncio
import json
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import pytest

import tierwise
from support.clients import Door, OpenDoor
from support.policies import TWO_TIERS
from support.waiting import eventually
from tierwise.audit.watching import BATCH
from tierwise.client.session import Begun
from tierwise.core.ledger import Checked, Paired
from tierwise.sandbox.server import Running
from tierwise.stores.ledger.acts import checks
from tierwise.stores.ledger.pairs import evidence
from tierwise.stores.ledger.sqlite import read_ledger

EVERY_CALL = "[audit]\nsample = 100\nshare = 50\nmost_of_day = 100\n"
SHADOWED = TWO_TIERS.replace('tier = "frontier"', 'tier = "frontier"\nshadow = true') + EVERY_CALL
CALL: dict[str, Any] = {
    "model": "task/synthesis",
    "max_tokens": 8000,
    "messages": [{"role": "user", "content": "Add it up. [[sandbox output_tokens=300]]"}],
}


@pytest.fixture
def door(open_door: OpenDoor) -> Door:
    door = open_door(SHADOWED)
    assert door.session.audit is not None
    eventually(lambda: door.session.audit, until=lambda audit: audit is not None and audit.is_ready)
    return door


def pairs(door: Door) -> tuple[Paired, ...]:
    with closing(read_ledger(door.ledger_path)) as ledger:
        return evidence(ledger).pairs


def first_pair(door: Door) -> Paired:
    audit = door.session.audit
    assert audit is not None
    audit.idle()
    (pair,) = eventually(lambda: pairs(door), until=bool)
    return pair


def ledger_of(door: Door) -> list[tuple[str, str, str]]:
    return [(each["tier"], each["purpose"] or "", each["ending"]) for each in door.settled()]


THE_CALL_AND_ITS_SHADOW = [("frontier", "", "posted"), ("fast", "audit", "posted")]


def test_a_call_of_a_thread_is_compared(door: Door, sandbox: Running) -> None:
    with closing(door.client()) as client:
        reply = client.messages.create(**CALL)
        pair = first_pair(door)

    assert "opus" in reply.model
    assert (pair.task_type, pair.on_dear) == ("synthesis", True)
    assert ledger_of(door) == THE_CALL_AND_ITS_SHADOW
    assert sum(each["cost_nanos"] for each in door.calls()) == sandbox.billing()["total_nanos"]


def test_a_stream_of_a_thread_is_compared_once_it_is_read(door: Door) -> None:
    with closing(door.client()) as client, client.messages.stream(**CALL) as stream:
        text = "".join(stream.text_stream)
        first_pair(door)

    assert text
    assert ledger_of(door) == THE_CALL_AND_ITS_SHADOW


def test_a_call_of_a_coroutine_is_compared_though_its_loop_and_its_client_are_gone(door: Door) -> None:
    async def talk() -> str:
        async with door.async_client() as client:
            return (await client.messages.create(**CALL)).model

    assert "opus" in asyncio.run(talk())
    first_pair(door)
    assert ledger_of(door) == THE_CALL_AND_ITS_SHADOW


def test_a_stream_of_a_coroutine_is_compared(door: Door) -> None:
    async def talk() -> None:
        async with door.async_client() as client, client.messages.stream(**CALL) as stream:
            async for _ in stream.text_stream:
                pass

    asyncio.run(talk())
    first_pair(door)
    assert ledger_of(door) == THE_CALL_AND_ITS_SHADOW


def test_a_stream_that_is_left_is_not_compared(door: Door) -> None:
    audit = door.session.audit
    assert audit is not None
    stalls = {"x-sandbox-fault": "stall-after:4,seconds=20"}
    with closing(door.client()) as client, client.messages.stream(**CALL, extra_headers=stalls) as stream:
        next(iter(stream))
    door.settled()
    audit.idle()

    assert ledger_of(door) == [("frontier", "", "failed")]


def test_a_session_that_is_closed_gives_up_the_calls_of_its_audit(door: Door) -> None:
    with closing(door.client()) as client:
        client.messages.create(**CALL, extra_headers={"x-sandbox-fault": "slow-first:2"})
    eventually(lambda: door.calls("purpose = 'audit'"), until=bool)

    door.session.close()

    (shadow,) = door.calls("purpose = 'audit'")
    assert (shadow["ending"], shadow["error"]) == ("failed", "gateway-stopped")
    assert pairs(door) == ()


def test_a_run_gives_one_pair_a_day(door: Door) -> None:
    with closing(door.client()) as client, tierwise.task(None, run="run-7"):
        for _ in range(3):
            client.messages.create(**CALL)
            first_pair(door)

    assert [each["purpose"] for each in door.settled()].count("audit") == 1


def test_no_pair_is_made_of_a_call_whose_credential_is_not_known(door: Door) -> None:
    raw = json.dumps(CALL).encode()

    def is_heard(headers: list[tuple[bytes, bytes]]) -> bool:
        begun = door.session.begin(raw, headers)
        assert isinstance(begun, Begun)
        return door.session.ear(begun, lambda _: never()) is not None

    assert is_heard([(b"x-api-key", b"any")])
    assert not is_heard([])


def test_what_an_sdk_makes_again_by_itself_is_not_compared(door: Door) -> None:
    headers = [(b"x-api-key", b"any"), (b"x-stainless-retry-count", b"1")]
    begun = door.session.begin(json.dumps(CALL).encode(), headers)

    assert isinstance(begun, Begun)
    assert door.session.ear(begun, lambda _: never()) is None


def never() -> NoReturn:
    raise AssertionError


def test_replies_of_the_cheaper_tier_are_held_against_their_check(open_door: OpenDoor) -> None:
    door = open_door(TWO_TIERS + f'shadow = true\nquality.check = "regex:."\n{EVERY_CALL}')
    with closing(door.client()) as client:
        for number in range(BATCH):
            client.messages.create(**{**CALL, "model": "task/extraction", "system": str(number)})
        (count,) = eventually(lambda: counted(door), until=bool)

    assert (count.passed, count.failed) == (BATCH, 0)


def counted(door: Door) -> tuple[Checked, ...]:
    with closing(read_ledger(door.ledger_path)) as ledger:
        return checks(ledger)


def test_a_policy_that_shadows_nothing_has_no_thread_for_it(open_door: OpenDoor) -> None:
    before = {thread.name for thread in threading.enumerate()}
    door = open_door()

    assert door.session.audit is None
    assert "tierwise-audit" not in {thread.name for thread in threading.enumerate()} - before


def test_a_session_that_records_nothing_compares_nothing(tmp_path: Path) -> None:
    (tmp_path / "tierwise.toml").write_text(SHADOWED)
    router = tierwise.Router.from_file(tmp_path / "tierwise.toml")

    with tierwise.Session(router, ledger=None) as session:
        assert session.audit is None


PROGRAM = """
import sys, time, anthropic, tierwise

router = tierwise.Router.from_file(sys.argv[1])
session = tierwise.Session(router, ledger=sys.argv[2])
while not session.audit.is_ready:
    time.sleep(0.01)
client = anthropic.Anthropic(base_url=sys.argv[3], api_key="any", middleware=[tierwise.middleware(session)])
client.messages.create(model="task/synthesis", max_tokens=8000, messages=[{"role": "user", "content": "Go."}])
"""


def test_a_program_that_ends_leaves_no_call_open(tmp_path: Path, sandbox: Running) -> None:
    policy, ledger = tmp_path / "tierwise.toml", tmp_path / "ledger.sqlite3"
    policy.write_text(SHADOWED)

    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, policy, ledger, sandbox.base_url],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert ended.stderr == ""
    with closing(read_ledger(ledger)) as found:
        rows = list(found.rows("SELECT purpose, ending FROM calls"))
    assert [row["ending"] for row in rows if row["purpose"] is None] == ["posted"]
    assert None not in {row["ending"] for row in rows}
