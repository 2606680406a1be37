"""The kinds of address that the policy file holds: where something is, and never who may enter."""

import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from tierwise.config.kinds import Misfit, misfit
from tierwise.config.values import as_list


@dataclass(frozen=True, slots=True)
class Address:
    """An http or https address without credentials."""

    noun: str = "an http or https address"
    where_credentials_go: str = "set ANTHROPIC_API_KEY in the environment"
    whole: bool = False
    """Whether it is used as it stands, with a query and a slash at its end; else paths are put behind it."""

    def read(self, value: object) -> str | Misfit:
        """Return the address; without a slash at its end, where paths are put behind it."""
        if not isinstance(value, str):
            return misfit(self.noun, value)
        if "@" in value:
            return Misfit("must not hold credentials", self.where_credentials_go)
        parts = _split(value)
        if parts is None:
            return misfit(self.noun, value, None if "://" in value else "begin it with http:// or https://")
        if self.whole:
            return Misfit("must end before the #") if parts.fragment else value
        if parts.query or parts.fragment:
            return Misfit("must end with its path: what follows ? or # would be lost")
        return value.rstrip("/")

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        end = r"[^@\s#]*" if self.whole else r"[^@\s?#]*"
        return {"type": "string", "pattern": rf"^https?://[^/@\s?#]{end}$"}


@dataclass(frozen=True, slots=True)
class Addresses:
    """A list of such addresses."""

    each: Address

    @property
    def noun(self) -> str:
        """What people call it."""
        return "a list of http or https addresses"

    def read(self, value: object) -> tuple[str, ...] | Misfit:
        """Return the addresses, in their order."""
        listed = as_list(value)
        if listed is None:
            return misfit(self.noun, value)
        found: list[str] = []
        for item in listed:
            address = self.each.read(item)
            if isinstance(address, Misfit):
                return address
            found.append(address)
        return tuple(found)

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "array", "items": self.each.schema()}


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """The address of a Valkey or a Redis, without credentials."""

    noun: str = 'an address such as "valkey://valkey:6379"'

    def read(self, value: object) -> str | Misfit:
        """Return the address."""
        if not isinstance(value, str):
            return misfit(self.noun, value)
        if "@" in value or "password" in value.lower():
            return Misfit("must not hold credentials", _VALKEY_FROM_ENVIRONMENT)
        if _STORE.fullmatch(value) and _has_port(value):
            return value
        return misfit(self.noun, value, _meant_store(value))

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "pattern": f"^({_STORE.pattern})$"}


_VALKEY_FROM_ENVIRONMENT: Final = "set TIERWISE_VALKEY_USER and TIERWISE_VALKEY_PASSWORD in the environment"
_STORE: Final = re.compile(
    r"(valkeys?|rediss?)://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[0-9]{0,4})?"
    r"|unix:///[^@\s?#]+(\?db=[0-9]{1,4})?"
)


def _split(address: str) -> SplitResult | None:
    """The parts of an http or https address; None where it is none."""
    try:
        parts = urlsplit(address)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts if usable and not any(map(str.isspace, address)) else None


def _has_port(address: str) -> bool:
    """Whether the port is one, where there is any."""
    try:
        return urlsplit(address).port != 0
    except ValueError:
        return False


def _meant_store(value: str) -> str:
    if value.startswith("/"):
        return "begin the path of a socket with unix://"
    if value.startswith("unix:"):
        return "write unix:///PATH, or unix:///PATH?db=DB"
    if "://" not in value:
        return "begin it with valkey://, or with valkeys:// for TLS"
    return "write valkey://HOST:PORT/DB, or valkeys://HOST:PORT/DB for TLS"
