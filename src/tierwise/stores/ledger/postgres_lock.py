"""The hold on the budgets of a ledger in PostgreSQL: a lock of the session, on a connection that does nothing else.

It ends with the connection. A server that goes away takes it along, and so the hold cannot be trusted as that on a
file can: where that is not good enough, the balances belong in a store that gateways share.
"""

from collections.abc import Generator
from contextlib import closing, contextmanager
from typing import Final

import psycopg

from tierwise.errors import LedgerInUse, LedgerUnavailable
from tierwise.stores.ledger.postgres_connection import connect

BUDGETS_LOCK: Final = 7_526_438_004
"""None of those in `postgres_schema`: whoever writes takes one of them."""


@contextmanager
def budgets_held(address: str, path: str) -> Generator[None]:
    """Hold the budgets of the ledger at `address`, which errors name as `path`.

    Raises:
        LedgerInUse: another session holds them.
        LedgerUnavailable: the database cannot be reached.
    """
    try:
        connection = connect(address, writing=True)
        row = connection.execute("SELECT pg_try_advisory_lock($1) AS granted", (BUDGETS_LOCK,)).fetchone()
    except psycopg.Error as error:
        raise LedgerUnavailable(path=path, why=str(error).partition("\n")[0]) from error
    with closing(connection):
        if row is None or not row["granted"]:
            raise LedgerInUse(path=path, holder="")
        yield
