"""A provider, a policy, and real processes of the command line."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pytest

from tierwise.config import starter_policy
from tierwise.sandbox.server import Running, running

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the machine's own keys, policies, proxies or terminal."""
    for name in list(os.environ):
        if name.startswith(("ANTHROPIC_", "TIERWISE_")) or name.lower() in PROXIES:
            monkeypatch.delenv(name)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """No command leaves a log behind that goes to the stderr of its test."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Running]:
    """A provider that speaks the wire, on loopback."""
    with running(seed=1) as provider:
        yield provider


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """The starter policy, where commands look for one."""
    path = tmp_path / "tierwise.toml"
    path.write_text(starter_policy(), encoding="utf-8")
    return path


@dataclass(frozen=True, slots=True)
class Served:
    """A gateway in a process of its own."""

    address: str
    process: subprocess.Popen[str]

    def stop(self) -> tuple[int, str]:
        """Send SIGTERM, wait for the end; return the exit code and what went to stderr."""
        self.process.terminate()
        _, told = self.process.communicate(timeout=60)
        return self.process.returncode, told


Serve: TypeAlias = Callable[..., Served]


@contextmanager
def started(*arguments: str) -> Generator[subprocess.Popen[str]]:
    """Run `tierwise` in a process; it is killed at the end of the block if it still runs."""
    with subprocess.Popen(
        [sys.executable, "-m", "tierwise", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `tierwise` with arguments, as often as a test likes."""
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(started(*arguments))


@pytest.fixture
def serve(start: Callable[..., subprocess.Popen[str]], policy: Path, sandbox: Running) -> Serve:
    """Start a gateway before the sandbox, on a free port, with the policy of the test."""

    def serve(*options: str) -> Served:
        assert policy.exists()
        process = start("serve", "--quiet", "--port", "0", "--upstream", sandbox.base_url, *options)
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://"), process.communicate(timeout=10)
        return Served(address, process)

    return serve
