"""Both upstream clients against small servers on real sockets: what goes on the wire, and every way to fail."""

import asyncio
import gzip
import socket
import ssl
import subprocess
from collections.abc import AsyncGenerator, Coroutine
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from shutil import which
from typing import Any, TypeVar

import pytest
import uvloop

from support.servers import OK, Peer, Script, Server, once, saying, served, silence
from tierwise.core.policy import Upstream
from tierwise.errors import UpstreamDropped, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from tierwise.upstream.addresses import proxy_from_environment
from tierwise.upstream.client import Client, open_upstream
from tierwise.upstream.port import Headers, Outgoing

T = TypeVar("T")

WAY = ["direct", "uvloop"]
"""The client and the event loop that a test is run with: `way` sets them."""


@pytest.fixture(autouse=True, params=["direct uvloop", "direct asyncio", "aiohttp uvloop", "aiohttp asyncio"])
def way(request: pytest.FixtureRequest) -> None:
    WAY[:] = request.param.split()


def run(work: Coroutine[Any, Any, T]) -> T:
    factory = uvloop.new_event_loop if WAY[1] == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


PROXY_NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


PLAIN = Outgoing(method="POST", target="/v1/messages", headers=((b"x-a", b"1"),), body=b"{}")


@asynccontextmanager
async def client(base_url: str, **settings: object) -> AsyncGenerator[Client]:
    values: dict[str, object] = {
        "base_url": base_url,
        "connect_timeout_s": 5.0,
        "read_timeout_s": 5.0,
        "client": WAY[0],
    }
    upstream = open_upstream(Upstream(**(values | settings)))  # pyright: ignore[reportArgumentType] — a test's settings
    try:
        yield upstream
    finally:
        await upstream.close()


def exchange(
    script: Script, request: Outgoing = PLAIN, **settings: object
) -> tuple[int, Headers, bytes, Server]:
    """Send one request; return status, headers, body and what the server saw."""

    async def talk() -> tuple[int, Headers, bytes, Server]:
        async with served(script) as server, client(server.base_url, **settings) as upstream:
            reply = await upstream.send(request)
            return reply.status, reply.headers, await reply.read(), server

    return run(talk())


def failure(script: Script, *, stream: bool, **settings: object) -> tuple[UpstreamError, bytes, Server]:
    """Send one request; return how it failed, the bytes that came before, and what the server saw."""
    got: list[bytes] = []

    async def read(upstream: Client) -> None:
        with closing(await upstream.send(PLAIN)) as reply:
            if not stream:
                await reply.read()
            async for chunk in reply.chunks():
                got.append(chunk)  # noqa: PERF401 — what came before the failure must stay

    async def talk() -> tuple[UpstreamError, Server]:
        async with served(script) as server, client(server.base_url, **settings) as upstream:
            with pytest.raises(UpstreamError) as raised:
                await read(upstream)
            await asyncio.sleep(0.02)
            return raised.value, server

    error, server = run(talk())
    return error, b"".join(got), server


def test_a_request_is_on_the_wire_as_it_was_given_and_nothing_is_added() -> None:
    headers: Headers = (
        (b"x-api-key", b"sk-1"),
        (b"anthropic-beta", b"one"),
        (b"x-b", b""),
        (b"anthropic-beta", b"two,  three"),
        (b"accept-encoding", b"identity"),
    )
    request = Outgoing(
        method="POST", target="/v1/messages?beta=true&q=%2F%20", headers=headers, body=b"\xff\x00{}"
    )
    _, _, _, server = exchange(saying(OK), request)

    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    assert line == b"POST /v1/messages?beta=true&q=%2F%20 HTTP/1.1"
    assert body == b"\xff\x00{}"
    (host,) = [field for field in fields if field.lower().startswith(b"host:")]
    (length,) = [field for field in fields if field.lower().startswith(b"content-length:")]
    assert length.split(b": ") == [b"Content-Length", b"4"]
    rest = [field for field in fields if field not in {host, length}]
    assert rest == [name + b": " + value for name, value in headers]


@pytest.mark.parametrize("value", ["café".encode(), "抽出 \U0001f4c4".encode(), b"plain"])
def test_a_header_in_any_alphabet_keeps_its_bytes(value: bytes) -> None:
    request = Outgoing(method="POST", target="/v1/messages", headers=((b"x-name", value),), body=b"")
    _, _, _, server = exchange(saying(OK), request)

    assert b"\r\nx-name: " + value + b"\r\n" in server.requests[0]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_request_without_a_body_has_none(method: str) -> None:
    request = Outgoing(method=method, target="/v1/models", headers=(), body=b"")
    _, _, _, server = exchange(saying(OK), request)

    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(method.encode() + b" /v1/models HTTP/1.1")
    assert body == b""
    assert b"transfer-encoding" not in head.lower()


@pytest.mark.parametrize(
    ("base", "path"), [("", "/v1/messages"), ("/", "/v1/messages"), ("/a/b", "/a/b/v1/messages")]
)
def test_the_provider_may_live_under_a_path(base: str, path: str) -> None:
    async def talk() -> bytes:
        async with served(saying(OK)) as server, client(server.base_url + base) as upstream:
            await (await upstream.send(PLAIN)).read()
            return server.requests[0]

    assert run(talk()).startswith(f"POST {path} HTTP/1.1".encode())


def test_a_replys_status_headers_and_bytes_are_as_they_were_on_the_wire() -> None:
    squeezed = gzip.compress(b"{}")
    reply = (
        b"HTTP/1.1 418 I am a teapot\r\nContent-Encoding: gzip\r\nX-Twice: 1\r\nX-TWICE: 2\r\nX-Odd: \xe9\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(squeezed), squeezed)
    )
    status, headers, body, _ = exchange(saying(reply))

    assert (status, body) == (418, squeezed)
    assert list(headers) == [
        (b"content-encoding", b"gzip"),
        (b"x-twice", b"1"),
        (b"x-twice", b"2"),
        (b"x-odd", b"\xe9"),
        (b"content-length", b"%d" % len(squeezed)),
    ]


def test_a_redirect_is_passed_on_and_not_followed() -> None:
    reply = b"HTTP/1.1 307 Temporary Redirect\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n"
    status, headers, _, server = exchange(saying(reply))

    assert status == 307
    assert (b"location", b"/elsewhere") in headers
    assert len(server.requests) == 1


def test_a_cookie_is_not_kept() -> None:
    reply = b"HTTP/1.1 200 OK\r\nset-cookie: a=b; Path=/\r\ncontent-length: 0\r\n\r\n"

    async def talk() -> list[bytes]:
        async with (
            served(saying(reply)) as server,
            client(server.base_url.replace("127.0.0.1", "localhost")) as upstream,  # cookies need a name
        ):
            for _ in range(2):
                await (await upstream.send(PLAIN)).read()
            return server.requests

    assert b"cookie" not in run(talk())[1].lower()


def test_a_connection_is_kept_for_the_next_request() -> None:
    async def talk() -> tuple[int, int]:
        async with served(saying(OK)) as server, client(server.base_url) as upstream:
            for _ in range(5):
                assert await (await upstream.send(PLAIN)).read() == b"{}"
            return server.connections, len(server.requests)

    assert run(talk()) == (1, 5)


def test_a_body_streams_as_it_comes() -> None:
    async def script(peer: Peer, server: Server) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for word in (b"one", b"two", b"three"):
            await peer.say(b"%x\r\n%b\r\n" % (len(word), word))
            await go_on.acquire()
        await peer.say(b"0\r\n\r\n")

    go_on = asyncio.Semaphore(0)

    async def talk() -> list[bytes]:
        got: list[bytes] = []
        async with served(script) as server, client(server.base_url) as upstream:
            async for chunk in (await upstream.send(PLAIN)).chunks():
                got.append(chunk)
                go_on.release()
        return got

    assert run(talk()) == [b"one", b"two", b"three"]


def test_a_port_where_nobody_listens_is_unreachable() -> None:
    async def talk() -> None:
        async with served(saying(OK)) as server:
            base_url = server.base_url
        async with client(base_url) as upstream:
            await upstream.send(PLAIN)

    with pytest.raises(UpstreamUnreachable, match=r"could not be reached: .*[Cc]onnect"):
        run(talk())


def test_a_connection_that_does_not_come_about_in_time_is_unreachable() -> None:
    async def talk(base_url: str) -> None:
        async with client(base_url, connect_timeout_s=0.2) as upstream:
            await upstream.send(PLAIN)

    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # nobody accepts: the queue fills up, and what comes after it waits
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        with pytest.raises(UpstreamUnreachable, match=r"[Tt]imeout|timed out"):
            run(talk(f"http://127.0.0.1:{listener.getsockname()[1]}"))


CUT_REPLIES = {
    "a body shorter than it says": (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", b"abc"),
    "a chunk that is cut": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nabc", b"abc"),
    "chunks without an end": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", b"abc"),
}


@pytest.mark.parametrize("cut", CUT_REPLIES)
@pytest.mark.parametrize("stream", [True, False])
def test_a_reply_that_is_cut_is_an_error_after_the_bytes_that_came(cut: str, stream: bool) -> None:
    reply, came = CUT_REPLIES[cut]

    async def pause(_peer: Peer, _server: Server) -> None:
        await asyncio.sleep(0.02)

    error, got, _ = failure(once(reply, then=pause), stream=stream)

    assert isinstance(error, UpstreamDropped)
    assert got == (came if stream else b"")


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 200 OK\r\nconte", b"\x16\x03\x01 not HTTP\r\n\r\n"])
def test_a_connection_that_ends_before_the_reply_is_an_error(reply: bytes) -> None:
    error, _, server = failure(once(reply), stream=True)

    assert isinstance(error, UpstreamDropped)
    assert len(server.requests) == 1


def test_a_body_that_is_no_longer_http_is_an_error() -> None:
    garbled = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n"
    error, got, _ = failure(once(garbled, then=silence), stream=True)

    assert isinstance(error, UpstreamDropped)
    assert b"abc".startswith(got)


@pytest.mark.parametrize("stream", [True, False])
def test_a_connection_that_is_reset_in_the_body_is_an_error(stream: bool) -> None:
    async def reset(peer: Peer, _server: Server) -> None:
        peer.reset()

    head = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"
    error, _, _ = failure(once(head, then=reset), stream=stream)

    assert isinstance(error, UpstreamDropped)


def test_a_provider_that_does_not_answer_in_time_is_a_timeout() -> None:
    error, _, _ = failure(once(b"", then=silence), stream=True, read_timeout_s=0.1)

    assert isinstance(error, UpstreamTimeout)


@pytest.mark.parametrize("stream", [True, False])
def test_a_body_that_falls_silent_is_a_timeout(stream: bool) -> None:
    reply = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"
    error, got, server = failure(once(reply, then=silence), stream=stream, read_timeout_s=0.1)

    assert isinstance(error, UpstreamTimeout)
    assert server.closed == 1
    assert got == (b"abc" if stream else b"")


def test_silence_between_bytes_is_what_times_out_not_the_whole() -> None:
    async def script(peer: Peer, server: Server) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")
        for _ in range(10):
            await asyncio.sleep(0.05)
            await peer.say(b".")

    _, _, body, _ = exchange(script, read_timeout_s=0.4)

    assert body == b"." * 10


@pytest.mark.parametrize("whole", [True, False])
def test_closing_a_reply_closes_its_connection_only_while_its_body_has_not_ended(whole: bool) -> None:
    reply = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\nabc" % (3 if whole else 9)

    async def talk() -> int:
        async with served(once(reply, then=silence)) as server, client(server.base_url) as upstream:
            answer = await upstream.send(PLAIN)
            await anext(aiter(answer.chunks()))
            answer.close()
            await asyncio.sleep(0.05)
            return server.closed

    assert run(talk()) == (0 if whole else 1)


# Proxies


@pytest.mark.parametrize(
    ("environment", "base_url", "proxy"),
    [
        ({}, "https://api.anthropic.com", None),
        ({"HTTPS_PROXY": "http://p:1"}, "https://api.anthropic.com", "http://p:1"),
        ({"https_proxy": "http://p:1"}, "https://api.anthropic.com", "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, "https://api.anthropic.com", None),
        ({"http_proxy": "http://p:1"}, "http://127.0.0.1:4100", "http://p:1"),
        ({"HTTPS_PROXY": "p:1"}, "https://api.anthropic.com", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "anthropic.com"}, "https://api.anthropic.com", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".anthropic.com"}, "https://api.anthropic.com", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "other.com"}, "https://api.anthropic.com", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": "*"}, "https://api.anthropic.com", None),
        ({"http_proxy": "http://p:1", "no_proxy": "localhost"}, "http://localhost:4100", None),
        ({"http_proxy": "http://p:1", "no_proxy": "localhost:4100"}, "http://localhost:4100", None),
        ({"http_proxy": "http://p:1", "no_proxy": "localhost:4100"}, "http://localhost:4200", "http://p:1"),
    ],
)
def test_the_environment_names_the_proxy(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], base_url: str, proxy: str | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert proxy_from_environment(base_url) == proxy


@pytest.mark.parametrize("how", ["environment", "policy"])
def test_a_request_goes_through_the_proxy(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    async def talk() -> bytes:
        async with served(saying(OK)) as proxy:
            if how == "environment":
                monkeypatch.setenv("http_proxy", proxy.base_url)
            settings = {} if how == "environment" else {"proxy": proxy.base_url}
            async with client("http://provider.invalid", **settings) as upstream:
                assert await (await upstream.send(PLAIN)).read() == b"{}"
            return proxy.requests[0]

    request = run(talk())

    assert request.startswith(b"POST http://provider.invalid/v1/messages HTTP/1.1\r\n")
    assert b"host: provider.invalid\r\n" in request.lower()


def test_a_proxy_that_refuses_a_tunnel_is_unreachable() -> None:
    refusal = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"

    async def talk() -> list[bytes]:
        async with served(saying(refusal)) as proxy:
            async with client("https://provider.invalid", proxy=proxy.base_url) as upstream:
                with pytest.raises(UpstreamUnreachable, match="403"):
                    await upstream.send(PLAIN)
            return proxy.requests

    assert run(talk())[0].startswith(b"CONNECT provider.invalid:443 HTTP/1.1\r\n")


# Certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority of its own and a certificate for 127.0.0.1."""
    if which("openssl") is None:
        pytest.skip("openssl is not here: certificates are not tested")
    folder = tmp_path_factory.mktemp("certificates")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for command in (
        (
            "req",
            "-x509",
            *curve,
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
            "-days",
            "2",
            "-subj",
            "/CN=Test authority",
        ),
        ("req", *curve, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=127.0.0.1"),
        (
            *("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-out", "server.pem", "-days", "2", "-extfile", "names"),
        ),
    ):
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)
    return folder


def over_tls(certificates: Path, **settings: object) -> bytes:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificates / "server.pem", certificates / "server.key")

    async def talk() -> bytes:
        async with served(saying(OK), tls=tls) as server, client(server.base_url, **settings) as upstream:
            return await (await upstream.send(PLAIN)).read()

    return run(talk())


def test_a_certificate_of_the_policys_authority_is_trusted(certificates: Path) -> None:
    assert over_tls(certificates, ca_file=str(certificates / "ca.pem")) == b"{}"


def test_much_goes_and_comes_over_tls_and_the_connection_stays(certificates: Path) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    much = b"m" * (4 * 2**20)
    reply = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(much), much)

    async def talk() -> tuple[list[int], int]:
        sizes: list[int] = []
        ca_file = str(certificates / "ca.pem")
        async with (
            served(saying(reply), tls=tls) as server,
            client(server.base_url, ca_file=ca_file) as upstream,
        ):
            for _ in range(2):
                answer = await upstream.send(replace(PLAIN, body=much[: 2**19]))
                await asyncio.sleep(0.05)  # more comes than waits for a caller that is slower
                sizes.append(sum([len(chunk) async for chunk in answer.chunks()]))
            return sizes, server.connections

    assert run(talk()) == ([len(much)] * 2, 1)


def test_a_certificate_of_an_unknown_authority_is_not_trusted(certificates: Path) -> None:
    with pytest.raises(UpstreamUnreachable, match="certificate verify failed"):
        over_tls(certificates)


def test_a_file_of_certificates_that_cannot_be_read_is_an_error_at_the_start(tmp_path: Path) -> None:
    async def talk() -> None:
        async with client("https://127.0.0.1:1", ca_file=str(tmp_path / "missing.pem")):
            pass

    with pytest.raises(OSError, match="certificates cannot be read") as raised:
        run(talk())
    assert raised.value.filename == str(tmp_path / "missing.pem")


def test_attempts_go_from_one_address_to_the_next_and_round() -> None:
    async def talk() -> list[int]:
        async with (
            served(saying(OK)) as first,
            served(saying(OK)) as second,
            client(first.base_url, fallback_urls=(second.base_url,)) as upstream,
        ):
            for address in (0, 1, 2):
                await (await upstream.send(replace(PLAIN, address=address))).read()
            return [len(first.requests), len(second.requests)]

    assert run(talk()) == [2, 1]
