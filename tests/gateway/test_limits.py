"""What a caller cannot make the gateway hold or wait for: on real sockets."""

import gc
import socket
import struct
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from support.gateways import RunningGateway, running_gateway
from support.policies import TWO_TIERS
from support.processes import ServedGateway, served_gateway
from support.waiting import eventually
from tierwise.gateway import protocol, server
from tierwise.gateway.asgi import LARGEST_BODY
from tierwise.gateway.protocol import LARGEST_HEAD, MOST_HEADERS, Protocol

NOWHERE = "http://127.0.0.1:9"
POST = b"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: k\r\n"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), NOWHERE) as gateway:
        yield gateway


@contextmanager
def connected(base_url: str) -> Generator[socket.socket]:
    address = ("127.0.0.1", int(base_url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=20) as connection:
        yield connection


def said(connection: socket.socket) -> bytes:
    """Everything until the connection ends."""
    parts: list[bytes] = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def told(gateway: RunningGateway, request: bytes) -> bytes:
    with connected(gateway.base_url) as connection:
        with suppress(ConnectionError):
            connection.sendall(request)
        return said(connection)


def test_a_connection_that_its_caller_resets_is_forgotten_at_once(gateway: RunningGateway) -> None:
    def held() -> int:
        gc.collect()
        return sum(isinstance(each, Protocol) for each in gc.get_objects())

    with connected(gateway.base_url) as connection:
        connection.sendall(b"GET /tierwise/health HTTP/1.1\r\nhost: x\r\n\r\n")
        connection.recv(65536)
        open_ones = held()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    assert eventually(held, until=lambda found: found < open_ones) == open_ones - 1


@pytest.mark.parametrize(
    "headers",
    [
        b"x: " + b"a" * LARGEST_HEAD + b"\r\n\r\n",
        b"x: " + b"a" * (LARGEST_HEAD + 2**20),
        b"".join(b"x%d: y\r\n" % n for n in range(MOST_HEADERS)) + b"\r\n",
    ],
    ids=["too long", "without an end", "too many"],
)
def test_a_head_that_is_too_large_is_refused_and_its_connection_closed(
    gateway: RunningGateway, headers: bytes
) -> None:
    reply = told(gateway, POST + headers)

    assert reply.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert b'"type":"request_too_large"' in reply


def test_an_address_that_is_too_long_is_refused(gateway: RunningGateway) -> None:
    assert told(gateway, b"GET /v1/" + b"a" * (2 * LARGEST_HEAD)).startswith(b"HTTP/1.1 431 ")


def test_what_is_not_http_is_refused_in_the_providers_shape(gateway: RunningGateway) -> None:
    reply = told(gateway, b"\x16\x03\x01 hello\r\n\r\n")

    assert reply.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"x-tierwise-error: malformed\r\n" in reply


@pytest.mark.parametrize(
    ("begun", "reply"),
    [(b"", b""), (b"\r\n", b""), (b"POST /v1/mess", b"HTTP/1.1 408 "), (POST, b"HTTP/1.1 408 ")],
)
def test_a_head_that_does_not_come_ends_its_connection(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, begun: bytes, reply: bytes
) -> None:
    monkeypatch.setattr(protocol, "HEAD_S", 0.2)

    answer = told(gateway, begun)

    assert answer[: len(reply)] == reply
    assert bool(answer) == bool(reply)


@pytest.mark.parametrize(
    "framing", [b"content-length: 100\r\n\r\n{", b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n"]
)
def test_a_body_that_falls_silent_ends_its_connection(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, framing: bytes
) -> None:
    monkeypatch.setattr(protocol, "GAP_S", 0.2)

    reply = told(gateway, POST + framing)

    assert reply.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"x-should-retry: false\r\n" in reply


def test_a_body_that_comes_a_byte_at_a_time_has_an_end_all_the_same(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "BODY_S", 0.5)
    monkeypatch.setattr(protocol, "GAP_S", 0.3)
    with connected(gateway.base_url) as connection:
        connection.sendall(POST + b"content-length: 1000000\r\n\r\n")
        with pytest.raises(ConnectionError):
            send_for_ever(connection, pause_s=0.05)


def test_a_body_that_comes_slowly_and_within_its_time_is_read(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "GAP_S", 1.0)
    with connected(gateway.base_url) as connection:
        connection.sendall(POST + b"content-length: 30\r\n\r\n")
        for _ in range(30):
            connection.sendall(b"{")
            time.sleep(0.05)
        reply = connection.recv(65536)

    assert reply.startswith(b"HTTP/1.1 400 ")
    assert b"x-tierwise-error: malformed\r\n" in reply


def test_one_connection_too_many_is_told_to_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 3)
    with running_gateway(tmp_path, NOWHERE) as gateway, ExitStack() as stack:
        for _ in range(2):
            idle = stack.enter_context(connected(gateway.base_url))
            idle.sendall(b"GET /tierwise/health HTTP/1.1\r\nhost: x\r\n\r\n")
            assert idle.recv(65536).startswith(b"HTTP/1.1 200 ")
        refused = told(gateway, b"GET /tierwise/health HTTP/1.1\r\nhost: x\r\n\r\n")

    assert refused.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"x-should-retry: true\r\n" in refused


def test_a_body_is_refused_for_the_length_that_it_says(gateway: RunningGateway) -> None:
    with connected(gateway.base_url) as connection:
        connection.sendall(POST + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n" % (LARGEST_BODY + 1))
        reply = connection.recv(65536)

    assert reply.startswith(b"HTTP/1.1 413 ")


def test_a_caller_that_sends_on_after_its_refusal_is_not_heard_for_long(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_S", 0.2)
    with connected(gateway.base_url) as connection:
        connection.sendall(POST + b"content-length: %d\r\n\r\n" % (LARGEST_BODY + 1))
        first = connection.recv(65536)
        with pytest.raises(ConnectionError):
            send_for_ever(connection)

    assert first.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "line",
    [
        b"POST http://evil.example/v1/messages HTTP/1.1",
        b"POST http://evil.example:1/v1/messages?x=http://evil.example HTTP/1.1",
        b"GET http://user@evil.example/v1/files HTTP/1.1",
        b"GET /v1/%2e%2e/%2e%2e/x HTTP/1.1",
        b"GET /v1/%2f%2fevil.example HTTP/1.1",
        b"GET /v1/@evil.example HTTP/1.1",
        b"GET /v1/\\\\evil.example HTTP/1.1",
        b"GET //evil.example/v1/files HTTP/1.1",
        b"CONNECT evil.example:443 HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
    ],
)
def test_no_request_line_chooses_where_a_call_goes(tmp_path: Path, line: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as provider:
        provider.settimeout(5)
        base_url = f"http://127.0.0.1:{provider.getsockname()[1]}"
        with running_gateway(tmp_path, base_url) as gateway, connected(gateway.base_url) as connection:
            body = b'{"model":"claude-opus-5-5","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}'
            connection.sendall(
                line + b"\r\nhost: evil.example\r\nx-forwarded-host: evil.example\r\nx-api-key: k\r\n"
                b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body
            )
            arrived = first_line(provider, connection)

    assert arrived is None or (b" /v1/" in arrived and b"//evil" not in arrived.split(b"?")[0])


def first_line(provider: socket.socket, caller: socket.socket) -> bytes | None:
    """The line of a request that reached the provider; None where the gateway answered by itself."""
    provider.settimeout(0.5)
    try:
        upstream, _ = provider.accept()
    except TimeoutError:
        assert caller.recv(65536).startswith((b"HTTP/1.1 4", b"HTTP/1.1 200"))
        return None
    with upstream:
        heard = upstream.recv(65536)
        upstream.sendall(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
        assert b"\r\nhost: 127.0.0.1:" in heard.lower()
        return heard.split(b"\r\n")[0]


def send_for_ever(connection: socket.socket, *, pause_s: float = 0) -> None:
    while True:
        connection.sendall(b"a" if pause_s else b"a" * 1000)
        time.sleep(pause_s)


MANY = 50
ROOM_MIB = 450
"""What bodies may take that are still coming in, a part of it twice, and some."""


def test_large_and_slow_bodies_of_many_callers_take_no_more_than_their_room(tmp_path: Path) -> None:
    with served_gateway(tmp_path, NOWHERE, policy=TWO_TIERS) as gateway, ExitStack() as stack:
        before = resident_mib(gateway)
        connections = [stack.enter_context(connected(gateway.http.base_url)) for _ in range(MANY)]
        refused = still_open = 0
        for connection in connections:
            connection.sendall(POST + b"transfer-encoding: chunked\r\n\r\n")
        part = b"%x\r\n" % 2**20 + b" " * 2**20 + b"\r\n"
        for connection in connections:
            with suppress(ConnectionError):  # one that was refused and still sends is not heard for long
                for _ in range(20):  # 20 MiB of each, never their end: a gigabyte in all
                    connection.sendall(part)
        for connection in connections:
            connection.setblocking(False)
            try:
                refused += connection.recv(12) == b"HTTP/1.1 503"
            except BlockingIOError:
                still_open += 1
            except ConnectionError:  # refused, and then cut: it went on sending
                refused += 1
        after = resident_mib(gateway)

        assert gateway.http.send("GET", "/tierwise/health").status == 200
        assert after - before < ROOM_MIB
        assert refused >= MANY - 256 // 20 - 1
        assert refused + still_open == MANY


def resident_mib(gateway: ServedGateway) -> float:
    status = Path(f"/proc/{gateway.process.pid}/status").read_text("utf-8")
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024
