"""A gateway between real sockets: what only a real connection can do wrong."""

import asyncio
import json
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.gateways import RunningGateway, running_gateway
from support.servers import OK, Peer, Script, Server, once, saying, served, silence
from support.transcripts import BLOCK, START, STREAM, message
from support.waiting import eventually
from tierwise.gateway.asgi import LARGEST_BODY

MESSAGE = {"model": "task/extraction", "max_tokens": 4096, "messages": [{"role": "user", "content": "Hi"}]}
RAW = json.dumps(MESSAGE).encode()


@contextmanager
def serving(script: Script) -> Generator[Server]:
    """A server of one script, in a thread."""
    up = threading.Event()
    server: list[Server] = []

    async def serve() -> None:
        ended = asyncio.Event()
        async with served(script) as started:
            server.append(started)
            stop.append(lambda: loop.call_soon_threadsafe(ended.set))
            loop = asyncio.get_running_loop()
            up.set()
            await ended.wait()

    stop: list[Any] = []
    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert up.wait(10)
        yield server[0]
    finally:
        stop[0]()
        thread.join(10)


@contextmanager
def before(script: Script, folder: Path, **settings: Any) -> Generator[tuple[RunningGateway, Server]]:
    """A gateway before a provider of one script."""
    with serving(script) as server, running_gateway(folder, server.base_url, key="sk", **settings) as gateway:
        yield gateway, server


def replying(body: bytes, kind: bytes = b"application/json") -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n"
    return head % (kind, len(body)) + body


def test_a_request_without_a_length_is_read_to_its_end(tmp_path: Path) -> None:
    with before(saying(replying(message())), tmp_path) as (gateway, server):
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in RAW) + b"0\r\n\r\n"
        head = b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        reply = talk(gateway, head + chunks)

    assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b'"model":"claude-haiku-5-5"' in server.requests[0]
    assert b"transfer-encoding" not in server.requests[0].lower()


def test_a_request_that_waits_for_leave_to_go_on_is_given_it(tmp_path: Path) -> None:
    with before(saying(replying(message())), tmp_path) as (gateway, _), connected(gateway) as connection:
        connection.sendall(
            b"POST /v1/messages HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n"
            % len(RAW)
        )
        first = connection.recv(65536)
        connection.sendall(RAW)
        second = connection.recv(65536)

    assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert second.startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_connection_is_kept_for_the_next_call_even_after_an_error(tmp_path: Path) -> None:
    with before(saying(replying(message())), tmp_path) as (gateway, _), connected(gateway) as connection:
        statuses: list[bytes] = []
        for body in (RAW, b"{", RAW):
            connection.sendall(posting(body))
            statuses.append(read_reply(connection).split(b" ", 2)[1])

    assert statuses == [b"200", b"400", b"200"]


def test_a_body_that_is_too_large_is_refused_to_a_caller_that_sends_it_all(tmp_path: Path) -> None:
    with before(saying(OK), tmp_path) as (gateway, server):
        answer = gateway.http.send("POST", "/v1/messages", b" " * (LARGEST_BODY + 2**20))

    assert answer.status == 413
    assert answer.json()["error"]["type"] == "request_too_large"
    assert server.requests == []


def test_a_probe_and_a_head_request_have_no_body(tmp_path: Path) -> None:
    models = b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n"
    with before(saying(models), tmp_path) as (gateway, server):
        hello = gateway.http.send("HEAD", "/api/hello")
        head = gateway.http.send("HEAD", "/v1/models")

    assert (hello.status, hello.body) == (200, b"")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "500")
    assert len(server.requests) == 1


@pytest.mark.parametrize("reply", [b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\n\r\n"])
def test_a_reply_without_a_body_passes(tmp_path: Path, reply: bytes) -> None:
    with before(saying(reply), tmp_path) as (gateway, _):
        answer = gateway.http.send("DELETE", "/v1/files/file_1")

    assert (answer.status, answer.body) == (int(reply[9:12]), b"")


def test_a_provider_that_does_not_answer_in_time_is_answered_for(tmp_path: Path) -> None:
    with before(once(b"", then=silence), tmp_path, read_timeout="1s", retries=0) as (gateway, _):
        answer = gateway.http.send("POST", "/v1/messages", RAW)
        (recorded,) = gateway.calls()

    assert (answer.status, answer.headers["x-should-retry"]) == (504, "false")
    assert (recorded["error"], recorded["cost_nanos"]) == ("timeout", None)


def test_a_provider_that_is_silent_at_first_is_asked_again_and_its_reply_is_the_callers(
    tmp_path: Path,
) -> None:
    async def silent_at_first(peer: Peer, server: Server) -> None:
        while True:
            server.requests.append(await peer.request())
            if len(server.requests) == 1:
                return await silence(peer, server)
            await peer.say(replying(message()))

    with before(silent_at_first, tmp_path, read_timeout="1s", retry_for="1s") as (gateway, server):
        answer = gateway.http.send("POST", "/v1/messages", RAW)
        recorded = gateway.calls()

    assert (answer.status, answer.headers["x-tierwise-attempt"], len(server.requests)) == (200, "2", 2)
    assert [(call["error"], call["cost_nanos"]) for call in recorded] == [("timeout", None), (None, 200_000)]


def test_a_stream_that_falls_silent_is_broken_off_and_closed_at_the_provider(tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\n"
    script = once(head + START + BLOCK, then=silence)
    with before(script, tmp_path, read_timeout="1s") as (gateway, server):
        reply = talk(gateway, posting(RAW))
        (recorded,) = gateway.settled()
        eventually(lambda: server.closed, until=lambda closed: closed == 1)

    assert reply.endswith(START + BLOCK)
    assert (recorded["error"], recorded["at_least_nanos"]) == ("stream-broke", 1000 * 100 + 1 * 500)


def test_a_call_that_was_sent_and_got_no_reply_has_an_unknown_cost(tmp_path: Path) -> None:
    with before(once(b""), tmp_path, retries=0) as (gateway, server):
        answer = gateway.http.send("POST", "/v1/messages", RAW)
        (recorded,) = gateway.calls()

    assert len(server.requests) == 1
    assert (answer.status, answer.headers["x-tierwise-error"]) == (502, "dropped")
    assert (recorded["error"], recorded["cost_nanos"]) == ("dropped", None)


def test_a_gateway_that_stops_lets_calls_in_flight_finish(tmp_path: Path) -> None:
    finish = threading.Event()
    begun = threading.Event()

    async def slowly(peer: Peer, server: Server) -> None:
        await peer.request()
        await peer.say(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + START
        )
        begun.set()
        await asyncio.to_thread(finish.wait)
        await peer.say(b"".join(STREAM[1:]))

    with before(slowly, tmp_path) as (gateway, _):
        with connected(gateway) as connection:
            connection.sendall(posting(RAW))
            begun.wait(10)
            stopping = threading.Thread(target=gateway.stop)
            stopping.start()
            threading.Event().wait(0.3)
            finish.set()
            reply = read_to_end(connection)
        stopping.join(20)
        (recorded,) = gateway.calls()

    assert STREAM[-1] in reply
    assert recorded["ending"] == "posted"


def test_a_gateway_that_stops_for_good_records_the_calls_that_it_cuts(tmp_path: Path) -> None:
    begun = threading.Semaphore(0)

    async def endless(peer: Peer, server: Server) -> None:
        await peer.request()
        await peer.say(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + START
        )
        begun.release()
        await peer.gone()

    with before(endless, tmp_path, drain_s=0) as (gateway, _):
        connections = [socket.create_connection(("127.0.0.1", port_of(gateway))) for _ in range(8)]
        for connection in connections:
            connection.sendall(posting(RAW))
            begun.acquire(timeout=10)
        gateway.stop()
        replies = [read_to_end(connection) for connection in connections]
        for connection in connections:
            connection.close()

    recorded = gateway.calls()
    assert [(call["fault"], call["error"]) for call in recorded] == [("gateway", "gateway-stopped")] * 8
    assert {call["at_least_nanos"] for call in recorded} == {1000 * 100 + 1 * 500}
    assert all(START in reply and not reply.endswith(b"0\r\n\r\n") for reply in replies)


def posting(body: bytes) -> bytes:
    return b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def port_of(gateway: RunningGateway) -> int:
    return int(gateway.base_url.rpartition(":")[2])


@contextmanager
def connected(gateway: RunningGateway) -> Generator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port_of(gateway)), timeout=20) as connection:
        yield connection


def talk(gateway: RunningGateway, request: bytes) -> bytes:
    """Say this on a connection, and read it to the reply's end or the connection's."""
    with connected(gateway) as connection:
        connection.sendall(request)
        return read_reply(connection)


def read_reply(connection: socket.socket) -> bytes:
    """Read one reply that says its length, or until the connection ends."""
    data = b""
    while True:
        head, blank, body = data.partition(b"\r\n\r\n")
        length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if blank and length and len(body) >= int(length[0].split(b":")[1]):
            return data
        more = connection.recv(65536)
        if not more:
            return data
        data += more


def read_to_end(connection: socket.socket) -> bytes:
    parts: list[bytes] = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)
