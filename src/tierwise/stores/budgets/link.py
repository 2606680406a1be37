"""One connection to a Valkey: checked when it is made, given up at its first failure, never mended behind our back.

A server that was restarted, or another that took its place, is known by its run id, which is read here before
anything else is asked.
"""

import os
from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeAlias, cast

from tierwise.errors import BudgetStoreUnavailable, BudgetStoreUnfit, MissingExtra
from tierwise.stores.budgets.address import Address

try:
    from redis import connection as wires
    from redis.exceptions import AuthenticationError, AuthorizationError, RedisError
except ImportError as error:
    raise MissingExtra(package="redis", extra="valkey") from error

TIMEOUT_S: Final = 1.0
"""Longest silence of a Valkey, in seconds: what it does takes milliseconds."""

Word: TypeAlias = str | bytes | int


class _Wire(Protocol):
    """What is used of the client's connection."""

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def pack_commands(self, commands: Sequence[Sequence[Word]]) -> list[bytes]: ...
    def send_packed_command(self, command: list[bytes]) -> None: ...
    def read_response(self) -> Any: ...


class Link:
    """A connection, for one thread at a time."""

    def __init__(self, address: Address, *, timeout_s: float = TIMEOUT_S) -> None:
        """Connect, enter, and look at the server.

        Raises:
            BudgetStoreUnavailable: it cannot be reached now.
            BudgetStoreUnfit: it refuses the password, or forgets keys when its memory is full.
        """
        self._address = address
        self._wire = _wire(address, timeout_s)
        try:
            self._wire.connect()
        except (AuthenticationError, AuthorizationError) as error:
            raise BudgetStoreUnfit(address=address.text, why=str(error)) from error
        except (RedisError, OSError) as error:
            raise self._broken(error) from error
        facts = _facts(self.ask(("INFO", "server"), ("INFO", "memory")))
        self.run_id = facts.get("run_id", "")
        """Names the server's process."""
        policy = facts.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            self.close()
            why = f"its maxmemory-policy is {policy}, which forgets money: set it to noeviction"
            raise BudgetStoreUnfit(address=address.text, why=why)

    def ask(self, *commands: Sequence[Word]) -> list[Any]:
        """Send commands together and return their replies.

        Raises:
            BudgetStoreUnavailable: one failed. What was sent may have been done; the connection is closed.
        """
        try:
            self._wire.send_packed_command(self._wire.pack_commands(commands))
            return [self._wire.read_response() for _ in commands]
        except (RedisError, OSError) as error:
            raise self._broken(error) from error

    def ask_one(self, *words: Word) -> Any:
        """Send one command and return its reply.

        Raises:
            BudgetStoreUnavailable: as `ask`.
        """
        return self.ask(words)[0]

    def scan(self, pattern: str) -> list[str]:
        """Return the keys that match a pattern, each once; what changes meanwhile may be there or not."""
        found: set[str] = set()
        cursor = b"0"
        while True:
            cursor, keys = self.ask_one("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
            found.update(key.decode() for key in keys)
            if cursor == b"0":
                return sorted(found)

    def close(self) -> None:
        """Let go of the connection."""
        self._wire.disconnect()

    def _broken(self, error: Exception) -> BudgetStoreUnavailable:
        self._wire.disconnect()
        return BudgetStoreUnavailable(address=self._address.text, why=str(error) or type(error).__name__)


def _wire(address: Address, timeout_s: float) -> _Wire:
    how: dict[str, Any] = {
        "db": address.db,
        "username": os.environ.get("TIERWISE_VALKEY_USER") or None,
        "password": os.environ.get("TIERWISE_VALKEY_PASSWORD") or None,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "protocol": 2,
        "driver_info": None,
    }
    kind: Any
    if address.path is not None:
        kind, how = wires.UnixDomainSocketConnection, {**how, "path": address.path}
    else:
        kind = wires.SSLConnection if address.tls else wires.Connection
        how = {**how, "host": address.host, "port": address.port}
    return cast("_Wire", kind(**how))


def _facts(sections: Sequence[bytes]) -> dict[str, str]:
    lines = b"\n".join(sections).decode().splitlines()
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {name: value.strip() for name, value in pairs}
