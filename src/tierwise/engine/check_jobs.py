"""What a check does on a thread of its own: ask a function, a program, or the process that patterns and schemas run in.

Programs begin with few of this process's variables, so without the credentials that may be among them. Each leads a
group of processes and is ended with it.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from threading import Lock
from typing import Final, Protocol

from tierwise.core.checks import Command, Function, Quality, Reply, Schema, TextRule
from tierwise.engine.check_child import LENGTH


class CannotTell(Exception):
    """A check has not said whether a reply passes."""


class Job(Protocol):
    """One check of one reply."""

    def run(self) -> bool | None:
        """Say whether it passes; wait until that is known. Whatever is raised means that it is not."""
        ...

    def stop(self) -> None:
        """End what runs for it, from another thread; `run` then raises."""
        ...


class AskFunction:
    """A function is called. It cannot be stopped: a thread that it keeps is lost until it returns."""

    def __init__(self, function: Function, text: str) -> None:
        """Prepare to ask."""
        self._function = function
        self._text = text

    def run(self) -> bool | None:
        """Call it."""
        return _passes(self._function.call(Reply(self._text)))

    def stop(self) -> None:
        """Nothing can be done."""


def _passes(said: Quality | object) -> bool | None:
    if said is None or isinstance(said, bool):
        return said
    if isinstance(said, int | float) and 0 <= said <= 1:
        return said >= PASSES_FROM
    raise CannotTell(f"it returned no quality, but {type(said).__name__}")


PASSES_FROM: Final = 0.5
"""The smallest quality that passes."""


class _Program:
    """The program that runs for a job, if one does."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._running: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def runs(self, program: subprocess.Popen[bytes] | None) -> None:
        """Keep which one it is; None where it needs to be ended no more. It is ended if that was wanted meanwhile."""
        with self._lock:
            self._running = program
            if program is not None and self._stopped:
                end(program)

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._running is not None:
                end(self._running)


class AskCommand:
    """A program reads the text and ends with 0 or 1. What it writes is thrown away."""

    def __init__(self, command: Command, text: str) -> None:
        """Prepare to ask."""
        self._command = command
        self._text = text
        self._program = _Program()

    def run(self) -> bool | None:
        """Run it."""
        words, folder = self._command.words, self._command.folder
        with started(words, folder=folder, answers=subprocess.DEVNULL, variables=environment()) as program:
            self._program.runs(program)
            _feed(program, self._text.encode("utf-8", "replace"))
            self._program.runs(None)
        if program.returncode not in {0, 1}:
            raise CannotTell(f"it ended with {program.returncode}")
        return program.returncode == 0

    def stop(self) -> None:
        """End the program."""
        self._program.stop()


def _feed(program: subprocess.Popen[bytes], text: bytes) -> None:
    """Have a program read a text, wait for its end, and end what it left behind while its id is still its own."""
    assert program.stdin is not None
    with suppress(BrokenPipeError), program.stdin as stdin:
        stdin.write(text)
    with suppress(ChildProcessError):
        os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
    _kill_group(program)


class Children:
    """The processes that ask patterns and schemas, those that wait for a question."""

    def __init__(self) -> None:
        """Begin without one."""
        self._lock = Lock()
        self._idle: list[subprocess.Popen[bytes]] = []
        self._closed = False

    def take(self) -> subprocess.Popen[bytes]:
        """Take one that waits, else begin one."""
        with self._lock:
            while self._idle:
                child = self._idle.pop()
                if child.poll() is None:
                    return child
                close(child)
        path = os.pathsep.join(each for each in sys.path if each)
        words = (sys.executable, "-P", "-m", "tierwise.engine.check_child")
        return started(
            words, folder=None, answers=subprocess.PIPE, variables={**environment(), "PYTHONPATH": path}
        )

    def give_back(self, child: subprocess.Popen[bytes]) -> None:
        """Take one back, for the next question."""
        with self._lock:
            if not self._closed:
                return self._idle.append(child)
        return close(child)

    def close(self) -> None:
        """End those that wait; the others end as they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for child in idle:
            close(child)


class AskChild:
    """A pattern or a schema is asked in a process of its own."""

    def __init__(self, rule: TextRule | Schema, text: str, *, limit_s: int, children: Children) -> None:
        """Prepare to ask."""
        self._rule = rule
        self._text = text
        self._limit_s = limit_s
        self._children = children
        self._program = _Program()

    def run(self) -> bool | None:
        """Ask."""
        child = self._children.take()
        self._program.runs(child)
        said = b""
        with suppress(OSError):
            said = _answer(child, self._question())
        self._program.runs(None)
        if not said.endswith(b"\n"):
            close(child)
            raise CannotTell(f"its process ended with {child.returncode}")
        self._children.give_back(child)
        if said not in _ANSWERS:
            raise CannotTell(said.decode().strip())
        return _ANSWERS[said]

    def stop(self) -> None:
        """End the process."""
        self._program.stop()

    def _question(self) -> bytes:
        match self._rule:
            case Schema(text=argument):
                kind = "schema"
            case TextRule(kind=kind, argument=argument):
                pass
        question = {"kind": kind, "argument": argument, "text": self._text, "limit_s": self._limit_s}
        return json.dumps(question).encode()


_ANSWERS: Final = {b"yes\n": True, b"no\n": False}


def _answer(child: subprocess.Popen[bytes], question: bytes) -> bytes:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(len(question).to_bytes(LENGTH, "big") + question)
    child.stdin.flush()
    return child.stdout.readline()


def started(
    words: Sequence[str], *, folder: str | None, answers: int, variables: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a program, as the leader of a group. Raises CannotTell where it cannot be."""
    try:
        return subprocess.Popen(  # noqa: S603 — the policy's own words, and no shell
            words,
            cwd=folder,
            env=variables,
            stdin=subprocess.PIPE,
            stdout=answers,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise CannotTell(f"it cannot be started: {type(error).__name__}") from error


def end(program: subprocess.Popen[bytes]) -> None:
    """Kill a program and its group, unless it has ended."""
    if program.poll() is None:
        _kill_group(program)


def _kill_group(program: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(program.pid, signal.SIGKILL)


def close(program: subprocess.Popen[bytes]) -> None:
    """End a program and let go of it."""
    end(program)
    with suppress(OSError), program:
        pass


def environment() -> dict[str, str]:
    """The variables that a program gets."""
    return {name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith("LC_")}


_PASSED_ON: Final = frozenset(
    {"HOME", "LANG", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV"}
)
"""All others stay here."""
