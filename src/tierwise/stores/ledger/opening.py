"""Where a ledger is: a path names an SQLite file, an address `postgresql://…` a database."""

from importlib.util import find_spec
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import parse_qsl, urlencode

from tierwise.core.policy import Durability
from tierwise.errors import MissingExtra
from tierwise.stores.ledger import sqlite
from tierwise.stores.ledger.query import Reader, Writer
from tierwise.stores.ledger.writer import EntryStore

_SCHEMES: Final = ("postgresql://", "postgres://")
_SHOWN_PARAMETERS: Final = ("host", "hostaddr", "port", "dbname", "user", "service")


class Ledger(EntryStore, Writer, Protocol):
    """A ledger, open for entries and for its derived tables. One thread at a time."""


def is_shared(where: str | Path) -> bool:
    """Whether several machines can use the ledger at once: it is an address and not a file."""
    return str(where).startswith(_SCHEMES)


def shown(where: str | Path) -> str:
    """Return a ledger's place for people: an address without its password, a path as it is.

    What could be a password that was written wrongly is left out too.
    """
    if not is_shared(where):
        return str(where)
    scheme, _, rest = str(where).partition("://")
    rest, _, query = rest.partition("?")
    user, at, host = rest.rpartition("@")
    if not at and not _is_host(host):
        host = ""
    parameters = [(name, value) for name, value in parse_qsl(query) if name in _SHOWN_PARAMETERS]
    asked = f"?{urlencode(parameters, safe='/')}" if parameters else ""
    return f"{scheme}://{user.partition(':')[0]}{at}{host}{asked}"


def open_ledger(where: str | Path, *, durability: Durability = "kill") -> Ledger:
    """Open a ledger for writing; make it, or bring it to this version, where that is needed.

    Args:
        where: a file's path, or a database's address.
        durability: what entries survive. A database always has them on its disk before they count as durable.

    Raises:
        LedgerUnavailable: it cannot be opened, or is no ledger.
        LedgerTooNew: a newer Tierwise wrote it.
        MissingExtra: it is in PostgreSQL, and psycopg is not installed.
    """
    if is_shared(where):
        need_psycopg()
        from tierwise.stores.ledger import postgres  # noqa: PLC0415 — an optional extra

        return postgres.open_ledger(str(where), shown(where))
    return sqlite.open_ledger(where, durability=durability)


def read_ledger(where: str | Path) -> Reader:
    """Open a ledger for reading only.

    Raises:
        LedgerUnavailable: there is none, or it is no ledger of this version.
        LedgerTooNew: a newer Tierwise wrote it.
        MissingExtra: it is in PostgreSQL, and psycopg is not installed.
    """
    if is_shared(where):
        need_psycopg()
        from tierwise.stores.ledger import postgres  # noqa: PLC0415 — an optional extra

        return postgres.read_ledger(str(where), shown(where))
    return sqlite.read_ledger(where)


def need_psycopg() -> None:
    """Raise MissingExtra where psycopg is not installed."""
    if find_spec("psycopg") is None:
        raise MissingExtra(package="psycopg", extra="postgres")


def _is_host(text: str) -> bool:
    """Whether a text before the first `/` is hosts, with ports where there are any, and not a user and a password."""
    hosts = text.partition("/")[0].split(",")
    return all(port.isdigit() or not colon for _, colon, port in (host.rpartition(":") for host in hosts))
