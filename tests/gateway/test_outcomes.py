"""Outcomes as the gateway takes them."""

import asyncio
import json
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from support.asgi import KEYED, Got, Pairs, call, gateway_in_memory
from support.ledgers import Lock
from support.policies import TWO_TIERS, book
from support.transcripts import Transcript
from tierwise.core.ledger import Outcome
from tierwise.stores.ledger import writer
from tierwise.stores.ledger.outcomes import outcomes
from tierwise.stores.ledger.sqlite import read_ledger

CLIENT = f"""
[[clients]]
name = "ci"
key_sha256 = "{sha256(b"twk_of-ci").hexdigest()}"
"""
DONE = {"run_id": "r1", "task_id": "t1", "success": True}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


def tell(path: Path, *bodies: Any, headers: Pairs = (), policy: str = "", method: str = "POST") -> list[Got]:
    async def talk() -> list[Got]:
        async with gateway_in_memory(
            path, Transcript(), policy=book(TWO_TIERS + policy), key="sk-own"
        ) as app:
            return [
                await call(app, method, "/tierwise/outcomes", body=json.dumps(body).encode(), headers=headers)
                for body in bodies
            ]

    return asyncio.run(talk())


def recorded(path: Path) -> list[Outcome]:
    with closing(read_ledger(path)) as ledger:
        return list(outcomes(ledger, since_us=0))


def test_an_outcome_is_in_the_ledger_when_it_is_answered(path: Path) -> None:
    (got,) = tell(path, DONE)

    (found,) = recorded(path)
    assert (got.status, got.json()) == (200, {"outcomes": [found.outcome_id]})
    assert (found.run_id, found.task_id, found.quality, found.key_id) == ("r1", "t1", 1.0, None)


def test_several_outcomes_are_told_at_once_and_none_is_nothing(path: Path) -> None:
    several, none = tell(path, [DONE, {"run_id": "r1", "quality": 0.25}], [])

    assert (len(several.json()["outcomes"]), none.json()) == (2, {"outcomes": []})
    assert [found.quality for found in recorded(path)] == [1.0, 0.25]


def test_an_outcome_that_is_told_again_by_its_id_is_taken_once(path: Path) -> None:
    first, second = tell(path, DONE | {"id": "mine"}, DONE | {"id": "mine", "success": False})

    assert first.json() == second.json()
    assert [found.quality for found in recorded(path)] == [1.0]


def test_what_cannot_be_read_is_answered_with_what_is_wrong_and_nothing_is_taken(path: Path) -> None:
    (got,) = tell(path, [DONE, {"task_id": "t2"}])

    assert (got.status, got.header(b"x-tierwise-error")) == (400, b"malformed")
    assert got.json()["error"]["message"].startswith("Outcome 2: ")
    assert recorded(path) == []


def test_on_a_guarded_door_only_clients_tell(path: Path) -> None:
    stopped, *_ = tell(path, DONE, headers=KEYED, policy=CLIENT)
    heard, *_ = tell(path, DONE, headers=((b"x-api-key", b"twk_of-ci"),), policy=CLIENT)

    assert (stopped.status, heard.status) == (401, 200)
    assert len(recorded(path)) == 1


@pytest.mark.parametrize(("more", "key_id"), [("", None), ('task_types = ["extraction"]', "ci")])
def test_a_client_with_task_types_tells_only_of_its_own_calls(
    path: Path, more: str, key_id: str | None
) -> None:
    tell(path, DONE, headers=((b"x-api-key", b"twk_of-ci"),), policy=CLIENT + more)

    assert [found.key_id for found in recorded(path)] == [key_id]


def test_another_method_is_not_there(path: Path) -> None:
    (got,) = tell(path, DONE, method="GET")

    assert got.status == 404


def test_a_body_that_is_too_large_is_refused(path: Path) -> None:
    (got,) = tell(path, DONE, headers=((b"content-length", b"99999999999"),))

    assert got.status == 413


def test_while_the_ledger_cannot_be_written_outcomes_are_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PATIENCE_S", 0.05)

    lock = Lock()

    async def talk() -> list[Got]:
        async with gateway_in_memory(path, Transcript(), store=lock.opened) as app:
            raw = json.dumps(DONE).encode()
            got = [await call(app, "POST", "/tierwise/outcomes", body=raw) for _ in range(2)]
            lock.free.set()
            return got

    waited, refused = asyncio.run(talk())

    assert (waited.status, refused.status) == (503, 503)
    assert "send them again" in waited.json()["error"]["message"]
