"""What the caller sees of each thing that can go wrong: one row of the table, one way to get there."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from hashlib import sha256
from itertools import repeat
from pathlib import Path

import pytest

from support.asgi import Got, call, gateway_in_memory, post, until
from support.ledgers import Lock
from support.plays import calls
from support.policies import TWO_TIERS, book
from support.transcripts import EVENTS, STREAM, MemoryUpstream, Transcript, message
from tierwise.config import Book
from tierwise.core.budgets import Claim, Lost, Outcome
from tierwise.errors import UpstreamDropped, UpstreamTimeout, UpstreamUnreachable
from tierwise.gateway import asgi
from tierwise.gateway.app import Gateway
from tierwise.gateway.intake import Intake
from tierwise.stores.budgets.memory import MemoryBudgets
from tierwise.stores.ledger import writer
from tierwise.upstream.port import Outgoing
from tierwise.wire.errors import WIRE_ERRORS

NO_RETRIES = "[upstream]\nretries = 0"
USER = {"role": "user", "content": "Hi"}
MESSAGE = {"model": "task/extraction", "max_tokens": 4096, "messages": [USER]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


def ask(running: AbstractAsyncContextManager[Gateway], request: Callable[[Gateway], Awaitable[Got]]) -> Got:
    async def talk() -> Got:
        async with running as app:
            return await request(app)

    return asyncio.run(talk())


def malformed(path: Path) -> Got:
    return ask(gateway_in_memory(path, Transcript()), lambda app: post(app, b"{"))


def unknown_task_type(path: Path) -> Got:
    policy = book("strict = true\n" + TWO_TIERS)
    running = gateway_in_memory(path, Transcript(), policy=policy)
    return ask(running, lambda app: post(app, {**MESSAGE, "model": "task/nothing"}))


def ineligible(path: Path) -> Got:
    prefilled = [USER, {"role": "assistant", "content": "{"}]
    return ask(
        gateway_in_memory(path, Transcript()), lambda app: post(app, {**MESSAGE, "messages": prefilled})
    )


def not_supported(path: Path) -> Got:
    return ask(gateway_in_memory(path, Transcript()), lambda app: call(app, "POST", "/v1/complete"))


def no_credential(path: Path) -> Got:
    return ask(gateway_in_memory(path, Transcript()), lambda app: post(app, MESSAGE, headers=()))


def not_found(path: Path) -> Got:
    return ask(gateway_in_memory(path, Transcript()), lambda app: call(app, "GET", "/nowhere"))


def too_large(path: Path) -> Got:
    parts = [b" " * 2**20] * 33
    return ask(
        gateway_in_memory(path, Transcript()), lambda app: call(app, "POST", "/v1/messages", body=parts)
    )


def internal(path: Path) -> Got:
    def broken(_request: Outgoing) -> Transcript:
        raise LookupError

    return ask(gateway_in_memory(path, broken), lambda app: post(app, MESSAGE))


def unreachable(path: Path) -> Got:
    provider = Transcript(no_reply=UpstreamUnreachable(why="connection refused"))
    return ask(gateway_in_memory(path, provider, policy=limited(NO_RETRIES)), lambda app: post(app, MESSAGE))


def dropped(path: Path) -> Got:
    provider = Transcript(no_reply=UpstreamDropped(why="Server disconnected"))
    return ask(gateway_in_memory(path, provider, policy=limited(NO_RETRIES)), lambda app: post(app, MESSAGE))


def timeout(path: Path) -> Got:
    provider = Transcript(no_reply=UpstreamTimeout(why="no reply"))
    return ask(gateway_in_memory(path, provider, policy=limited(NO_RETRIES)), lambda app: post(app, MESSAGE))


def ledger(path: Path) -> Got:
    lock = Lock()

    async def refused(app: Gateway) -> Got:
        first = asyncio.create_task(post(app, MESSAGE))
        await asyncio.to_thread(lock.met.wait)
        got = await until(503, lambda: post(app, b"{"))
        lock.free.set()
        await first
        return got

    return ask(gateway_in_memory(path, Transcript(), store=lock.opened), refused)


def thread(path: Path) -> Got:
    body = {**MESSAGE, "thread": {"id": "thread_1"}}
    return ask(gateway_in_memory(path, Transcript()), lambda app: post(app, body))


def limited(text: str) -> Book:
    return book(f"{TWO_TIERS}\n{text}\n")


def short_budget(path: Path) -> Got:
    policy = limited('[[budgets]]\nscope = "all"\nlimit_usd = "0.000001"')
    return ask(gateway_in_memory(path, Transcript(), policy=policy), lambda app: post(app, MESSAGE))


class Unreachable(MemoryBudgets):
    """A store whose balances nobody can ask for."""

    def reserve(self, claim: Claim) -> Outcome:
        return Lost(why="no answer within a second")


def lost_budget_store(path: Path) -> Got:
    policy = limited('[[budgets]]\nscope = "all"\nlimit_usd = "1"')
    app = gateway_in_memory(path, Transcript(), policy=policy, budgets=Unreachable())
    return ask(app, lambda app: post(app, MESSAGE))


def unpriced(path: Path) -> Got:
    policy = limited('[[budgets]]\nscope = "all"\nlimit_usd = "1"')
    body = {**MESSAGE, "model": "claude-nobody-9"}
    return ask(gateway_in_memory(path, Transcript(), policy=policy), lambda app: post(app, body))


def too_dear(path: Path) -> Got:
    policy = limited('[task_types.tiny]\ntier = "fast"\nmax_tokens = 512\nmax_cost_usd = "0.000001"')
    body = {**MESSAGE, "model": "task/tiny"}
    return ask(gateway_in_memory(path, Transcript(), policy=policy), lambda app: post(app, body))


def unknown_key(path: Path) -> Got:
    running = gateway_in_memory(path, Transcript(), policy=limited(CLIENT), key="sk")
    return ask(running, lambda app: post(app, MESSAGE))


def not_allowed(path: Path) -> Got:
    running = gateway_in_memory(path, Transcript(), policy=limited(CLIENT), key="sk")
    body = {**MESSAGE, "model": "task/synthesis"}
    return ask(running, lambda app: post(app, body, headers=[(b"x-api-key", b"twk_ci")]))


CLIENT = f"""
[[clients]]
name = "ci"
key_sha256 = "{sha256(b"twk_ci").hexdigest()}"
task_types = ["extraction"]
"""


def busy(path: Path) -> Got:
    running = gateway_in_memory(path, Transcript(), intake=Intake(room=5))
    return ask(running, lambda app: call(app, "POST", "/v1/messages", body=[b"{  ", b"  }"]))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PATIENCE_S", 0.01)
    monkeypatch.setattr(writer, "RETRY_S", 0.001)


WAYS: dict[str, Callable[[Path], Got]] = {
    "malformed": malformed,
    "unknown-task-type": unknown_task_type,
    "ineligible": ineligible,
    "not-supported": not_supported,
    "budget": short_budget,
    "budget-store": lost_budget_store,
    "unpriced": unpriced,
    "too-dear": too_dear,
    "no-credential": no_credential,
    "unknown-key": unknown_key,
    "not-allowed": not_allowed,
    "busy": busy,
    "not-found": not_found,
    "too-large": too_large,
    "internal": internal,
    "unreachable": unreachable,
    "dropped": dropped,
    "ledger": ledger,
    "thread": thread,
    "timeout": timeout,
}

ON_THE_WIRE = {
    "malformed": (400, "invalid_request_error", b"false"),
    "unknown-task-type": (400, "invalid_request_error", b"false"),
    "ineligible": (400, "invalid_request_error", b"false"),
    "not-supported": (400, "invalid_request_error", b"false"),
    "thread": (400, "invalid_request_error", b"false"),
    "budget": (429, "billing_error", b"false"),
    "budget-store": (503, "api_error", b"true"),
    "unpriced": (400, "invalid_request_error", b"false"),
    "too-dear": (400, "invalid_request_error", b"false"),
    "no-credential": (401, "authentication_error", b"false"),
    "unknown-key": (401, "authentication_error", b"false"),
    "not-allowed": (403, "permission_error", b"false"),
    "busy": (503, "api_error", b"true"),
    "not-found": (404, "not_found_error", b"false"),
    "too-large": (413, "request_too_large", b"false"),
    "internal": (500, "api_error", b"false"),
    "unreachable": (502, "api_error", b"true"),
    "dropped": (502, "api_error", b"true"),
    "ledger": (503, "api_error", b"true"),
    "timeout": (504, "timeout_error", b"false"),
}


def test_every_row_of_the_table_has_a_way_to_it() -> None:
    before_the_app = {"head-too-large", "too-slow"}
    assert WAYS.keys() == ON_THE_WIRE.keys() == WIRE_ERRORS.keys() - before_the_app


@pytest.mark.parametrize("code", ON_THE_WIRE)
def test_an_error_has_the_providers_shape_its_own_status_and_says_whether_to_retry(
    path: Path, code: str
) -> None:
    got = WAYS[code](path)

    status, kind, retry = ON_THE_WIRE[code]
    assert (got.status, got.ended) == (status, True)
    assert got.header(b"content-type") == b"application/json"
    assert got.header(b"x-should-retry") == retry
    assert got.header(b"x-tierwise-error") == code.encode()
    body = got.json()
    assert (body["type"], body["error"]["type"]) == ("error", kind)
    assert len(body["error"]["message"]) > 10
    assert got.header(b"request-id") == body["request_id"].encode()


@pytest.mark.parametrize(
    "code", ["unknown-task-type", "ineligible", "thread", "unreachable", "dropped", "timeout"]
)
def test_an_error_of_a_call_that_was_read_carries_its_id_in_the_ledger(path: Path, code: str) -> None:
    got = WAYS[code](path)

    (recorded,) = calls(path)
    assert (recorded["ending"], recorded["error"]) == ("failed", code)
    assert got.json()["request_id"] == recorded["call_id"]
    assert got.header(b"x-tierwise-call-id") == recorded["call_id"].encode()


@pytest.mark.parametrize(
    "code",
    [
        "malformed",
        "not-supported",
        "no-credential",
        "unknown-key",
        "not-allowed",
        "not-found",
        "too-large",
        "busy",
    ],
)
def test_a_request_that_never_was_a_call_is_not_in_the_ledger(path: Path, code: str) -> None:
    WAYS[code](path)

    assert calls(path) == []


@pytest.mark.parametrize("target", ["/v1/messages", "/v1/messages/count_tokens", "/v1/files"])
def test_a_body_that_is_too_large_is_given_up_as_soon_as_that_is_known(path: Path, target: str) -> None:
    upstream = MemoryUpstream(Transcript())
    endless = repeat(b" " * 2**20)
    got = ask(gateway_in_memory(path, upstream), lambda app: call(app, "POST", target, body=endless))

    assert (got.status, got.pulled) == (413, 33)
    assert upstream.requests == []


def test_a_body_of_the_largest_size_is_taken(path: Path) -> None:
    raw = b'{"model":"claude-opus-5-5","max_tokens":1,"messages":[{"role":"user","content":"Hi"}]}'
    padded = raw + b" " * (asgi.LARGEST_BODY - len(raw))
    upstream = MemoryUpstream(Transcript(chunks=(message(),)))
    got = ask(gateway_in_memory(path, upstream), lambda app: post(app, padded))
    over = ask(gateway_in_memory(path.with_name("b"), upstream), lambda app: post(app, padded + b" "))

    assert (got.status, over.status) == (200, 413)
    assert [len(sent.body) for sent in upstream.requests] == [asgi.LARGEST_BODY]


def test_a_thread_is_refused_in_the_words_that_make_clients_send_the_whole_conversation(path: Path) -> None:
    details = WAYS["thread"](path).json()["error"]["details"]

    assert details == {"error_code": "thread_unsupported_request"}


def test_a_failure_of_ours_is_in_the_log_and_gives_nothing_away(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    got = WAYS["internal"](path)

    assert "LookupError" in caplog.text
    assert b"LookupError" not in got.body


@pytest.mark.parametrize("target", ["/v1/models", "/v1/messages"])
def test_a_failure_of_ours_in_the_middle_of_a_reply_leaves_it_without_an_end(
    path: Path, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    provider = Transcript(headers=EVENTS, chunks=STREAM[:2], breaks=LookupError())
    body = json.dumps(MESSAGE).encode()
    got = ask(gateway_in_memory(path, provider), lambda app: call(app, "POST", target, body=body))

    assert (got.status, got.parts, got.ended) == (200, [*STREAM[:2]], False)
    assert "LookupError" in caplog.text


@pytest.mark.parametrize("target", ["/v1/messages", "/v1/messages/count_tokens", "/v1/files"])
@pytest.mark.parametrize("sent", [[], [b'{"model":', b'"claude']])
def test_a_caller_that_leaves_before_its_body_is_whole_is_dropped(
    path: Path, target: str, sent: list[bytes]
) -> None:
    upstream = MemoryUpstream(Transcript())
    got = ask(
        gateway_in_memory(path, upstream), lambda app: call(app, "POST", target, body=sent, stays=False)
    )

    assert (got.status, upstream.requests, calls(path)) == (0, [], [])
