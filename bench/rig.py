"""The rig that gateways are measured with: a provider, a load, and what a process has used.

Both are C programs, `mock.c` and `load.c`, where their folder and a compiler are there. Else the provider is the
sandbox and the load is Python: then the figures that the load tells (latency, calls a second) are mostly its own.
"""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Protocol
from urllib.parse import urlsplit

import aiohttp

from tierwise.sandbox.server import running_process

SOURCES: Final = Path(__file__).parents[2] / "shared" / "bench"
"""Where the C programs are looked for, unless `--rig` names another folder."""

EVENTS: Final = 65
"""Events of a stream of the provider in C."""

RIG_CORE: Final = 0
GATEWAY_CORE: Final = 1


Headers = Sequence[tuple[str, str]]
"""Names and values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request to a gateway, as its parts."""

    headers: Headers
    body: bytes

    def beside(self, headers: Headers) -> "Request":
        """The request with more headers; one that it has is another's instead."""
        named = {name for name, _ in headers}
        kept = [header for header in self.headers if header[0] not in named]
        return Request(headers=(*kept, *headers), body=self.body)

    def wire(self, port: int) -> bytes:
        """The bytes of the request."""
        lines = [
            "POST /v1/messages HTTP/1.1",
            f"host: 127.0.0.1:{port}",
            *(f"{name}: {value}" for name, value in self.headers),
            f"content-length: {len(self.body)}",
        ]
        return "\r\n".join((*lines, "", "")).encode() + self.body


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a load saw."""

    calls: int
    """All of them, those of the warm-up too."""
    per_second: float
    p50_ms: float
    p99_ms: float
    failed: int
    """Calls without a reply, or with another status than 200."""
    first_p50_ms: float
    """Until the reply's first byte."""
    first_p99_ms: float


class Rig(Protocol):
    """A provider, and a load on whatever stands before it."""

    name: str
    upstream: str
    """The provider's address."""

    def load(self, port: int, request: Request, *, connections: int, seconds: float) -> Load:
        """Send a request over and over on so many connections, each waiting for its reply."""
        ...


@contextmanager
def rig(sources: Path, *, port: int | None = None) -> Generator[Rig]:
    """Have a provider for a while: the one in C where it can be built, on this port."""
    with ExitStack() as stack:
        if shutil.which("gcc") and (sources / "mock.c").is_file():
            yield stack.enter_context(_in_c(sources, port or free_port()))
        else:
            sandbox = stack.enter_context(running_process())
            yield _InPython(sandbox.base_url)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A gateway that is up."""

    port: int
    pid: int
    headers: Headers = ()
    """What its callers send beside what a call has."""


@contextmanager
def serving(
    command: Sequence[str],
    port: int,
    *,
    headers: Headers = (),
    folder: Path | None = None,
    log: IO[bytes] | None = None,
    everywhere: bool = False,
) -> Generator[Server]:
    """Run a command that serves calls on this port, on the gateways' core or `everywhere`.

    `folder` is its own and its home.

    Raises:
        ChildProcessError: it does not listen in time.
    """
    home = {} if folder is None else {"HOME": str(folder)}
    out = subprocess.DEVNULL if log is None else log
    with subprocess.Popen(
        [*(() if everywhere else _on_core(GATEWAY_CORE)), *command],
        cwd=folder,
        env={**os.environ, **home},
        stdout=out,
        stderr=log,
    ) as process:
        try:
            _await_port(port, process)
            yield Server(port=port, pid=process.pid, headers=headers)
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


def _on_core(core: int) -> tuple[str, ...]:
    """What a command begins with so that it stays on a core; nothing where it cannot be said, or there is only one."""
    return ("taskset", "-c", str(core)) if shutil.which("taskset") and (os.cpu_count() or 1) > core else ()


def _await_port(port: int, process: subprocess.Popen[bytes], *, within_s: float = 120.0) -> None:
    """Wait until somebody listens.

    Raises:
        ChildProcessError: the process has ended, or does not listen in time.
    """
    until = time.monotonic() + within_s
    while process.poll() is None and time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise ChildProcessError(f"nobody listens on port {port}; the process says {process.poll()}")


# --- In C.


@contextmanager
def _in_c(sources: Path, port: int) -> Generator[Rig]:
    folder = Path(os.environ.get("TMPDIR", "/tmp"), f"tierwise-rig-{os.getpid()}")
    folder.mkdir()
    try:
        for program in ("mock", "load"):
            source = str(sources / f"{program}.c")
            subprocess.run(["gcc", "-O2", "-w", "-o", str(folder / program), source], check=True)
        command = [*_on_core(RIG_CORE), str(folder / "mock"), str(port), "0", "10000", str(EVENTS - 5)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as provider:
            try:
                _await_port(port, provider)
                yield _InC(folder, port)
            finally:
                provider.kill()
    finally:
        shutil.rmtree(folder)


class _InC:
    name = "C"

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self.upstream = f"http://127.0.0.1:{port}"

    def load(self, port: int, request: Request, *, connections: int, seconds: float) -> Load:
        file = self._folder / "request"
        file.write_bytes(request.wire(port))
        command = [*_on_core(RIG_CORE), str(self._folder / "load"), str(port), str(file), str(connections)]
        told = subprocess.run(
            [*command, str(seconds), str(seconds / 5)],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        seen = json.loads(told.stdout)
        return Load(
            calls=seen["total"],
            per_second=seen["rps"],
            p50_ms=seen["p50"] / 1000,
            p99_ms=seen["p99"] / 1000,
            failed=seen["errs"] + seen["non200"],
            first_p50_ms=seen["ttf50"] / 1000,
            first_p99_ms=seen["ttf99"] / 1000,
        )


# --- In Python.


class _InPython:
    name = "Python, for there is none in C"

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream

    def load(self, port: int, request: Request, *, connections: int, seconds: float) -> Load:
        return asyncio.run(_load(port, request, connections, seconds))


async def _load(port: int, request: Request, connections: int, seconds: float) -> Load:
    url = f"http://127.0.0.1:{port}/v1/messages"
    until = time.perf_counter() + seconds
    taken: list[float] = []
    first: list[float] = []
    failed = 0

    async def caller(session: aiohttp.ClientSession) -> None:
        nonlocal failed
        while (began := time.perf_counter()) < until:
            async with session.post(url, data=request.body, headers=dict(request.headers)) as reply:
                first.append(time.perf_counter() - began)
                await reply.read()
                failed += reply.status != 200
            taken.append(time.perf_counter() - began)

    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(caller(session) for _ in range(connections)))
    taken.sort()
    first.sort()
    return Load(
        calls=len(taken),
        per_second=len(taken) / seconds,
        p50_ms=1000 * taken[len(taken) // 2],
        p99_ms=1000 * taken[len(taken) * 99 // 100],
        failed=failed,
        first_p50_ms=1000 * first[len(first) // 2],
        first_p99_ms=1000 * first[len(first) * 99 // 100],
    )


# --- What a process has used, with its children.


def cpu_s(pid: int) -> float:
    """CPU time of a process and all its threads and children, in seconds."""
    ticks = 0
    for each in _tree(pid):
        with suppress(OSError):
            fields = _stat(each)
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def most_memory(pid: int) -> Generator[Callable[[], float]]:
    """Look at a process's memory now and then; what is yielded tells the most that was seen, and now."""
    seen = [memory_mib(pid)]
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.25):
            seen.append(memory_mib(pid))

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield lambda: max(*seen, memory_mib(pid))
    finally:
        ended.set()
        looking.join()


def memory_mib(pid: int) -> float:
    """Memory of a process and its children, shared pages divided among those that share them."""
    kib = 0
    for each in _tree(pid):
        with suppress(OSError):
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
            kib += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kib / 1024


def _tree(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                parents.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
    found, waiting = list[int](), [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += parents.get(found[-1], [])
    return found


def _stat(pid: int) -> list[str]:
    """Fields of `/proc/PID/stat` from the state on: a name may hold spaces, and stands before."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def port_of(address: str) -> int:
    """The port of an address."""
    port = urlsplit(address).port
    assert port is not None
    return port
