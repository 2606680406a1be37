"""The task that the calls of a block belong to: a context variable, and what it means for other threads.

A context variable reaches nested calls, coroutines, asyncio's tasks and `asyncio.to_thread` by itself. It does not
reach a thread that is started by hand or by an executor: Python gives it an empty context. Two things help there:

- `in_task` binds the task of the moment to a function, whichever thread runs it. This is exact.
- A block that the main thread opened outside of an event loop speaks for every thread that has no task of its own, as
  long as it is open: such a program has one phase at a time. A block anywhere else speaks for nobody but its own
  context, for a server that handles several requests at once has a block for each, and a guess among them would put one
  request's calls on another's contract and budget.
"""

import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import Final, ParamSpec, TypeVar

from tierwise.core.tasks import AGENT_HEADERS, RUN_ID_HEADERS, TASK_ID_HEADER, TASK_TYPE_HEADER

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a block declares of its calls."""

    type: str | None
    """Name of the task type; None leaves the calls undeclared."""
    run: str | None = None
    agent: str | None = None
    task_id: str | None = None


@contextmanager
def task(
    type: str | None,  # noqa: A002 — the word of the policy and of the headers
    *,
    run: str | None = None,
    agent: str | None = None,
    task_id: str | None = None,
) -> Generator[Task]:
    """Declare the calls of a block, as the headers of a gateway's caller do.

    with tierwise.task("extraction", run="run-7", agent="reader"):
        client.messages.create(...)

    A virtual model name of a call, and its own headers, come first. Within another block, the run and the agent are
    that block's where this one names none.

    Args:
        type: name of a task type; None declares none, also within another block.
        run: names the run.
        agent: names the agent.
        task_id: names the task, so that its calls keep one tier.
    """
    outer = current_task() or _NOTHING
    declared = Task(type=type, run=run or outer.run, agent=agent or outer.agent, task_id=task_id)
    token = _here.set(declared)
    speaks = _is_main_phase()
    if speaks:
        _main.append(declared)
    try:
        yield declared
    finally:
        if speaks:
            _main.pop()
        _here.reset(token)


def in_task(function: Callable[P, T]) -> Callable[P, T]:
    """Bind the task of the moment to a function, whichever thread it runs in; not for coroutine functions.

    with tierwise.task("extraction"), ThreadPoolExecutor() as pool:
        pool.map(tierwise.in_task(read), pages)
    """
    held = current_task()

    @wraps(function)
    def bound(*args: P.args, **kwargs: P.kwargs) -> T:
        token = _here.set(held)
        try:
            return function(*args, **kwargs)
        finally:
            _here.reset(token)

    return bound


def current_task() -> Task | None:
    """Return what is declared here: by this context, else by the main thread's open block; None where nothing is."""
    here = _here.get()
    if here is not None:
        return here
    try:
        return _main[-1]
    except IndexError:
        return None


def with_task(headers: dict[str, str]) -> dict[str, str]:
    """Add what is declared here to a call's headers, where it has none of the kind itself."""
    declared = current_task()
    if declared is not None:
        for name, value in (
            (TASK_TYPE_HEADER, declared.type),
            (TASK_ID_HEADER, declared.task_id),
            (RUN_ID_HEADERS[0], declared.run),
            (AGENT_HEADERS[0], declared.agent),
        ):
            if value:
                headers.setdefault(name, value)
    return headers


_NOTHING: Final = Task(type=None)
_here: Final = ContextVar[Task | None]("tierwise_task", default=None)
_main: Final[list[Task]] = []
"""The open blocks of the main thread, outside of event loops; the innermost is last."""


def _is_main_phase() -> bool:
    return threading.current_thread() is threading.main_thread() and not _in_event_loop()


def _in_event_loop() -> bool:
    """Whether an event loop of asyncio runs in this thread. A program that has not imported it has none."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None  # noqa: SLF001 — documented, for this use
