"""The streams of a session that are on their way: they end with it, and where their callers leave them.

A stream that its caller leaves, or drops, is often closed by a finalizer, for an SDK's streams are generators.
Finalizers run in the middle of anything: of a step of the budgets or of the client's connections, whose lock their
thread holds. So closing only hands a thread's call over, and a thread of ours ends it. And what is on its way is kept
here, or the garbage collector, which finds a dropped stream within a cycle, would finalize the parts of its call as
well, in an order of its own.
"""

import asyncio
import logging
import threading
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from queue import SimpleQueue
from typing import Final, Protocol

log: Final = logging.getLogger("tierwise.client")

FAREWELL_S: Final = 5.0
"""How long an end waits for the streams of an event loop in another thread."""


class Leavable(Protocol):
    """A thread's call whose stream is read. It does not hold the stream, which can be dropped."""

    def leave(self) -> None:
        """End the call, if it has not ended."""
        ...


class Streams:
    """What is on its way, for threads and for coroutines."""

    def __init__(self) -> None:
        """Begin with none, and with the thread that ends what is left."""
        self._calls: set[Leavable] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving: SimpleQueue[Leavable | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="tierwise-streams", daemon=True)
        self._thread.start()

    def hold(self, call: Leavable) -> None:
        """Keep a thread's call until it is let go of, or ended."""
        self._calls.add(call)

    def let_go(self, call: Leavable) -> None:
        """Let go of a thread's call that is over."""
        self._calls.discard(call)

    def end(self, call: Leavable) -> None:
        """Have a thread's call ended. This takes no lock."""
        if call in self._calls:
            self._leaving.put(call)

    def hold_task(self, task: asyncio.Task[None]) -> None:
        """Keep a coroutine's call until it has ended."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """End all, and wait until they are recorded; but for those of an event loop that runs in this very thread."""
        self._leaving.put(None)
        self._thread.join()
        for call in list(self._calls):
            self._leave(call)
        _end(list(self._tasks))

    def _run(self) -> None:
        while (call := self._leaving.get()) is not None:
            self._leave(call)

    def _leave(self, call: Leavable) -> None:
        try:
            call.leave()
        except Exception:
            log.exception("a stream could not be ended")
        self.let_go(call)


def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[asyncio.Task[None]]] = defaultdict(list)
    for task in tasks:
        by_loop[task.get_loop()].append(task)
    here = asyncio._get_running_loop()  # noqa: SLF001 — documented, for this use
    for loop, its in by_loop.items():
        if loop is here:
            for task in its:
                task.cancel()
        elif loop.is_running():
            with suppress(TimeoutError, RuntimeError):  # it is blocked; or it was closed meanwhile
                asyncio.run_coroutine_threadsafe(_cancelled(its), loop).result(FAREWELL_S)


async def _cancelled(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
