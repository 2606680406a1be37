"""One process at a time holds the budgets of a ledger, for their balances are in its memory.

The lock is the operating system's, on a file beside the ledger: it ends with its process, however that ends.
"""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tierwise.errors import LedgerInUse


@contextmanager
def budgets_held(ledger_path: Path) -> Generator[None]:
    """Hold the budgets of a ledger.

    Raises:
        LedgerInUse: another process holds them.
        OSError: the file beside the ledger cannot be written.
    """
    descriptor = os.open(f"{ledger_path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            raise LedgerInUse(path=str(ledger_path), holder=holder) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(descriptor)
