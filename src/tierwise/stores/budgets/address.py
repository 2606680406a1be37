"""The address of a Valkey, as the policy file names it: where it is, and never who may enter."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

PORT: Final = 6379

_TLS: Final = {"valkey": False, "redis": False, "valkeys": True, "rediss": True}
"""Schemes, and whether they mean TLS."""

_FORMS: Final = "write valkey://HOST:PORT/DB, valkeys://HOST:PORT/DB for TLS, or unix:///PATH?db=DB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a Valkey listens."""

    text: str
    """As it was written."""
    host: str = ""
    port: int = PORT
    path: str | None = None
    """Of a Unix socket; then there is no host."""
    db: int = 0
    """Number of the database."""
    tls: bool = False
    """Whether to speak TLS, with the system's certificates."""


def parse_address(text: str) -> Address:
    """Parse `valkey://host:port/db`; `redis` is the same, `valkeys` and `rediss` speak TLS, `unix` names a socket.

    Raises:
        ValueError: it is no such address, or it holds a password; the message is a sentence that says what to write.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"is not an address: {error}; {_FORMS}") from error
    if "@" in parts.netloc:
        raise ValueError(
            "holds a user or a password: leave them out, and set TIERWISE_VALKEY_USER and TIERWISE_VALKEY_PASSWORD"
        )
    if parts.scheme == "unix":
        return _socket(text, path=unquote(parts.path), host=parts.netloc, query=parts.query)
    if parts.scheme not in _TLS or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"is not an address of a Valkey: {_FORMS}")
    return Address(
        text=text,
        host=parts.hostname,
        port=PORT if port is None else port,
        db=_database(parts.path.strip("/") or "0"),
        tls=_TLS[parts.scheme],
    )


def _socket(text: str, *, path: str, host: str, query: str) -> Address:
    if host or len(path) < 2:
        raise ValueError("names no absolute path of a socket: write unix:///PATH or unix:///PATH?db=DB")
    if query and not query.startswith("db="):
        raise ValueError(f"has an unknown {query!r} behind the path: write unix:///PATH?db=DB")
    return Address(text=text, path=path, db=_database(query.removeprefix("db=") or "0"))


def _database(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", text):
        raise ValueError(f"has the database {text!r}, which is no number: {_FORMS}")
    return int(text)
