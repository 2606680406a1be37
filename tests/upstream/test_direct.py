"""The client of our own at its edges: what a request may not say, and what a provider's bytes cannot make it do."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from support.servers import OK, Peer, Script, Server, once, saying, served, silence
from tierwise.core.policy import Upstream
from tierwise.errors import UpstreamDropped, UpstreamError, UpstreamTimeout
from tierwise.upstream import direct
from tierwise.upstream.addresses import tls_of
from tierwise.upstream.client import open_upstream
from tierwise.upstream.connection import ENOUGH, LARGEST_HEAD, MOST_HEADERS
from tierwise.upstream.direct import DirectUpstream
from tierwise.upstream.heads import OURS_TO_SAY, Base, head_of
from tierwise.upstream.port import Outgoing
from tierwise.upstream.with_aiohttp import AiohttpUpstream

T = TypeVar("T")

PLAIN = Outgoing(method="POST", target="/v1/messages", headers=((b"x-a", b"1"),), body=b"{}")
BASE = Base("https://api.example.com/a")


def run(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


@asynccontextmanager
async def client(base_url: str, *, read_timeout_s: float = 5.0) -> AsyncGenerator[DirectUpstream]:
    upstream = DirectUpstream(
        Upstream(base_url=base_url, connect_timeout_s=5.0, read_timeout_s=read_timeout_s)
    )
    try:
        yield upstream
    finally:
        await upstream.close()


def bodies(script: Script, requests: Sequence[Outgoing], **more: Any) -> tuple[list[bytes | str], Server]:
    """Send requests one after the other; return the body of each reply, or the name of its error."""

    async def talk() -> tuple[list[bytes | str], Server]:
        got: list[bytes | str] = []
        async with served(script) as server, client(server.base_url, **more) as upstream:
            for request in requests:
                try:
                    got.append(await (await upstream.send(request)).read())
                except UpstreamError as error:
                    got.append(type(error).__name__)
                await asyncio.sleep(0.01)
            return got, server

    return run(talk())


# What goes out


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x-a", b"1\r\nx-b: 2"),
        (b"x-a", b"1\nx-b: 2"),
        (b"x-a", b"1\x00"),
        (b"x-a\r\nx-b", b"1"),
        (b"x a", b"1"),
        (b"x-a:", b"1"),
        (b"", b"1"),
        *((name, b"0") for name in sorted(OURS_TO_SAY)),
        (b"Content-Length", b"0"),
    ],
)
def test_a_header_that_could_frame_a_request_anew_is_never_written(name: bytes, value: bytes) -> None:
    with pytest.raises(ValueError, match=r"token|control|own to say"):
        head_of(replace(PLAIN, headers=((name, value),)), BASE)


@pytest.mark.parametrize("target", ["/v1 HTTP/1.1\r\nx: y", "/v1\r\n", "/v1\x00", "/v1 x", "/v1#x"])
def test_a_target_that_could_end_the_line_is_never_written(target: str) -> None:
    with pytest.raises(ValueError, match="target"):
        head_of(replace(PLAIN, target=target), BASE)


def test_a_method_is_a_token() -> None:
    with pytest.raises(ValueError, match="token"):
        head_of(replace(PLAIN, method="GET /evil HTTP/1.1\r\n"), BASE)


@given(
    method=st.sampled_from(["GET", "POST", "DELETE"]),
    target=st.text(st.characters(max_codepoint=255), max_size=20),
    headers=st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=20)), max_size=4),
    body=st.binary(max_size=30),
)
def test_a_head_that_is_written_is_read_back_as_the_request_that_was_given(
    method: str, target: str, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    request = Outgoing(method=method, target=f"/{target}", headers=headers, body=body)
    try:
        head = head_of(request, BASE)
    except ValueError:
        return

    lines = head.split(b"\r\n")
    assert head.count(b"\r") == head.count(b"\n") == len(lines) - 1
    assert lines[-2:] == [b"", b""]
    assert lines[0] == f"{method} /a/{target} HTTP/1.1".encode("latin-1")
    said = [line.partition(b": ")[::2] for line in lines[1:-2]]
    lengths = [value for name, value in said if name == b"Content-Length"]
    assert lengths == ([b"%d" % len(body)] if body or method == "POST" else [])
    assert said[0] == (b"Host", b"api.example.com")
    assert [pair for pair in said if pair[0] not in {b"Host", b"Content-Length"}] == headers


# What comes in

SMUGGLED = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}x",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx y: 1\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * (MOST_HEADERS + 1) + b"content-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * (LARGEST_HEAD + 1),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;" + b"y" * (8 * LARGEST_HEAD),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: " + b"y" * (8 * LARGEST_HEAD),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * (MOST_HEADERS + 1),
        b"HTTP/1.1 100 Continue\r\n\r\n" * 4_000,
    ],
)
def test_a_reply_that_contradicts_itself_or_has_no_end_costs_the_connection(reply: bytes) -> None:
    got, server = bodies(once(reply, then=silence), [PLAIN])

    assert got == ["UpstreamDropped"]
    assert server.closed == 1


@pytest.mark.parametrize("first", [OK, OK.replace(b"200 OK", b"503 Busy")])
def test_bytes_behind_a_reply_are_nobodys_reply(first: bytes) -> None:
    got, server = bodies(saying(first + SMUGGLED), [PLAIN, PLAIN])

    assert got == [b"{}", b"{}"]
    assert server.connections == 2


def test_bytes_that_nobody_asked_for_close_an_idle_connection() -> None:
    async def script(peer: Peer, server: Server) -> None:
        server.requests.append(await peer.request())
        await peer.say(OK)
        if server.connections == 1:
            await peer.say(SMUGGLED)
            await peer.gone()

    got, server = bodies(script, [PLAIN, PLAIN])

    assert got == [b"{}", b"{}"]
    assert server.connections == 2


def test_a_reply_that_only_says_that_another_will_come_is_passed_over() -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    got, server = bodies(saying(early + OK), [PLAIN, PLAIN])

    assert got == [b"{}", b"{}"]
    assert server.connections == 1


@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n"),
    ],
)
def test_a_reply_without_a_body_ends_with_its_head(method: str, head: bytes) -> None:
    request = Outgoing(method=method, target="/v1/models", headers=(), body=b"")
    got, _ = bodies(saying(head), [request, request])

    assert got == [b"", b""]


def test_a_reply_that_does_not_say_its_length_ends_with_its_connection() -> None:
    got, server = bodies(once(b"HTTP/1.1 200 OK\r\n\r\nabc"), [PLAIN, PLAIN])

    assert got == [b"abc", b"abc"]
    assert server.connections == 2


def test_trailers_are_let_fall_and_the_connection_stays() -> None:
    reply = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\nx-sum: 1\r\n\r\n"

    async def talk() -> tuple[Any, bytes, int]:
        async with served(saying(reply)) as server, client(server.base_url) as upstream:
            await (await upstream.send(PLAIN)).read()
            answer = await upstream.send(PLAIN)
            return answer.headers, await answer.read(), server.connections

    assert run(talk()) == ([(b"transfer-encoding", b"chunked")], b"{}", 1)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nconnection: close\r\n", b"HTTP/1.0 200 OK\r\n"])
def test_a_connection_that_the_provider_closes_is_not_used_again(head: bytes) -> None:
    got, server = bodies(saying(head + b"content-length: 2\r\n\r\n{}"), [PLAIN, PLAIN])

    assert got == [b"{}", b"{}"]
    assert server.connections == 2


def stale(server_closes_after: bytes) -> Script:
    """Answer one request of a connection; end it when the second has come."""

    async def script(peer: Peer, server: Server) -> None:
        server.requests.append(await peer.request())
        await peer.say(OK)
        await peer.request()
        await peer.say(server_closes_after)

    return script


def test_a_get_on_a_connection_that_turns_out_to_be_closed_is_made_again() -> None:
    get = Outgoing(method="GET", target="/v1/models", headers=(), body=b"")
    got, server = bodies(stale(b""), [get, get])

    assert got == [b"{}", b"{}"]
    assert server.connections == 2


def test_a_post_may_be_billed_twice_and_is_not_made_again() -> None:
    got, server = bodies(stale(b""), [PLAIN, PLAIN])

    assert got == [b"{}", "Stale"]
    assert server.connections == 1
    assert issubclass(direct.Stale, UpstreamDropped)


def test_nothing_is_made_again_after_a_byte_of_the_reply() -> None:
    get = Outgoing(method="GET", target="/v1/models", headers=(), body=b"")
    got, server = bodies(stale(b"H"), [get, get])

    assert got == [b"{}", "UpstreamDropped"]
    assert server.connections == 1


def test_an_old_idle_connection_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "KEEP_ALIVE_S", 0.0)
    got, server = bodies(saying(OK), [PLAIN, PLAIN])

    assert got == [b"{}", b"{}"]
    assert server.connections == 2


def test_an_idle_connection_is_closed_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "KEEP_ALIVE_S", 0.05)

    async def talk() -> None:
        closed = asyncio.Event()

        async def until_it_is_closed(peer: Peer, _server: Server) -> None:
            await peer.gone()
            closed.set()

        async with served(once(OK, then=until_it_is_closed)) as server, client(server.base_url) as upstream:
            await (await upstream.send(PLAIN)).read()
            await asyncio.wait_for(closed.wait(), 20)

    run(talk())


# Slowness, on either side


def test_a_provider_waits_for_a_caller_that_is_slower() -> None:
    sent = 0

    async def script(peer: Peer, server: Server) -> None:
        nonlocal sent
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % SIZE)
        for _ in range(SIZE // len(PIECE)):
            await peer.say(PIECE)
            sent += len(PIECE)

    async def talk() -> tuple[int, int]:
        async with served(script) as server, client(server.base_url, read_timeout_s=0.2) as upstream:
            reply = await upstream.send(PLAIN)
            await asyncio.sleep(0.5)  # longer than the read timeout: the silence is the caller's own
            early, read = sent, 0
            async for chunk in reply.chunks():
                read += len(chunk)
            return early, read

    early, read = run(talk())

    assert early < SIZE // 2
    assert read == SIZE


PIECE = b"x" * 2**16
SIZE = 64 * 2**20
assert SIZE > 100 * ENOUGH


def test_a_whole_reply_may_be_larger_than_what_waits_for_a_stream() -> None:
    body = b"y" * (8 * ENOUGH)
    got, server = bodies(
        saying(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)), [PLAIN] * 2
    )

    assert got == [body, body]
    assert server.connections == 1


def test_a_request_that_takes_long_to_leave_is_no_silence_of_the_provider() -> None:
    large = replace(PLAIN, body=b"z" * (24 * 2**20))

    async def slowly(peer: Peer, server: Server) -> None:
        for _ in range(6):
            await asyncio.sleep(0.1)
            await peer.take(4 * 2**20)
        server.requests.append(b"")
        await peer.say(OK)
        await peer.gone()

    got, _ = bodies(slowly, [large], read_timeout_s=0.3)

    assert got == [b"{}"]


def test_a_provider_that_takes_nothing_of_a_request_is_a_timeout() -> None:
    async def never(peer: Peer, server: Server) -> None:
        await asyncio.sleep(1)

    got, _ = bodies(never, [replace(PLAIN, body=b"z" * (24 * 2**20))], read_timeout_s=0.1)

    assert got == [UpstreamTimeout.__name__]


def test_a_reply_before_the_whole_request_has_left_costs_the_connection() -> None:
    async def early(peer: Peer, server: Server) -> None:
        await peer.take(1)
        await peer.say(OK.replace(b"200 OK", b"413 Too Large"))
        await peer.gone()

    got, server = bodies(early, [replace(PLAIN, body=b"z" * (24 * 2**20)), PLAIN])

    assert got == [b"{}", b"{}"]
    assert server.connections == 2


@pytest.mark.parametrize("when", ["before the head", "in the body"])
def test_a_call_that_is_given_up_closes_its_connection(when: str) -> None:
    reply = b"" if when == "before the head" else b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"

    async def talk() -> int:
        async def call() -> None:
            answer = await upstream.send(PLAIN)
            try:
                await answer.read()
            finally:
                answer.close()

        async with served(once(reply, then=silence)) as server, client(server.base_url) as upstream:
            task = asyncio.create_task(call())
            await asyncio.sleep(0.1)
            task.cancel()
            await asyncio.wait({task})
            await asyncio.sleep(0.1)
            return server.closed

    assert run(talk()) == 1


# Any bytes at all

PIECES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.0 500 No\r\n",
        b"content-length: 5\r\n",
        b"Content-Length: 0\r\n",
        b"transfer-encoding: chunked\r\n",
        b"transfer-encoding: gzip\r\n",
        b"connection: close\r\n",
        b"x: a\r\n b\r\n",
        b"x: a\nb: c\r\n",
        b"\r\n",
        b"\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"hello",
        b"\x00",
        b": v\r\n",
    ]
)


@settings(max_examples=60, deadline=None)
@given(pieces=st.lists(st.one_of(PIECES, st.binary(max_size=6)), max_size=9), cut=st.integers(1, 50))
def test_whatever_a_provider_sends_a_call_ends_and_the_next_one_has_its_own_reply(
    pieces: list[bytes], cut: int
) -> None:
    noise = b"".join(pieces)

    async def script(peer: Peer, server: Server) -> None:
        request = await peer.request()
        if b"x-again" not in request:
            for start in range(0, len(noise), cut):
                await peer.say(noise[start : start + cut])
            return
        await peer.say(OK)

    async def talk() -> None:
        async with served(script) as server, client(server.base_url, read_timeout_s=1.0) as upstream:
            try:
                reply = await upstream.send(PLAIN)
                assert not 100 <= reply.status < 200
                assert not any(set(value) & set(b"\r\n\x00") for _, value in reply.headers)
                await reply.read()
            except UpstreamError:
                pass
            again = await upstream.send(replace(PLAIN, headers=((b"x-again", b"1"),)))
            assert (again.status, await again.read()) == (200, b"{}")

    run(talk())


# Which client it is


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (Upstream(), DirectUpstream),
        (Upstream(client="aiohttp"), AiohttpUpstream),
        (Upstream(proxy="http://proxy.invalid:3128"), AiohttpUpstream),
    ],
)
def test_calls_go_directly_unless_the_policy_or_a_proxy_asks_for_aiohttp(
    config: Upstream, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    async def made() -> type:
        upstream = open_upstream(config)
        await upstream.close()
        return type(upstream)

    assert run(made()) is kind


def test_only_what_an_authority_vouches_for_is_spoken_to() -> None:
    tls = tls_of(Upstream())

    assert tls.verify_mode == ssl.CERT_REQUIRED
    assert tls.check_hostname
