"""Several processes that take calls at one address, and the one above them that keeps them going.

The parent binds the address and forks; its workers inherit the socket, and each accepts from it when it is free.
So a worker that dies takes its own calls with it and no others: what waits at the socket goes to its siblings. The
parent takes no calls. Three pipes hold them together, none of which needs a thread in the parent, for a process
with threads does not fork well:

- the operating system writes the numbers of the parent's signals into one, so that one wait sees all news;
- each worker says in a pipe of its own that it takes calls;
- nobody writes into the third, the lifeline: only the parent holds its other end, so it ends when the parent does,
  even by SIGKILL, and the workers then stop as on SIGTERM.
"""

import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, NoReturn

from tierwise.errors import TierwiseError

Ready = Callable[[], None]

FAILED_STARTS: Final = 5
"""So many workers in a row may end before they take calls; then the parent gives up."""

STEADY_S: Final = 10.0
"""A worker that dies younger than this is not followed by another at once."""

FIRST_DELAY_S: Final = 0.1
LONGEST_DELAY_S: Final = 5.0
"""The delay doubles from the first to the longest, with each worker in a row that dies young."""

GRACE_S: Final = 5.0
"""How long a worker may take to end after its drain; then it is killed."""

log = logging.getLogger("tierwise.workers")


@dataclass(kw_only=True, eq=False)
class WorkersFailed(TierwiseError):
    """The workers do not start."""

    failed: int
    """So many in a row ended before they took calls."""
    last: str
    """How the last of them ended."""

    def describe(self) -> str:
        """How many were tried, and where to read why they ended."""
        return (
            f"the workers do not start: {self.failed} in a row ended before they took calls, the last "
            f"with {self.last}; why, they have said above"
        )


def supervise(
    run: Callable[[Ready], None],
    *,
    listener: socket.socket,
    workers: int,
    drain_s: float,
    ready: Ready,
    until_eof: int | None = None,
) -> None:
    """Run so many workers until SIGTERM or SIGINT, and return when the last of them has ended.

    A worker that ends untold is followed by another. SIGHUP replaces all workers, one after the other: the new one
    takes calls before the old one is told to stop.

    To be called from the main thread of a process that has no other thread and no event loop. What must not be
    shared by processes (a connection, a database, a maker of ids) is to be made in `run`.

    Args:
        run: what a worker does, in a process of its own: take calls from `listener`, call its argument once it
            does, and return when SIGTERM has been answered by a drain. Until it sets a handler, SIGTERM ends it.
        listener: the bound socket. It is closed in this process when the workers are told to stop, so that new
            callers are refused rather than left waiting.
        workers: how many.
        drain_s: how long a worker lets calls in flight go on, in seconds; it is killed `GRACE_S` after that.
        ready: called once, when all workers take calls.
        until_eof: a descriptor whose end stops the workers, as SIGTERM does; what it says is not looked at.

    Raises:
        WorkersFailed: `FAILED_STARTS` workers in a row did not come to take calls, and there is none that does, or
            there were never as many as asked for. None is left.
    """
    with _signals_heard() as signals, _lifeline() as lifeline:
        crew = _Crew(run, wanted=workers, stop_within_s=drain_s + GRACE_S, lifeline=lifeline, signals=signals)
        try:
            _keep(crew, ready, until_eof)
        finally:
            listener.close()
            _end(crew)


@dataclass(slots=True, kw_only=True, eq=False)
class _Worker:
    pid: int
    heard: int
    """A pipe's end, where it says that it takes calls."""
    born: float
    ready: bool = False
    kill_at: float | None = None
    """When it is killed; None while it has not been told to stop."""
    killed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pipe:
    read_end: int
    write_end: int


class _Crew:
    """The workers there are, and when there may be another; all times are of the monotonic clock, in seconds."""

    def __init__(
        self,
        run: Callable[[Ready], None],
        *,
        wanted: int,
        stop_within_s: float,
        lifeline: _Pipe,
        signals: _Pipe,
    ) -> None:
        self.signals = signals
        self.wanted = wanted
        self.workers: list[_Worker] = []
        self.outdated: list[_Worker] = []
        """Those that SIGHUP found, which are to be replaced."""
        self.announced = False
        self._run = run
        self._stop_within_s = stop_within_s
        self._lifeline = lifeline
        self._start_at = 0.0
        self._died_young = 0
        self._failed_starts = 0

    @property
    def staying(self) -> list[_Worker]:
        """Workers that have not been told to stop."""
        return [worker for worker in self.workers if worker.kill_at is None]

    @property
    def complete(self) -> bool:
        """Whether as many take calls as there are to be."""
        staying = self.staying
        return len(staying) == self._places and all(worker.ready for worker in staying)

    @property
    def _places(self) -> int:
        return self.wanted + bool(self.outdated)

    def fill(self) -> None:
        """Start workers for the free places, unless it is too early."""
        for _ in range(self._places - len(self.staying)):
            if time.monotonic() >= self._start_at:
                self._start()

    def replace_all(self) -> None:
        """Begin to replace every worker there is."""
        self.outdated = self.staying

    def replace_next(self) -> None:
        """Once the newcomer takes calls, let an outdated worker go, and make place for the next newcomer."""
        if self.outdated and self.complete:
            self.stop([self.outdated.pop(0)])

    def stop(self, workers: Iterable[_Worker]) -> None:
        """Tell workers to finish their calls and end."""
        for worker in workers:
            worker.kill_at = time.monotonic() + self._stop_within_s
            os.kill(worker.pid, signal.SIGTERM)

    def kill_overdue(self) -> None:
        """Kill those that were told to stop and did not in time."""
        for worker in self.workers:
            if worker.kill_at is not None and not worker.killed and time.monotonic() >= worker.kill_at:
                log.error("worker %d did not stop in time and is killed", worker.pid)
                worker.killed = True
                os.kill(worker.pid, signal.SIGKILL)

    def wait(self, also: int | None) -> tuple[bytes, bool]:
        """Wait for news; return the numbers of the signals that came, and whether `also` can be read."""
        pipes = {worker.heard: worker for worker in self.workers if not worker.ready}
        watched = [self.signals.read_end, *pipes, *([] if also is None else [also])]
        found, _, _ = select.select(watched, [], [], self._patience())
        for pipe in found:
            if pipe in pipes and os.read(pipe, 1):
                pipes[pipe].ready = True
                self._failed_starts = 0
        signals = os.read(self.signals.read_end, 4096) if self.signals.read_end in found else b""
        return signals, also in found

    def bury(self) -> None:
        """Take note of workers that have ended.

        Raises:
            WorkersFailed: too many did not come to take calls.
        """
        for worker in tuple(self.workers):
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                os.close(worker.heard)
                self.workers.remove(worker)
                self.outdated = [other for other in self.outdated if other is not worker]
                if worker.kill_at is None:
                    self._lost(worker, _ending(status))

    def _lost(self, worker: _Worker, ending: str) -> None:
        self._count(young=time.monotonic() - worker.born < STEADY_S)
        log.error(
            "worker %d ended with %s%s", worker.pid, ending, "" if worker.ready else " before it took calls"
        )
        if not worker.ready:
            self._failed(ending)

    def _count(self, *, young: bool) -> None:
        self._died_young = self._died_young + 1 if young else 0
        delay = FIRST_DELAY_S * 2 ** min(self._died_young - 1, 10) if young else 0.0
        self._start_at = time.monotonic() + min(delay, LONGEST_DELAY_S)

    def _failed(self, ending: str) -> None:
        self._failed_starts += 1
        served = self.announced and any(worker.ready for worker in self.workers)
        if self._failed_starts >= FAILED_STARTS and not served:
            raise WorkersFailed(failed=self._failed_starts, last=ending)

    def _patience(self) -> float | None:
        """How long nothing needs to be done, in seconds; None means until there is news."""
        times = [
            worker.kill_at for worker in self.workers if worker.kill_at is not None and not worker.killed
        ]
        if len(self.staying) < self._places:
            times.append(self._start_at)
        return max(min(times) - time.monotonic(), 0.0) if times else None

    def _start(self) -> None:
        assert threading.active_count() == 1, "a process with threads is not to be forked"
        _flush()
        heard, say = os.pipe()
        try:
            with _signals_held():
                pid = os.fork()
                if pid == 0:
                    self._work(heard=heard, say=say)
        except OSError as error:
            os.close(heard)
            log.error("no worker can be started: %s", error)  # noqa: TRY400 — the system's words are all there is
            self._count(young=True)
            self._failed(str(error))
        else:
            self.workers.append(_Worker(pid=pid, heard=heard, born=time.monotonic()))
        finally:
            os.close(say)

    def _work(self, *, heard: int, say: int) -> NoReturn:
        others = [worker.heard for worker in self.workers]
        parents = (heard, *others, self._lifeline.write_end, self.signals.read_end, self.signals.write_end)
        _be_worker(self._run, say=say, lifeline=self._lifeline.read_end, parents=parents)


def _keep(crew: _Crew, ready: Ready, until_eof: int | None) -> None:
    """Keep the crew complete until it is to stop."""
    while True:
        crew.fill()
        signals, readable = crew.wait(until_eof)
        if signal.SIGTERM in signals or signal.SIGINT in signals:
            return
        if readable and until_eof is not None and not os.read(until_eof, 4096):
            return
        if signal.SIGHUP in signals:
            crew.replace_all()
        if crew.complete and not crew.announced:
            crew.announced = True
            ready()
        crew.replace_next()
        crew.kill_overdue()
        crew.bury()


def _end(crew: _Crew) -> None:
    """Stop all workers, and wait until the last has ended."""
    crew.wanted = 0
    crew.outdated = []
    crew.stop(crew.staying)
    while crew.workers:
        signals, _ = crew.wait(None)
        if signal.SIGINT in signals:  # the second: whoever sends it does not want to wait
            for worker in crew.workers:
                os.kill(worker.pid, signal.SIGINT)
        crew.kill_overdue()
        crew.bury()


_HEARD: Final = (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


@contextmanager
def _signals_heard() -> Generator[_Pipe]:
    """Have the numbers of this process's signals written into a pipe."""
    with _pipe() as pipe:
        os.set_blocking(pipe.write_end, False)
        before_fd = signal.set_wakeup_fd(pipe.write_end, warn_on_full_buffer=False)
        before = {number: signal.signal(number, _noted) for number in _HEARD}
        try:
            yield pipe
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before_fd)


def _noted(_signal: int, _frame: object) -> None:
    """Do nothing: the signal's number is in the pipe."""


@contextmanager
def _lifeline() -> Generator[_Pipe]:
    with _pipe() as pipe:
        yield pipe


@contextmanager
def _pipe() -> Generator[_Pipe]:
    read_end, write_end = os.pipe()
    try:
        yield _Pipe(read_end=read_end, write_end=write_end)
    finally:
        os.close(read_end)
        os.close(write_end)


@contextmanager
def _signals_held() -> Generator[None]:
    """Keep signals waiting: one that comes to a worker before it has left the parent would be the parent's."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _be_worker(run: Callable[[Ready], None], *, say: int, lifeline: int, parents: Iterable[int]) -> NoReturn:
    """Be a worker, and end: the parent's stack, in the midst of which this is, is not returned to."""
    code = 1
    try:
        _leave_the_parent(parents)
        threading.Thread(target=_stop_with_the_parent, args=(lifeline,), name="lifeline", daemon=True).start()
        run(lambda: _said(say))
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except (TierwiseError, OSError) as error:
        log.error("worker %d: %s", os.getpid(), error)  # noqa: TRY400 — the message is made for its reader
    except BaseException:
        log.exception("worker %d failed", os.getpid())
    finally:
        logging.shutdown()
        with suppress(OSError):
            _flush()
        os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


def _leave_the_parent(pipes: Iterable[int]) -> None:
    """Let go of what is the parent's: its signals, its pipes, its stdin, and the terminal's Ctrl-C."""
    signal.set_wakeup_fd(-1)
    for number in _HEARD:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
    os.setpgid(0, 0)
    for pipe in pipes:
        os.close(pipe)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def _stop_with_the_parent(lifeline: int) -> None:
    os.read(lifeline, 1)
    log.warning("worker %d stops: its parent has ended", os.getpid())
    os.kill(os.getpid(), signal.SIGTERM)


def _said(say: int) -> None:
    with suppress(BrokenPipeError):  # the parent has ended, which the lifeline tells
        os.write(say, b"!")


def _ending(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
