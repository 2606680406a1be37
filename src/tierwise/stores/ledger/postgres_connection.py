"""A connection to PostgreSQL that finds out when nobody answers, and what its server is told at first."""

from typing import Any, Final, TypeVar, cast

import psycopg
from psycopg import conninfo
from psycopg.abc import PQGen
from psycopg.adapt import Loader
from psycopg.rows import DictRow, dict_row

PATIENCE_S: Final = 5.0
"""How long a write, or a new connection, may take, in seconds."""

READING: Final = "SELECT set_config('cursor_tuple_fraction', '1', false)"
"""Every row is going to be read: https://www.postgresql.org/docs/current/runtime-config-query.html"""

WRITING: Final = """
SELECT
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('statement_timeout', '4s', false),
    set_config('lock_timeout', '1s', false),
    set_config('idle_in_transaction_session_timeout', '60s', false),
    set_config(
        'synchronous_commit',
        CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END,
        false
    )
"""
"""The timeouts are shorter than `PATIENCE_S`, so that it is the server that gives up, and says why. With
`synchronous_commit` off it would acknowledge what a crash takes back; with any other value it flushes first:
https://www.postgresql.org/docs/current/runtime-config-wal.html#GUC-SYNCHRONOUS-COMMIT"""

_DEFAULTS: Final[dict[str, str]] = {
    "application_name": "tierwise",
    "client_encoding": "UTF8",
    "connect_timeout": str(int(PATIENCE_S)),
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": str(int(PATIENCE_S * 1000)),
}
"""libpq's words, where the address does not say otherwise:
https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS"""

T = TypeVar("T")


class Connection(psycopg.Connection[DictRow]):
    """Commits each statement by itself, outside of a transaction. Queries name parameters by number: `$1`, `$2`."""

    patience_s: float | None = None
    """How long each statement may take, in seconds; None: as long as the network holds."""

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Wait for the server, and no longer than `patience_s`."""
        return super().wait(gen, interval, self.patience_s if timeout is None else timeout)


def connect(address: str, *, writing: bool) -> Connection:
    """Connect.

    Args:
        address: as libpq reads it.
        writing: whether it has to be a server that takes writes: of several in the address, the first that does.

    Raises:
        psycopg.Error: whatever it is; the message does not hold the password.
    """
    connection = Connection.connect(
        _conninfo(address, {"target_session_attrs": "read-write"} if writing else {}),
        autocommit=True,
        row_factory=dict_row,
        cursor_factory=cast("type[psycopg.Cursor[DictRow]]", psycopg.RawCursor),
    )
    connection.server_cursor_factory = cast("type[psycopg.ServerCursor[DictRow]]", psycopg.RawServerCursor)
    connection.adapters.register_loader("numeric", _Whole)
    return connection


def _conninfo(address: str, more: dict[str, str]) -> str:
    try:
        asked = conninfo.conninfo_to_dict(address)
    except psycopg.Error:
        raise psycopg.OperationalError("its address is not written as PostgreSQL's are") from None
    if "@" in str(asked.get("host", "")):
        raise psycopg.OperationalError("its address has an @ within the password: write it as %40")
    return conninfo.make_conninfo("", **(_DEFAULTS | more | asked))


class _Whole(Loader):
    """Sums of integers, which PostgreSQL computes as `numeric`."""

    def load(self, data: Any) -> int:
        return int(bytes(data))
