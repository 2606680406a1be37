"""Which road a path takes, and what becomes of the provider's other endpoints."""

import asyncio
import json
from pathlib import Path

import pytest

from support.asgi import Got, call, gateway_in_memory, post
from support.plays import calls
from support.policies import TWO_TIERS, book
from support.transcripts import EVENTS, JSON, STREAM, MemoryUpstream, Transcript, error, message
from tierwise.config import Book
from tierwise.errors import UpstreamDropped, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from tierwise.upstream.port import Outgoing

MESSAGE = {"model": "task/extraction", "max_tokens": 4096, "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


def ask(
    path: Path,
    provider: Transcript,
    method: str,
    target: str,
    *,
    body: bytes = b"",
    query: bytes = b"",
    policy: Book | None = None,
) -> tuple[Got, list[Outgoing]]:
    """Make one request of a gateway; return the answer and what reached the provider."""

    async def talk() -> tuple[Got, list[Outgoing]]:
        upstream = MemoryUpstream(provider)
        async with gateway_in_memory(path, upstream, policy=policy) as app:
            return await call(app, method, target, body=body, query=query), upstream.requests

    return asyncio.run(talk())


@pytest.mark.parametrize("query", [b"", b"beta=true"])
def test_a_message_is_decided_sent_recorded_and_comes_back_as_the_provider_sent_it(
    path: Path, query: bytes
) -> None:
    got, sent = ask(
        path,
        Transcript(chunks=(message(),)),
        "POST",
        "/v1/messages",
        body=json.dumps(MESSAGE).encode(),
        query=query,
    )

    assert (got.status, got.body, got.ended) == (200, message(), True)
    assert sent[0].target == "/v1/messages" + ("?beta=true" if query else "")
    (recorded,) = calls(path)
    assert (recorded["ending"], recorded["tier"]) == ("posted", "fast")
    assert got.header(b"x-tierwise-call-id") == recorded["call_id"].encode()
    assert got.header(b"x-tierwise-tier") == b"fast"
    assert got.header(b"x-tierwise-model") == b"claude-haiku-5-5"
    assert got.header(b"x-tierwise-max-tokens") == b"512"
    assert got.header(b"x-tierwise-task-type") == b"extraction"
    assert got.header(b"x-tierwise-changes") == b"model, max_tokens, thinking"


def test_an_observed_call_is_told_what_would_have_been_decided(path: Path) -> None:
    body = json.dumps({**MESSAGE, "model": "claude-opus-5-5"}).encode()
    policy = book('mode = "observe"\n' + TWO_TIERS + '[[match]]\nmodel = "*"\ntask_type = "extraction"\n')
    got, sent = ask(path, Transcript(chunks=(message(),)), "POST", "/v1/messages", body=body, policy=policy)

    assert sent[0].body == body
    assert got.header(b"x-tierwise-observed-model") == b"claude-haiku-5-5"
    assert got.header(b"x-tierwise-model") is None
    assert got.header(b"x-tierwise-changes") is None


def test_an_undeclared_call_is_told_its_id_and_no_decision(path: Path) -> None:
    body = json.dumps({**MESSAGE, "model": "claude-opus-5-5"}).encode()
    got, sent = ask(path, Transcript(chunks=(message(),)), "POST", "/v1/messages", body=body)

    assert sent[0].body == body
    assert [name for name, _ in got.headers if name.startswith(b"x-tierwise-")] == [b"x-tierwise-call-id"]


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/v1/models"),
        ("GET", "/v1/models/claude-opus-5-5"),
        ("HEAD", "/v1/models"),
        ("GET", "/v1/messages"),
        ("DELETE", "/v1/files/file_1"),
        ("POST", "/v1/a-later-endpoint"),
        ("GET", "/v1/completely"),
    ],
)
def test_the_rest_of_the_providers_api_is_passed_through_and_not_recorded(
    path: Path, method: str, target: str
) -> None:
    reply = Transcript(
        status=418, headers=((b"x-a", b"1"), (b"x-a", b"2"), *JSON), chunks=(b"{}", b"\xff\x00")
    )
    got, (sent,) = ask(path, reply, method, target, body=b"\x00as it is", query=b"limit=1&q=%20a")

    assert (sent.method, sent.target, sent.body) == (method, target + "?limit=1&q=%20a", b"\x00as it is")
    assert (got.status, got.headers, got.ended) == (418, [*reply.headers], True)
    assert got.parts[:2] == [b"{}", b"\xff\x00"]
    assert calls(path) == []


def test_a_path_goes_to_the_provider_as_it_was_escaped(path: Path) -> None:
    async def talk() -> list[Outgoing]:
        upstream = MemoryUpstream(Transcript())
        async with gateway_in_memory(path, upstream) as app:
            await call(app, "GET", "/v1/files/a/b", raw_path=b"/v1/files/a%2Fb")
        return upstream.requests

    assert [sent.target for sent in asyncio.run(talk())] == ["/v1/files/a%2Fb"]


def test_a_stream_of_another_endpoint_is_not_held_back(path: Path) -> None:
    got, _ = ask(path, Transcript(headers=EVENTS, chunks=STREAM), "GET", "/v1/a-later-endpoint")

    assert got.parts == [*STREAM, b""]


@pytest.mark.parametrize(
    "target",
    [
        "/v1/complete",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_costs_money_and_cannot_be_priced_is_refused(path: Path, method: str, target: str) -> None:
    got, sent = ask(path, Transcript(), method, target, body=b"{}")

    assert sent == []
    assert got.status == 400
    assert got.json()["error"]["type"] == "invalid_request_error"
    assert got.header(b"x-tierwise-error") == b"not-supported"


@pytest.mark.parametrize(
    "target",
    [
        "/v1/messages/",
        "/v1//messages",
        "/v1/./messages",
        "/v1/models/../messages",
    ],
)
def test_a_path_that_the_provider_might_read_as_another_never_reaches_it(path: Path, target: str) -> None:
    got, sent = ask(path, Transcript(), "POST", target, body=json.dumps(MESSAGE).encode())

    assert (got.status, sent) == (404, [])


def test_tokens_are_counted_for_the_model_that_a_task_type_goes_to(path: Path) -> None:
    asked = {"model": "task/extraction", "messages": MESSAGE["messages"], "later": [1.0, {"b": 1}]}
    got, (sent,) = ask(
        path,
        Transcript(chunks=(b'{"input_tokens":9}',)),
        "POST",
        "/v1/messages/count_tokens",
        body=json.dumps(asked).encode(),
    )

    assert got.json() == {"input_tokens": 9}
    assert json.loads(sent.body) == {**asked, "model": "claude-haiku-5-5", "thinking": {"type": "disabled"}}
    assert calls(path) == []


def test_tokens_of_a_named_model_are_counted_as_asked(path: Path) -> None:
    raw = b'{ "model": "claude-opus-5-5",  "messages": [{"role": "user", "content": "Hi"}] }'
    _, (sent,) = ask(path, Transcript(), "POST", "/v1/messages/count_tokens", body=raw)

    assert sent.body == raw


def test_tokens_of_an_unknown_type_cannot_be_counted(path: Path) -> None:
    asked = {"model": "task/extractoin", "messages": MESSAGE["messages"]}
    got, sent = ask(path, Transcript(), "POST", "/v1/messages/count_tokens", body=json.dumps(asked).encode())

    assert (sent, got.status) == ([], 400)
    assert "Did you mean 'extraction'?" in got.json()["error"]["message"]


@pytest.mark.parametrize(
    ("why", "status", "code"),
    [
        (UpstreamUnreachable(why="refused"), 502, b"unreachable"),
        (UpstreamDropped(why="reset"), 502, b"dropped"),
        (UpstreamTimeout(why="silence"), 504, b"timeout"),
    ],
)
def test_another_endpoint_without_a_reply_is_answered_for(
    path: Path, why: UpstreamError, status: int, code: bytes
) -> None:
    got, _ = ask(path, Transcript(no_reply=why), "GET", "/v1/models")

    assert (got.status, got.header(b"x-tierwise-error")) == (status, code)


def test_another_endpoints_reply_that_breaks_off_has_no_end(path: Path) -> None:
    got, _ = ask(path, Transcript(chunks=(b"{",), breaks=UpstreamDropped(why="reset")), "GET", "/v1/files")

    assert (got.parts, got.ended) == ([b"{"], False)


@pytest.mark.parametrize(
    "target", ["/v1/files", "/v1/models", "/v1/messages/batches", "/v1/messages/batches/b/results"]
)
@pytest.mark.parametrize("breaks", [None, UpstreamDropped(why="reset")])
def test_another_endpoints_reply_is_let_go_of_however_it_ends(
    path: Path, breaks: Exception | None, target: str
) -> None:
    async def talk() -> list[bool]:
        upstream = MemoryUpstream(Transcript(chunks=(b"{",), breaks=breaks))
        async with gateway_in_memory(path, upstream) as app:
            await call(app, "GET", target)
        return [reply.closed for reply in upstream.replies]

    assert asyncio.run(talk()) == [True]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("target", ["/", "/api/hello"])
def test_a_probe_is_answered_without_the_provider(path: Path, method: str, target: str) -> None:
    got, sent = ask(path, Transcript(), method, target)

    assert (got.status, sent) == (200, [])


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/v2/messages"),
        ("POST", "/messages"),
        ("POST", "/tierwise/health"),
        ("GET", "/tierwise/x\r\ny"),
    ],
)
def test_what_is_not_there_is_not_found(path: Path, method: str, target: str) -> None:
    got, sent = ask(path, Transcript(), method, target)

    assert (got.status, sent) == (404, [])
    assert got.json()["error"]["type"] == "not_found_error"


def test_meters_count_calls_and_what_passed_through(path: Path) -> None:
    async def talk() -> tuple[object, object]:
        async with gateway_in_memory(path, Transcript(chunks=(message(),))) as app:
            before = (await call(app, "GET", "/tierwise/meters")).json()
            for _ in range(3):
                await post(app, MESSAGE)
            await call(app, "GET", "/v1/models")
            return before, (await call(app, "GET", "/tierwise/meters")).json()

    before, after = asyncio.run(talk())

    nothing = {"p50": None, "p90": None, "p99": None}
    assert before == {"calls": 0, "in_flight": 0, "passed_through": 0, "added_ms": nothing}
    assert isinstance(after, dict)
    assert (after["calls"], after["in_flight"], after["passed_through"]) == (3, 0, 1)
    assert 0 < after["added_ms"]["p50"] <= after["added_ms"]["p99"]


def test_a_call_in_flight_is_metered_as_such(path: Path) -> None:
    async def talk() -> list[int]:
        upstream = MemoryUpstream(Transcript(hangs="before the reply"))
        async with gateway_in_memory(path, upstream) as app:
            running = asyncio.create_task(post(app, MESSAGE))
            await upstream.hanging.wait()
            during = (await call(app, "GET", "/tierwise/meters")).json()["in_flight"]
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            return [during, (await call(app, "GET", "/tierwise/meters")).json()["in_flight"]]

    assert asyncio.run(talk()) == [1, 0]


def test_an_error_of_the_provider_comes_back_word_for_word(path: Path) -> None:
    refused = error("rate_limit_error", 429)
    reply = Transcript(
        status=429,
        headers=(*JSON, (b"retry-after", b"70"), (b"x-should-retry", b"true")),
        chunks=refused.chunks,
    )
    got, _ = ask(path, reply, "POST", "/v1/messages", body=json.dumps(MESSAGE).encode())

    assert (got.status, got.body) == (429, refused.chunks[0])
    assert got.headers[: len(reply.headers)] == [*reply.headers]
