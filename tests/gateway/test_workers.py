"""Real processes under a real supervisor; this file is also the program that they run."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any, Final

import pytest
import uvicorn

from support.waiting import eventually
from tierwise.engine.clock import call_ids
from tierwise.gateway.workers import GRACE_S, Ready, WorkersFailed, supervise

PATIENT_S: Final = 30.0
"""A drain that no test waits for."""


@dataclass(frozen=True, slots=True)
class Crew:
    """A supervisor in a process, and how to speak with its workers."""

    process: subprocess.Popen[str]
    port: int

    def get(self, path: str = "/") -> str:
        return answer(self.opened(path))

    def opened(self, path: str) -> HTTPResponse:
        """A reply on a connection of its own, of which the head has come."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("GET", path, headers={"connection": "close"})
        return connection.getresponse()

    def pids(self) -> set[int]:
        """The workers there are, as the operating system knows them."""
        return children(self.process.pid)

    def end(self) -> tuple[int, str]:
        """Wait for the supervisor's end; return its exit code and what went to stderr.

        Its stdin stays open till then, for the end of that would be a stop.
        """
        assert self.process.stderr is not None
        told = self.process.stderr.read()
        return self.process.wait(60), told


Start = Callable[..., Crew]


def answer(reply: HTTPResponse) -> str:
    with reply:
        return reply.read().decode()


def children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def failures(told: Iterable[str]) -> Iterator[str]:
    return (line for line in told if "before it took calls" in line)


def none_lives(pids: set[int]) -> bool:
    eventually(lambda: [pid for pid in pids if alive(pid)], until=lambda living: not living)
    return True


@contextmanager
def launched(*arguments: str, wait: bool = True) -> Generator[Crew]:
    command = [sys.executable, __file__, *arguments]
    with subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline() if wait else "0"
            assert port.strip().isdigit(), process.communicate(timeout=20)
            yield Crew(process, int(port))
        finally:
            process.kill()


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a crew: how it serves, how many, and its drain."""
    with ExitStack() as stack:

        def start(
            how: str = "serving", *, workers: int = 2, drain_s: float = PATIENT_S, wait: bool = True
        ) -> Crew:
            return stack.enter_context(launched(how, str(workers), str(drain_s), wait=wait))

        yield start


# --- Serving.


def test_the_workers_share_one_address(start: Start):
    crew = start(workers=3)
    assert len(crew.pids()) == 3

    seen = set[int]()
    eventually(lambda: seen.add(int(crew.get())) or seen, until=lambda seen: seen == crew.pids())


def test_ready_comes_once_and_when_all_workers_take_calls(start: Start):
    crew = start("uneven", workers=2)  # it has come, and the second worker was slow

    assert len(crew.pids()) == 2
    crew.process.terminate()
    assert crew.end()[1].count("takes calls") == 2
    assert crew.process.stdout is not None
    assert not crew.process.stdout.read()


def test_what_a_worker_makes_for_itself_is_not_its_siblings(start: Start):
    crew = start(workers=2)
    pids = crew.pids()

    made = dict[int, str]()
    while set(made) != pids:
        pid, call_id = crew.get("/id").split()
        made[int(pid)] = call_id

    first, second = (call_id[: -len("00000000")] for call_id in made.values())
    assert first != second


def test_the_terminals_ctrl_c_and_stdin_are_the_parents(start: Start):
    crew = start(workers=1)
    (pid,) = crew.pids()

    assert os.getpgid(pid) != os.getpgid(crew.process.pid)
    assert Path(f"/proc/{pid}/fd/0").readlink() == Path(os.devnull)


# --- A worker ends.


def test_a_worker_that_dies_is_replaced_and_the_others_go_on(start: Start):
    crew = start(workers=2)
    dead, kept = crew.pids()

    os.kill(dead, signal.SIGKILL)
    eventually(crew.pids, until=lambda pids: len(pids - {dead}) == 2)

    assert kept in crew.pids()
    seen = set[int]()
    eventually(lambda: seen.add(int(crew.get())) or seen, until=lambda seen: seen == crew.pids())
    crew.process.terminate()
    code, told = crew.end()
    assert code == 0
    assert f"worker {dead} ended with SIGKILL\n" in told


def test_workers_that_do_not_start_end_it_with_what_they_had_to_say(start: Start):
    code, told = start("failing", workers=2, wait=False).end()

    assert code == 3
    assert told.count("no such ledger") >= 5
    assert told.endswith(
        "the workers do not start: 5 in a row ended before they took calls, the last with exit code 1; "
        "why, they have said above\n"
    )


def test_no_worker_is_left_when_it_gives_up(start: Start):
    crew = start("one-failing", workers=2, wait=False)
    assert crew.process.stderr is not None
    serves = next(line for line in crew.process.stderr if "takes calls" in line)
    pid = int(serves.split()[1])

    code, _ = crew.end()

    assert code == 3
    assert not alive(pid)


def test_neither_zombies_nor_descriptors_are_left_by_workers_that_died(start: Start):
    crew = start(workers=2)
    folder = Path(f"/proc/{crew.process.pid}/fd")
    before = len(list(folder.iterdir()))

    for _ in range(3):
        dead = min(crew.pids())
        os.kill(dead, signal.SIGKILL)
        eventually(crew.pids, until=lambda pids, dead=dead: dead not in pids and len(pids) == 2)
        eventually(crew.get, until=bool)

    eventually(lambda: len(list(folder.iterdir())), until=lambda now: now == before)
    assert all(alive(pid) for pid in crew.pids())


def test_a_replacement_holds_no_more_descriptors_than_the_worker_before_it(start: Start):
    crew = start(workers=2)
    held = {pid: len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in crew.pids()}
    dead = min(held)

    os.kill(dead, signal.SIGKILL)
    (new,) = eventually(lambda: crew.pids() - set(held), until=lambda pids: len(pids) == 1)

    eventually(
        lambda: len(list(Path(f"/proc/{new}/fd").iterdir())), until=lambda now: now == max(held.values())
    )


# --- The end of all.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_a_stream_in_flight_come_to_its_end(start: Start, number: signal.Signals):
    crew = start(workers=2)
    pids = crew.pids()
    reply = crew.opened("/slow")

    crew.process.send_signal(number)

    assert answer(reply) == "word " * 10
    assert crew.end()[0] == 0
    assert none_lives(pids)


def test_callers_are_refused_once_it_stops(start: Start):
    crew = start(workers=1)
    reply = crew.opened("/forever")

    crew.process.terminate()

    def refused() -> bool:
        try:
            socket.create_connection(("127.0.0.1", crew.port), timeout=20).close()
        except ConnectionRefusedError:
            return True
        return False

    eventually(refused, until=bool)
    assert crew.process.poll() is None
    reply.close()


def test_a_worker_that_outlasts_its_drain_is_killed(start: Start):
    crew = start("deaf", workers=1, drain_s=0.5 - GRACE_S)
    (pid,) = crew.pids()

    crew.process.terminate()

    code, told = crew.end()
    assert code == 0
    assert f"worker {pid} did not stop in time and is killed\n" in told
    assert not alive(pid)


def test_workers_end_with_a_parent_that_is_killed_and_finish_their_calls(start: Start):
    crew = start(workers=2)
    pids = crew.pids()
    reply = crew.opened("/slow")

    crew.process.kill()

    assert answer(reply) == "word " * 10
    assert none_lives(pids)


def test_the_end_of_what_it_was_given_to_watch_is_a_stop(start: Start):
    crew = start(workers=1)
    pids = crew.pids()
    assert crew.process.stdin is not None

    crew.process.stdin.write("not the end")
    crew.process.stdin.flush()
    assert crew.get()
    crew.process.stdin.close()

    assert crew.process.wait(60) == 0
    assert none_lives(pids)


# --- Rolling over.


def test_sighup_replaces_every_worker_and_no_call_in_flight_is_cut(start: Start):
    crew = start(workers=2)
    old = crew.pids()
    reply = crew.opened("/slow")

    crew.process.send_signal(signal.SIGHUP)

    assert answer(reply) == "word " * 10
    eventually(crew.pids, until=lambda pids: len(pids) == 2 and not pids & old)
    assert int(crew.get()) in crew.pids()


def test_a_worker_is_not_let_go_before_the_one_after_it_takes_calls(start: Start):
    crew = start("one-failing", workers=1)
    (old,) = crew.pids()
    assert crew.process.stderr is not None

    crew.process.send_signal(signal.SIGHUP)
    failed = [line for line, _ in zip(failures(crew.process.stderr), range(6), strict=False)]

    assert len(failed) == 6, "so many that it would give up, did nothing serve"
    assert int(crew.get()) == old


# --- The program.


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Say which process this is; `/slow` takes a second, `/forever` until its caller has gone."""
    text = f"{os.getpid()} {new_id()}" if scope["path"] == "/id" else str(os.getpid())
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for word in ["word "] * 10 if scope["path"] == "/slow" else [text]:
        await send({"type": "http.response.body", "body": word.encode(), "more_body": True})
        if scope["path"] == "/slow":
            await asyncio.sleep(0.1)
    while scope["path"] == "/forever" and (await receive())["type"] != "http.disconnect":
        pass
    await send({"type": "http.response.body", "body": b""})


def new_id() -> str:
    return MADE[0]()


MADE: Final[list[Callable[[], str]]] = []


class Server(uvicorn.Server):
    """A server that says when it is ready, and ends well."""

    def __init__(self, ready: Ready) -> None:
        super().__init__(
            uvicorn.Config(application, loop="uvloop", http="httptools", lifespan="off", log_config=None)
        )
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        sys.stderr.write(f"worker {os.getpid()} takes calls\n")
        self._ready()

    def handle_exit(self, sig: int, frame: object) -> None:
        self.should_exit = True


def main(how: str, workers: str, drain_s: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    listener.setblocking(False)
    served, let_in = os.pipe()

    def serving(ready: Ready) -> None:
        MADE.append(call_ids())
        Server(ready).run([listener])

    def failing(_ready: Ready) -> None:
        raise FileNotFoundError("no such ledger")

    def one_failing(ready: Ready) -> None:
        if first():
            serving(ready)
        failing(ready)

    def uneven(ready: Ready) -> None:
        if not first():
            time.sleep(0.5)
        serving(ready)

    def deaf(ready: Ready) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ready()
        threading.Event().wait()

    def told() -> None:
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()

    def first() -> bool:
        return bool(os.read(served, 1))

    os.write(let_in, b"1")
    os.close(let_in)
    what = {
        "serving": serving,
        "failing": failing,
        "one-failing": one_failing,
        "uneven": uneven,
        "deaf": deaf,
    }[how]
    try:
        supervise(
            what,
            listener=listener,
            workers=int(workers),
            drain_s=float(drain_s),
            ready=told,
            until_eof=0,
        )
    except WorkersFailed as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(3)


if __name__ == "__main__":
    main(*sys.argv[1:])
