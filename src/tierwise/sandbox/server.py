"""Running the sandbox: in the foreground (`serve`), in a thread (`running`), as a process (`running_process`).

with running(seed=1) as sandbox:
    client = anthropic.Anthropic(base_url=sandbox.base_url, api_key="any")
    ...
    assert sandbox.billing()["total_nanos"] == expected
"""

import json
import logging
import mmap
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tierwise.sandbox import fleet as fleets
from tierwise.sandbox import outcomes as recorded
from tierwise.sandbox.app import Sandbox
from tierwise.sandbox.provider import Settings
from tierwise.sandbox.replies import World
from tierwise.sandbox.validate import VERSIONS

DEFAULT_PORT: Final = 4100


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line offers."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    """0 takes any free port."""
    seed: int = 0
    fleet: Path | None = None
    """None takes the fleet of the package."""
    rpm: int | None = None
    latency_ms: float = 0.0
    event_gap_ms: float = 0.0
    clock: Path | None = None
    """A file whose first eight bytes are the time, microseconds since 1970 in this machine's byte order; whoever
    rehearses days in minutes moves it. None takes the machine's clock."""
    outcomes: Path | None = None
    prompts: Path | None = None
    weak: str | None = None
    strong: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A reply to `Running.send`."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body of a JSON reply."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Running:
    """A sandbox that is up, as its clients see it."""

    base_url: str
    """What ANTHROPIC_BASE_URL is to be."""

    def billing(self) -> dict[str, Any]:
        """The totals of all billed calls; money in whole nanodollars."""
        return self.send("GET", "/sandbox/billing").json()

    def calls(self, limit: int = 100) -> list[dict[str, Any]]:
        """The latest calls, newest first."""
        return self.send("GET", f"/sandbox/calls?limit={limit}").json()["calls"]

    def openai_billing(self) -> dict[str, Any]:
        """The bill of OpenAI's clients: `total_nanos`, and its `calls`, oldest first."""
        return self.send("GET", "/sandbox/openai/billing").json()

    def reset(self) -> None:
        """Forget all calls and all cached prompts."""
        self.send("POST", "/sandbox/reset")

    def messages(
        self, body: Mapping[str, Any], headers: Mapping[str, str] | None = None, *, version: str = VERSIONS[0]
    ) -> Answer:
        """POST /v1/messages without an SDK: any body, with credentials and these headers."""
        signed = {"x-api-key": "any", "anthropic-version": version, **(headers or {})}
        return self.send("POST", "/v1/messages", json.dumps(body).encode(), signed)

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request as it is, on a connection of its own. Raises what `http.client` raises."""
        connection = HTTPConnection(self.base_url.removeprefix("http://"), timeout=30)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Answer(status=response.status, headers=fields, body=response.read())
        finally:
            connection.close()


def serve(options: Options, *, ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is told the address once it answers.

    Raises FleetError, OutcomesError, or OSError when the address is taken.
    """
    application = Sandbox(
        load_world(options),
        Settings(
            rpm=options.rpm,
            latency_seconds=options.latency_ms / 1000,
            event_gap_seconds=options.event_gap_ms / 1000,
            now=time.time if options.clock is None else _told_by(options.clock),
        ),
    )
    listener = socket.create_server((options.host, options.port))
    url = _url(listener)
    _Server(application, ready=lambda: ready(url) if ready else None).run(sockets=[listener])


@contextmanager
def running(
    *,
    port: int = 0,
    seed: int = 0,
    fleet: fleets.Fleet | None = None,
    outcomes: recorded.Outcomes | None = None,
    rpm: int | None = None,
    latency_ms: float = 0.0,
    event_gap_ms: float = 0.0,
    now: Callable[[], float] = time.time,
) -> Generator[Running]:
    """Serve from a thread while the block runs; `now` is the clock of the cache and the rate limit."""
    application = Sandbox(
        World(seed=seed, fleet=fleet or fleets.load(), outcomes=outcomes),
        Settings(rpm=rpm, latency_seconds=latency_ms / 1000, event_gap_seconds=event_gap_ms / 1000, now=now),
    )
    listener = socket.create_server(("127.0.0.1", port))
    up = threading.Event()
    server = _Server(application, ready=up.set)
    url = _url(listener)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="sandbox", daemon=True)
    thread.start()
    try:
        if not up.wait(10):
            raise TimeoutError("the sandbox did not start")
        yield Running(url)
    finally:
        server.should_exit = server.force_exit = True
        thread.join(10)


@contextmanager
def running_process(*options: str) -> Generator[Running]:
    """Serve from a process of its own; `options` as on the command line, such as "--seed", "1"."""
    command = [sys.executable, "-m", "tierwise.sandbox", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own module
        try:
            line = process.stdout.readline() if process.stdout else ""
            if "http://" not in line:
                raise RuntimeError("the sandbox did not start")
            yield Running(line[line.index("http://") :].strip())
        finally:
            process.terminate()


def load_world(options: Options) -> World:
    """What replies are drawn from. Raises FleetError or OutcomesError."""
    return World(seed=options.seed, fleet=fleets.load(options.fleet), outcomes=_outcomes(options))


def _outcomes(options: Options) -> recorded.Outcomes | None:
    if options.outcomes is None:
        return None
    if options.weak is None or options.strong is None:
        raise recorded.OutcomesError("recorded outcomes need both models: --weak MODEL --strong MODEL")
    return recorded.load(options.outcomes, weak=options.weak, strong=options.strong, prompts=options.prompts)


def _told_by(file: Path) -> Callable[[], float]:
    with file.open("rb") as opened:
        words = memoryview(mmap.mmap(opened.fileno(), 8, access=mmap.ACCESS_READ)).cast("q")
    return lambda: words[0] / 1_000_000


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}"


class _Protocol(HttpToolsProtocol):
    """HTTP/1.1 that does not log the connections it is asked to break; exceptions it does."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.logger = _CONNECTIONS


_CONNECTIONS: Final = logging.getLogger("tierwise.sandbox.connections")
_CONNECTIONS.addFilter(lambda record: record.exc_info is not None)


class _Server(uvicorn.Server):
    def __init__(self, application: Sandbox, *, ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                loop="uvloop",
                http=_Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=120,
                timeout_graceful_shutdown=1,
            )
        )
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """Stop, and end well: a signal is how a sandbox is meant to end. A second one does not wait."""
        self.force_exit = self.should_exit
        self.should_exit = True
