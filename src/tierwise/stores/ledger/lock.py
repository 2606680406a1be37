"""One process at a time holds the budgets of a ledger, where their balances are in its memory.

For a file, the lock is the operating system's, on a file beside it: it ends with its process, however that ends. For
a database it is that server's, and ends with the connection that holds it.
"""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from tierwise.errors import LedgerInUse, LedgerUnavailable
from tierwise.stores.ledger.opening import is_shared, need_psycopg, shown


@contextmanager
def budgets_held(ledger: Path | str) -> Generator[None]:
    """Hold the budgets of a ledger.

    Raises:
        LedgerInUse: another process holds them.
        LedgerUnavailable: the database cannot be reached, or the file beside the ledger not be written.
    """
    if is_shared(ledger):
        need_psycopg()
        from tierwise.stores.ledger import postgres_lock  # noqa: PLC0415 — an optional extra

        with postgres_lock.budgets_held(str(ledger), shown(ledger)):
            yield
        return
    with _file_held(Path(f"{ledger}.lock"), str(ledger)):
        yield


@contextmanager
def _file_held(lock: Path, ledger: str) -> Generator[None]:
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LedgerUnavailable(path=str(lock), why=error.strerror or str(error)) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            raise LedgerInUse(path=ledger, holder=holder) from error
        with suppress(OSError):  # the disk is full: the lock holds, without a name
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(descriptor)
