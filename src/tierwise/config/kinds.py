"""The kinds of value that the policy file holds: how each is read, what people call it, its JSON Schema."""

import json
import re
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, Generic, Protocol, TypeVar, cast
from urllib.parse import SplitResult, urlsplit

from tierwise.names import nearest

T_co = TypeVar("T_co", covariant=True)
WordT = TypeVar("WordT", bound=str)

MOST_TOKENS: Final = 10_000_000
"""More than any model can write, and little enough for every sum of costs."""

LONGEST_DURATION_S: Final = 366 * 86_400

SECRET: Final = re.compile(r"sk-ant-[\w-]{6,}")
"""What the provider's credentials look like."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """A value that is not of its key's kind."""

    message: str
    fix: str | None = None


class Kind(Protocol[T_co]):
    """What a key's value may be."""

    @property
    def noun(self) -> str:
        """What people call it, with its article: `a whole number`."""
        ...

    def read(self, value: object) -> T_co | Misfit:
        """Return what a value of TOML stands for."""
        ...

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        ...


def as_table(value: object) -> dict[str, Any] | None:
    """Return a value that is a table of TOML; None where it is none."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def as_list(value: object) -> list[Any] | None:
    """Return a value that is a list of TOML; None where it is none."""
    return cast("list[Any]", value) if isinstance(value, list) else None


def shown(value: object) -> str:
    """Write a value of the file for a message: short, and never a secret."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value) if abs(value) < 10**18 else "a huge number"
        case float():
            return str(value)
        case str():
            safe = SECRET.sub("…", value)
            return json.dumps(safe if len(safe) <= 60 else f"{safe[:57]}…", ensure_ascii=False)
        case dict():
            return "a table"
        case list():
            return "a list"
        case datetime():
            return "a date with a time"
        case date():
            return "a date"
        case _:
            return "a time"


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    noun: str = "true or false"

    def read(self, value: object) -> bool | Misfit:
        """Return the flag."""
        if isinstance(value, bool):
            return value
        quoted = isinstance(value, str) and value.lower() in {"true", "false"}
        return _misfit(self.noun, value, "take the quotes away" if quoted else None)

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Tokens:
    """A number of tokens, at least one."""

    noun: str = "a whole number of tokens"

    def read(self, value: object) -> int | Misfit:
        """Return the number."""
        if isinstance(value, int) and not isinstance(value, bool):
            return (
                value
                if 1 <= value <= MOST_TOKENS
                else _misfit(f"a whole number from 1 to {MOST_TOKENS:,}", value)
            )
        quoted = isinstance(value, str) and value.isdecimal()
        return _misfit(self.noun, value, "take the quotes away" if quoted else None)

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "integer", "minimum": 1, "maximum": MOST_TOKENS}


@dataclass(frozen=True, slots=True)
class Word(Generic[WordT]):
    """One word of a closed list."""

    words: tuple[WordT, ...]

    @property
    def noun(self) -> str:
        """The words, as they are written."""
        *first, last = (f'"{word}"' for word in self.words)
        return f"{', '.join(first)} or {last}" if first else last

    def read(self, value: object) -> WordT | Misfit:
        """Return the word."""
        for word in self.words:
            if value == word:
                return word
        close = nearest(value, self.words) if isinstance(value, str) else None
        return _misfit(self.noun, value, f'write "{close}"' if close else None)

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "enum": list(self.words)}


@dataclass(frozen=True, slots=True)
class Text:
    """A string that is not empty."""

    noun: str = "a string"

    def read(self, value: object) -> str | Misfit:
        """Return the string."""
        return value if isinstance(value, str) and value.strip() else _misfit(self.noun, value)

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "minLength": 1}


@dataclass(frozen=True, slots=True)
class Pattern:
    """A string in which `*` stands for any characters and `?` for one."""

    noun: str = "a pattern"

    def read(self, value: object) -> str | Misfit:
        """Return the pattern."""
        if not isinstance(value, str) or not value:
            return _misfit(self.noun, value)
        if "[" in value:
            return Misfit(
                f'cannot match "[": a pattern has only * and ?, and {shown(value)} has brackets',
                f"write {shown(value.replace('[', '?').replace(']', '?'))}",
            )
        return value

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "minLength": 1, "pattern": r"^[^\[]*$"}


@dataclass(frozen=True, slots=True)
class Duration:
    """A time such as `90s`, `15m`, `1h` or `2d`; read as seconds."""

    noun: str = 'a duration such as "90s", "15m" or "1h"'

    def read(self, value: object) -> int | Misfit:
        """Return the seconds."""
        if isinstance(value, int) and not isinstance(value, bool):
            return _misfit(
                self.noun, value, f'write its unit: "{value}s"' if 0 < value <= LONGEST_DURATION_S else None
            )
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            return _misfit(self.noun, value)
        seconds = int(match[1]) * _SECONDS[match[2]]
        return (
            seconds if 0 < seconds <= LONGEST_DURATION_S else _misfit("between one second and a year", value)
        )

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "pattern": f"^{_DURATION.pattern}$"}


@dataclass(frozen=True, slots=True)
class Day:
    """A date without a time."""

    noun: str = "a date such as 2026-12-01"

    def read(self, value: object) -> date | Misfit:
        """Return the date."""
        if type(value) is date:
            return value
        quoted = isinstance(value, str) and _DAY.fullmatch(value)
        return _misfit(self.noun, value, "take the quotes away" if quoted else None)

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "format": "date"}


@dataclass(frozen=True, slots=True)
class Amount:
    """An exact amount of US dollars, which is a string: a TOML number with a point is not exact."""

    noun: str = 'an amount in quotes such as "4.00"'

    def read(self, value: object) -> Decimal | Misfit:
        """Return the amount."""
        if isinstance(value, str) and _AMOUNT.fullmatch(value):
            return Decimal(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**6:
            return Decimal(value)
        plain = isinstance(value, float) and _AMOUNT.fullmatch(str(value))
        return _misfit(self.noun, value, f'put it in quotes: "{value}"' if plain else None)

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": ["string", "integer"], "pattern": f"^{_AMOUNT.pattern}$", "minimum": 0}


@dataclass(frozen=True, slots=True)
class Address:
    """An http or https address without credentials."""

    noun: str = "an http or https address"
    where_credentials_go: str = "the credentials belong in the environment"

    def read(self, value: object) -> str | Misfit:
        """Return the address, without a slash at its end."""
        if not isinstance(value, str):
            return _misfit(self.noun, value)
        if "@" in value:
            return Misfit("must not hold credentials", self.where_credentials_go)
        parts = _split(value)
        if parts is None:
            return _misfit(self.noun, value, None if "://" in value else "begin it with http:// or https://")
        if parts.query or parts.fragment:
            return Misfit("must end with its path: what follows ? or # would be lost")
        return value.rstrip("/")

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "pattern": r"^https?://[^/@\s?#][^@\s?#]*$"}


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table whose keys are free and whose values are all of one kind."""

    each: Kind[str]
    noun: str = "a table"

    def read(self, value: object) -> dict[str, object] | Misfit:
        """Return the table; its values are not read yet, so that each keeps its own place."""
        table = as_table(value)
        return _misfit(self.noun, value) if table is None else table

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "object", "additionalProperties": self.each.schema()}


_DURATION: Final = re.compile(r"([0-9]{1,9})(s|m|h|d)")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_AMOUNT: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,9})?")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _misfit(noun: str, value: object, fix: str | None = None) -> Misfit:
    return Misfit(f"must be {noun}, not {shown(value)}", fix)


def _split(address: str) -> SplitResult | None:
    """The parts of an http or https address; None where it is none."""
    try:
        parts = urlsplit(address)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts if usable and not any(map(str.isspace, address)) else None
