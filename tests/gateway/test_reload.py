"""The policy in force: an edit takes over as a whole or not at all, and calls in flight keep what they began with."""

import asyncio
import json
import os
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import anthropic
import pytest

from support.asgi import call, post, started, until
from support.gateways import running_gateway
from support.plays import calls
from support.policies import TWO_TIERS, book, with_openai, with_upstream
from support.waiting import eventually
from tierwise.config import load_book
from tierwise.core.checks import Check
from tierwise.engine.desk import Desk
from tierwise.gateway.parts import Settings
from tierwise.gateway.reload import PolicyFile
from tierwise.gateway.server import gateway
from tierwise.sandbox.server import running
from tierwise.stores.conversations import Conversations
from tierwise.stores.ledger import sqlite as store
from tierwise.stores.ledger import writer

SWAPPED = TWO_TIERS.replace("claude-haiku-5-5", "claude-sonnet-5-5")
WRONG = TWO_TIERS + "[task_types.summary]\ntier = 'fst'\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tierwise.toml"
    path.write_text(TWO_TIERS)
    return path


@pytest.fixture
def desk(path: Path) -> Desk:
    return Desk(load_book(path), conversations=Conversations(), clock=lambda: 0, new_id=lambda: "c1")


@pytest.fixture
def file(path: Path, desk: Desk) -> PolicyFile:
    return PolicyFile(path, desk)


def test_a_file_that_has_not_changed_is_not_read_again(file: PolicyFile, desk: Desk) -> None:
    before = desk.book
    file.look()

    assert desk.book is before


def test_an_edit_takes_over_as_a_whole(file: PolicyFile, desk: Desk, path: Path) -> None:
    path.write_text(SWAPPED)
    file.look()

    assert desk.book.policy.version == book(SWAPPED).policy.version
    assert desk.book.policy.tiers["fast"].model == "claude-sonnet-5-5"
    assert file.problem is None


def test_an_edit_of_the_same_length_is_seen(file: PolicyFile, desk: Desk, path: Path) -> None:
    path.write_text(TWO_TIERS.replace("max_tokens = 512", "max_tokens = 513"))
    file.look()

    assert desk.book.policy.contracts["extraction"].max_tokens == 513


def test_a_file_that_is_put_in_the_place_of_the_old_one_is_seen(
    file: PolicyFile, desk: Desk, path: Path
) -> None:
    other = path.with_name("new.toml")
    other.write_text(SWAPPED)
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.rename(path)
    file.look()

    assert desk.book.policy.tiers["fast"].model == "claude-sonnet-5-5"


def remove(path: Path) -> None:
    path.unlink()


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def garble(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00[tiers")


def empty(path: Path) -> None:
    path.write_text("")


def break_off(path: Path) -> None:
    path.write_text(TWO_TIERS[:40])


def misspell(path: Path) -> None:
    path.write_text(WRONG)


@pytest.mark.parametrize("spoil", [remove, make_folder, garble, empty, break_off, misspell])
def test_a_bad_edit_keeps_the_old_policy_says_so_and_a_good_one_puts_it_right(
    file: PolicyFile, desk: Desk, path: Path, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    spoil(path)
    file.look()

    assert desk.book.policy.version == book(TWO_TIERS).policy.version
    assert file.problem is not None
    assert str(path) in file.problem
    assert f"{book(TWO_TIERS).policy.version} stays in force" in caplog.text

    if path.is_dir():
        path.rmdir()
    path.write_text(SWAPPED)
    file.look()

    assert file.problem is None
    assert desk.book.policy.version == book(SWAPPED).policy.version


def test_a_bad_edit_is_told_once_and_not_at_each_look(
    file: PolicyFile, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(WRONG)
    for _ in range(3):
        file.look()

    assert len(caplog.records) == 1
    assert file.problem is not None


def test_an_edit_that_is_taken_back_is_no_problem_any_more(file: PolicyFile, desk: Desk, path: Path) -> None:
    path.write_text(WRONG)
    file.look()
    path.write_text(TWO_TIERS)
    file.look()

    assert file.problem is None
    assert desk.book.policy.version == book(TWO_TIERS).policy.version


def test_another_provider_takes_effect_at_the_next_start_and_the_log_says_so(
    file: PolicyFile, desk: Desk, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(with_upstream(SWAPPED, "https://elsewhere.example"))
    file.look()

    assert desk.book.policy.tiers["fast"].model == "claude-sonnet-5-5"
    assert desk.book.policy.upstream.base_url == "https://api.anthropic.com"
    assert "takes effect at the next start" in caplog.text


def test_a_call_keeps_the_policy_that_it_was_read_under(file: PolicyFile, desk: Desk, path: Path) -> None:
    body = json.dumps(
        {"model": "task/extraction", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    ).encode()
    before = desk.open(body, {})
    path.write_text(SWAPPED)
    file.look()
    after = desk.open(body, {})

    assert before.plan.policy.version == book(TWO_TIERS).policy.version
    assert after.plan.policy.version == book(SWAPPED).policy.version


def test_a_stream_in_flight_finishes_under_its_policy_and_each_entry_names_its_own(tmp_path: Path) -> None:
    asked: list[anthropic.types.MessageParam] = [{"role": "user", "content": "Hello"}]
    with running(seed=1) as sandbox, running_gateway(tmp_path, sandbox.base_url) as gateway:
        begun = load_book(gateway.policy_path).policy.version
        with anthropic.Anthropic(base_url=gateway.base_url, api_key="any", max_retries=0) as client:
            with client.messages.stream(
                model="task/extraction",
                max_tokens=500,
                messages=asked,
                extra_headers={"x-sandbox-fault": "stall-after:4,seconds=1"},
            ) as stream:
                next(iter(stream))
                gateway.policy_path.write_text(with_upstream(SWAPPED, sandbox.base_url))
                swapped = load_book(gateway.policy_path).policy.version
                eventually(
                    lambda: gateway.http.send("GET", "/tierwise/health").json()["policy"],
                    until=lambda version: version == swapped,
                )
                assert gateway.calls("ending IS NOT NULL") == []
                final = stream.get_final_message()
            message = client.messages.create(model="task/extraction", max_tokens=500, messages=asked)
        recorded = gateway.calls()

    assert (final.model, message.model) == ("claude-haiku-5-5", "claude-sonnet-5-5")
    assert [(call["policy_version"], call["served_model"]) for call in recorded] == [
        (begun, "claude-haiku-5-5"),
        (swapped, "claude-sonnet-5-5"),
    ]


def settings(path: Path) -> Settings:
    path.write_text(with_upstream(TWO_TIERS, "http://127.0.0.1:9"))
    return Settings(book=load_book(path), policy_path=path, ledger=path.with_name("ledger.sqlite3"), key="sk")


def test_health_says_what_is_in_force_and_where_things_are(path: Path) -> None:
    used = settings(path)

    async def talk() -> tuple[int, object]:
        async with started(gateway(used)) as app:
            got = await call(app, "GET", "/tierwise/health")
            return got.status, got.json()

    status, health = asyncio.run(talk())

    assert status == 200
    assert isinstance(health, dict)
    assert health["status"] == "ok"
    assert health["policy"] == used.book.policy.version
    assert health["policy_problem"] is None
    assert health["ledger"] == str(used.ledger)
    assert health["ledger_problem"] is None
    assert health["upstream"] == "http://127.0.0.1:9"
    assert (health["calls"], health["in_flight"]) == (0, 0)


def test_health_stays_good_under_a_bad_edit_and_says_what_is_wrong_with_it(path: Path) -> None:
    used = settings(path)

    async def talk() -> tuple[int, object]:
        async with started(gateway(used)) as app:
            misspell(path)
            while True:
                got = await call(app, "GET", "/tierwise/health")
                if got.json()["policy_problem"] is not None:
                    return got.status, got.json()
                await asyncio.sleep(0.01)

    status, health = asyncio.run(talk())

    assert status == 200
    assert isinstance(health, dict)
    assert (health["status"], health["policy"]) == ("ok", used.book.policy.version)
    assert 'there is no tier "fst"' in health["policy_problem"]


def test_health_is_bad_while_the_ledger_is_locked_and_good_again_after(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "RETRY_S", 0.01)
    monkeypatch.setattr(store, "BUSY_TIMEOUT_S", 0.01)
    used = settings(path)
    body = {"model": "task/extraction", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}

    async def talk() -> list[object]:
        async with started(gateway(used)) as app:
            other = sqlite3.connect(used.ledger, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            first = asyncio.create_task(post(app, body))
            bad = await until(503, lambda: call(app, "GET", "/tierwise/health"))
            refused = await post(app, body)
            other.execute("ROLLBACK")
            other.close()
            served = await first
            good = await until(200, lambda: call(app, "GET", "/tierwise/health"))
            return [
                bad.json()["ledger_problem"],
                refused.status,
                served.status,
                good.json()["ledger_problem"],
            ]

    problem, refused, served, after = asyncio.run(talk())

    assert isinstance(problem, str)
    assert "locked" in problem
    assert (refused, served, after) == (503, 502, None)
    assert [recorded["error"] for recorded in calls(Path(used.ledger))] == ["unreachable"] * 3


BUDGETED = TWO_TIERS + '\n[[budgets]]\nscope = "all"\nlimit_usd = "{}"\n'


def test_the_first_budgets_take_effect_at_the_next_start_and_the_log_says_so(
    file: PolicyFile, desk: Desk, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(BUDGETED.format(5))
    file.look()

    assert desk.book.policy.budgets == ()
    assert "they take effect at the next start" in caplog.text


def test_a_limit_that_is_edited_holds_at_once(path: Path) -> None:
    path.write_text(BUDGETED.format(5))
    desk = Desk(load_book(path), conversations=Conversations(), clock=lambda: 0, new_id=lambda: "c1")
    file = PolicyFile(path, desk)
    path.write_text(BUDGETED.format(75))
    file.look()

    (budget,) = desk.book.policy.budgets
    assert budget.limit == 75 * 10**9


def test_a_client_that_is_taken_out_is_shut_out_at_once_and_the_door_stays_shut(path: Path) -> None:
    used = replace(settings(path), key="sk")
    without = path.read_text()
    path.write_text(f'{without}[[clients]]\nname = "ci"\nkey_sha256 = "{sha256(b"twk_ci").hexdigest()}"\n')
    used = replace(used, book=load_book(path))

    async def talk() -> list[int]:
        async with started(gateway(used)) as app:
            headers = [(b"x-api-key", b"twk_ci")]
            before = await post(app, b"{", headers=headers)
            await asyncio.to_thread(path.write_text, without)
            after = await until(401, lambda: post(app, b"{", headers=headers))
            return [before.status, after.status]

    assert asyncio.run(talk()) == [400, 401]


def test_openais_tiers_follow_the_file_and_its_address_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "openai.toml"
    path.write_text(with_openai(TWO_TIERS, "http://127.0.0.1:1/v1"))
    desk = Desk(load_book(path), conversations=Conversations(), clock=lambda: 0, new_id=lambda: "c1")
    file = PolicyFile(path, desk)
    path.write_text(with_openai(TWO_TIERS, "http://127.0.0.1:2/v1") + "max_tokens = 77\n")
    file.look()
    policy = desk.book.policy.openai

    assert policy is not None
    assert (policy.upstream.base_url, policy.tiers["fast"].max_tokens) == ("http://127.0.0.1:1/v1", 77)

    path.write_text(TWO_TIERS)
    file.look()

    assert desk.book.policy.openai is None
    assert "[openai] begins or ends" in caplog.text


def test_openais_clients_have_no_new_budgets_before_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "openai.toml"
    path.write_text(with_openai(TWO_TIERS, "http://127.0.0.1:1/v1"))
    desk = Desk(load_book(path), conversations=Conversations(), clock=lambda: 0, new_id=lambda: "c1")
    file = PolicyFile(path, desk)
    budget = '[[budgets]]\nscope = "all"\nlimit_usd = "1"\n'
    path.write_text(with_openai(TWO_TIERS + budget, "http://127.0.0.1:1/v1"))
    file.look()

    assert desk.book.policy.openai is not None
    assert not desk.book.policy.openai.has_budgets


def schema_of(desk: Desk) -> Check:
    found = desk.book.policy.contracts["extraction"].check
    assert found is not None
    return found


def test_an_edit_of_a_schema_that_the_policy_names_is_an_edit_of_the_policy(tmp_path: Path) -> None:
    path, schema = tmp_path / "tierwise.toml", tmp_path / "invoice.json"
    path.write_text(f'{TWO_TIERS}shadow = true\nquality.check = "schema:invoice.json"\n')
    schema.write_text('{"required": ["total"]}')
    desk = Desk(load_book(path), conversations=Conversations(), clock=lambda: 0, new_id=lambda: "c1")
    file = PolicyFile(path, desk)
    first = schema_of(desk)

    schema.write_text("{")
    file.look()
    assert "is not JSON" in (file.problem or "")
    assert schema_of(desk) is first

    schema.write_text('{"required": ["sum"]}')
    file.look()
    assert file.problem is None
    assert schema_of(desk).version != first.version
