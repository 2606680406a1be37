"""Headers on their way: what reaches the provider, what comes back, and what nobody gets to see."""

import asyncio
import json
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.asgi import Got, Pairs, call, gateway_in_memory
from support.plays import calls
from support.policies import TWO_TIERS, book
from support.transcripts import JSON, MemoryUpstream, Transcript, message
from tierwise.config import Book
from tierwise.engine.headers import credential_id, outgoing_headers, readable_headers, returned_headers, safe
from tierwise.wire.requests import read_request

BODY = b'{"model":"claude-opus-5-5","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}'
PLAIN = (b"accept-encoding", b"identity")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


def ask(
    path: Path,
    headers: Pairs,
    *,
    target: str = "/v1/messages",
    body: bytes = BODY,
    reply: Pairs = JSON,
    key: str | None = None,
    policy: Book | None = None,
) -> tuple[Got, list[list[tuple[bytes, bytes]]]]:
    """Make one request with these headers; return the answer and the headers that reached the provider."""

    async def talk() -> tuple[Got, list[list[tuple[bytes, bytes]]]]:
        upstream = MemoryUpstream(Transcript(headers=reply, chunks=(message(),)))
        async with gateway_in_memory(path, upstream, key=key, policy=policy) as app:
            got = await call(app, "POST", target, headers=headers, body=body)
            return got, [list(sent.headers) for sent in upstream.requests]

    return asyncio.run(talk())


KNOWN: Pairs = (
    (b"anthropic-version", b"2026-10-21"),
    (b"anthropic-beta", b"message-threads-2026-08-12"),
    (b"anthropic-beta", b"request-tags-2026-08-21"),
    (b"x-a-later-header", b"caf\xc3\xa9"),
    (b"user-agent", b"anthropic-sdk-python/2.12.0"),
    (b"cookie", b"session=1"),
    (b"x-stainless-retry-count", b"1"),
)


@pytest.mark.parametrize("target", ["/v1/messages", "/v1/files"])
@pytest.mark.parametrize(
    "credential", [(b"x-api-key", b"sk-caller"), (b"authorization", b"Bearer sk-caller")]
)
def test_the_callers_headers_reach_the_provider_in_order_with_its_own_credential(
    path: Path, target: str, credential: tuple[bytes, bytes]
) -> None:
    _, (sent,) = ask(path, (credential, *KNOWN), target=target, key="sk-gateway")

    assert sent == [credential, *KNOWN, PLAIN]


@pytest.mark.parametrize("target", ["/v1/messages", "/v1/files"])
def test_a_caller_without_a_credential_is_given_the_gateways(path: Path, target: str) -> None:
    _, (sent,) = ask(path, KNOWN, target=target, key="sk-gateway")

    assert sent == [*KNOWN, PLAIN, (b"x-api-key", b"sk-gateway")]


@pytest.mark.parametrize("target", ["/v1/messages", "/v1/messages/count_tokens", "/v1/files"])
def test_without_any_credential_nothing_is_sent(path: Path, target: str) -> None:
    got, sent = ask(path, KNOWN, target=target)

    assert (got.status, sent) == (401, [])


HOPS: Pairs = (
    (b"connection", b"keep-alive, X-Secret-Hop"),
    (b"connection", b"x-another"),
    (b"keep-alive", b"timeout=5"),
    (b"proxy-authorization", b"Basic cHJveHk="),
    (b"proxy-authenticate", b"Basic"),
    (b"proxy-connection", b"keep-alive"),
    (b"te", b"trailers"),
    (b"trailer", b"expires"),
    (b"transfer-encoding", b"chunked"),
    (b"upgrade", b"h2c"),
    (b"x-secret-hop", b"1"),
    (b"x-another", b"2"),
)


@pytest.mark.parametrize("target", ["/v1/messages", "/v1/files"])
def test_hop_by_hop_headers_end_here_both_ways(path: Path, target: str) -> None:
    own: Pairs = (
        (b"host", b"127.0.0.1:4000"),
        (b"content-length", b"%d" % len(BODY)),
        (b"expect", b"100-continue"),
        (b"accept-encoding", b"gzip, br"),
    )
    key = (b"x-api-key", b"sk-caller")
    got, (sent,) = ask(path, (*own, *HOPS, key), target=target, reply=(*HOPS, *JSON))

    assert sent == [key, PLAIN]
    assert [pair for pair in got.headers if not pair[0].startswith(b"x-tierwise-")] == [*JSON]


@pytest.mark.parametrize("target", ["/v1/messages", "/v1/files"])
def test_our_own_headers_are_not_sent_on(path: Path, target: str) -> None:
    ours: Pairs = (
        (b"x-tierwise-task-type", b"extraction"),
        (b"x-tierwise-task-id", b"t1"),
        (b"x-tierwise-run-id", b"r1"),
        (b"x-tierwise-agent", b"reader"),
        (b"x-tierwise-later", b"1"),
    )
    _, (sent,) = ask(path, (*ours, (b"x-api-key", b"k")), target=target)

    assert sent == [(b"x-api-key", b"k"), PLAIN]


def test_the_headers_that_name_a_task_are_in_the_ledger(path: Path) -> None:
    named: Pairs = (
        (b"x-tierwise-task-type", b"extraction"),
        (b"x-tierwise-task-id", b"t1"),
        (b"x-tierwise-run-id", b"r1"),
        (b"x-tierwise-agent", b"reader"),
        (b"x-api-key", b"k"),
    )
    ask(path, named)

    (recorded,) = calls(path)
    assert (recorded["task_type"], recorded["declared"]) == ("extraction", "header")
    assert (recorded["task_id"], recorded["run_id"], recorded["agent"]) == ("t1", "r1", "reader")


def test_a_credential_is_nowhere_in_the_ledger(path: Path) -> None:
    secrets = (b"sk-in-key", b"sk-in-bearer", b"sk-in-cookie", b"sk-in-proxy", b"sk-of-gateway")
    headers: Pairs = (
        (b"x-api-key", secrets[0]),
        (b"authorization", b"Bearer " + secrets[1]),
        (b"cookie", secrets[2]),
        (b"proxy-authorization", secrets[3]),
        (b"x-tierwise-agent", b"a-known-agent"),
    )
    ask(path, headers, key=secrets[4].decode())

    written = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"a-known-agent" in written
    assert [secret for secret in secrets if secret in written] == []


def test_a_credential_is_no_part_of_a_call() -> None:
    headers: Pairs = (
        (b"x-api-key", b"sk-1"),
        (b"authorization", b"Bearer sk-2"),
        (b"cookie", b"sk-3"),
        (b"proxy-authorization", b"sk-4"),
        (b"anthropic-version", b"2026-10-21"),
    )
    call, _ = read_request(BODY, readable_headers(headers))

    assert call.headers == {"anthropic-version": "2026-10-21"}


NAMES = [
    "x\r\nset-cookie: a=b",
    "Résumé",
    "抽出",
    "tab\tand \x00 and \x7f",
    "\U0001f4c4 é%41",
    'a"b\\c',
    "x" * 5000,
]


@pytest.mark.parametrize("name", NAMES)
def test_a_task_name_of_any_letters_cannot_break_out_of_its_header(path: Path, name: str) -> None:
    body = json.dumps(
        {"model": f"task/{name}", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    ).encode()
    policy = book(TWO_TIERS + '[task_types.default]\ntier = "fast"\n')
    got, (sent,) = ask(path, ((b"x-api-key", b"k"),), body=body, policy=policy)

    assert got.status == 200
    told = got.header(b"x-tierwise-unknown-type")
    assert told is not None
    assert told.isascii()
    assert unquote_to_bytes(told).decode() == name[:200]
    assert calls(path)[0]["unknown_type"] == name[:200]
    assert sent == [(b"x-api-key", b"k"), PLAIN]


@pytest.mark.parametrize("name", NAMES)
def test_a_refused_task_name_cannot_break_out_of_the_answer(path: Path, name: str) -> None:
    body = json.dumps(
        {"model": f"task/{name}", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    ).encode()
    got, sent = ask(path, ((b"x-api-key", b"k"),), body=body)

    assert (got.status, sent) == (400, [])
    assert got.json()["error"]["type"] == "invalid_request_error"
    assert got.header(b"set-cookie") is None


def test_a_header_that_names_a_task_in_another_alphabet_is_told_back_in_ascii(path: Path) -> None:
    headers: Pairs = ((b"x-tierwise-task-type", "抽出".encode()), (b"x-api-key", b"k"))
    got, _ = ask(path, headers)

    told = got.header(b"x-tierwise-unknown-type")
    assert told is not None
    assert told.isascii()


@given(st.text())
def test_safe_text_is_printable_ascii_and_keeps_what_it_says(text: str) -> None:
    written = safe(text)

    assert all(0x20 <= byte < 0x7F for byte in written)
    assert unquote_to_bytes(written).decode() == text


TOKENS = st.text("abcdefg-", min_size=1, max_size=3).map(str.encode)
VALUES = st.binary(max_size=20)


@given(st.lists(st.tuples(TOKENS, VALUES), max_size=8), st.lists(TOKENS, max_size=3))
def test_what_is_not_hop_by_hop_passes_in_order_whatever_it_is(
    pairs: list[tuple[bytes, bytes]], named: list[bytes]
) -> None:
    headers = [*pairs, (b"connection", b", ".join(named).upper())]
    kept = [pair for pair in pairs if pair[0] not in named]

    assert returned_headers(headers) == kept
    assert outgoing_headers(headers, key=None) == [*kept, PLAIN]


def test_a_key_has_one_name_in_either_header_and_its_name_does_not_tell_it() -> None:
    names = {
        credential_id([(b"x-api-key", b"sk-secret")]),
        credential_id([(b"accept", b"*/*"), (b"authorization", b"Bearer sk-secret")]),
    }

    (name,) = names
    assert "secret" not in name
    assert name != credential_id([(b"x-api-key", b"sk-other")])
    assert credential_id([]) == "gateway"
