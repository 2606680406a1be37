"""What the server does with an app's reply, over a real connection: small apps, the gateway's own protocol."""

import asyncio
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import uvicorn

from support.waiting import eventually
from tierwise.gateway.asgi import Receive, Scope, Send, answer, begin, when_left
from tierwise.gateway.protocol import Protocol
from tierwise.gateway.server import listen

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"

App = Callable[[Scope, Receive, Send], Any]


@contextmanager
def serving(app: App, *, keep_alive_s: int = 30) -> Generator[socket.socket]:
    """Have a connection to a server of an app."""
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(
        app, http=Protocol, loop="uvloop", lifespan="off", ws="none", log_config=None, server_header=False,
        date_header=False, timeout_keep_alive=keep_alive_s, timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
    thread.start()
    try:
        with socket.create_connection(listener.getsockname(), timeout=10) as connection:
            yield connection
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


def replying(*bodies: bytes, headers: tuple[tuple[bytes, bytes], ...] = (), status: int = 200) -> App:
    """An app that sends a body in parts."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for place, body in enumerate(bodies, start=1):
            await send({"type": "http.response.body", "body": body, "more_body": place < len(bodies)})

    return app


def all_of(connection: socket.socket) -> bytes:
    """Everything until the other side closes."""
    got = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65536):
            got += part
    return got


def test_a_reply_leaves_with_its_head() -> None:
    with serving(replying(b"hello", headers=((b"content-length", b"5"),))) as connection:
        connection.sendall(GET)

        assert connection.recv(65536) == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


def test_a_large_reply_is_whole() -> None:
    body = bytes(range(256)) * 4096
    with serving(replying(body, headers=((b"content-length", b"%d" % len(body)),))) as connection:
        connection.sendall(GET.replace(b"host", b"connection: close\r\nhost"))

        assert all_of(connection).partition(b"\r\n\r\n")[2] == body


def test_a_reply_without_a_length_comes_in_chunks() -> None:
    with serving(replying(b"hello", b" you", b"")) as connection:
        connection.sendall(GET.replace(b"host", b"connection: close\r\nhost"))

        assert all_of(connection) == (
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
            b"5\r\nhello\r\n4\r\n you\r\n0\r\n\r\n"
        )


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"a\rb", b"a\0b"])
def test_a_header_that_would_break_its_line_is_not_sent(value: bytes) -> None:
    with serving(replying(b"", headers=((b"x", value),))) as connection:
        connection.sendall(GET)

        assert all_of(connection) == b""


@pytest.mark.parametrize("body", [b"four", b"sixsix"])
def test_a_body_of_another_length_than_was_told_ends_the_connection(body: bytes) -> None:
    with serving(replying(body, headers=((b"content-length", b"5"),))) as connection:
        connection.sendall(GET)

        assert len(all_of(connection).partition(b"\r\n\r\n")[2]) < 5


def test_a_head_request_is_told_the_length_and_gets_no_body() -> None:
    with serving(replying(b"hello", headers=((b"content-length", b"5"),))) as connection:
        connection.sendall(GET.replace(b"GET", b"HEAD").replace(b"host", b"connection: close\r\nhost"))

        assert all_of(connection) == (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\n")


def test_a_reply_that_says_so_ends_its_connection() -> None:
    headers = ((b"content-length", b"2"), (b"connection", b"Close"))
    with serving(replying(b"ok", headers=headers)) as connection:
        connection.sendall(GET)

        assert all_of(connection).endswith(b"\r\n\r\nok")


def test_requests_that_come_together_are_answered_in_turn() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        await asyncio.sleep(0.05 if scope["path"] == "/1" else 0)
        await answer(send, 200, (), scope["path"].encode())

    with serving(app) as connection:
        connection.sendall(b"".join(GET.replace(b"/ ", b"/%d " % place) for place in (1, 2)))
        connection.sendall(GET.replace(b"/ ", b"/3%203?a=b ").replace(b"host", b"connection: close\r\nhost"))

        got = all_of(connection)

    assert [part[:4].strip() for part in got.split(b"\r\n\r\n")[1:]] == [b"/1HT", b"/2HT", b"/3 3"]


def test_an_idle_connection_ends_and_one_that_is_answered_does_not() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        await asyncio.sleep(2.5 if scope["path"] == "/slow" else 0)
        await answer(send, 200, (), b"ok")

    with serving(app, keep_alive_s=1) as connection:
        connection.sendall(GET)
        assert connection.recv(65536).endswith(b"ok")
        connection.sendall(GET.replace(b"/ ", b"/slow "))

        assert all_of(connection).endswith(b"ok")


@pytest.mark.parametrize("behind", [b"", GET], ids=["alone", "before another"])
@pytest.mark.parametrize("size", [10, 300_000])
def test_a_caller_that_leaves_is_noticed(size: int, behind: bytes) -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del send
        while (await receive()).get("more_body"):
            pass
        left = asyncio.Event()
        when_left(scope, receive, left.set)
        seen.append("waits")
        await left.wait()
        seen.append("left")

    with serving(app) as connection:
        head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size
        connection.sendall(head + bytes(size) + behind)
        eventually(lambda: list(seen), until=["waits"].__eq__)
        connection.close()

        eventually(lambda: seen[:2], until=["waits", "left"].__eq__)


def test_a_caller_whose_leaving_is_no_longer_of_interest_is_let_go() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        when_left(scope, receive, lambda: seen.append("left"))()
        await answer(send, 200, (), b"ok")
        seen.append("answered")

    with serving(app) as connection:
        connection.sendall(GET)
        assert connection.recv(65536).endswith(b"ok")
        connection.close()
        eventually(lambda: "answered" in seen, until=bool)

    assert seen == ["answered"]


def test_a_head_can_be_sent_before_the_first_byte() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await begin(send, 200, ((b"content-length", b"5"),))

    with serving(app) as connection:
        connection.sendall(GET)

        assert all_of(connection) == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
