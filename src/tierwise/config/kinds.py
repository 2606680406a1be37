"""The kinds of value that the policy file holds: how each is read, what people call it, its JSON Schema."""

import json
import re
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final, Generic, Protocol, TypeVar, cast
from zoneinfo import ZoneInfo, available_timezones

from tierwise.config.values import SECRET, as_list, as_table, shown
from tierwise.names import nearest

T_co = TypeVar("T_co", covariant=True)
WordT = TypeVar("WordT", bound=str)

MOST_TOKENS: Final = 10_000_000
"""More than any model can write, and little enough for every sum of costs."""

LONGEST_DURATION_S: Final = 366 * 86_400

NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]*")
"""Names of tiers, task types and budgets: they stand in model names (`task-NAME`), headers and reports."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """A value that is not of its key's kind."""

    message: str
    fix: str | None = None


def misfit(noun: str, value: object, fix: str | None = None) -> Misfit:
    """Return that a value is not what it must be, which `noun` names."""
    return Misfit(f"must be {noun}, not {shown(value)}", fix)


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


def plain_name(text: str) -> str:
    """Return the name closest to a text; empty where there is none."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    noun: str = "true or false"

    def read(self, value: object) -> bool | Misfit:
        """Return the flag."""
        if isinstance(value, bool):
            return value
        quoted = isinstance(value, str) and value.lower() in {"true", "false"}
        return misfit(self.noun, value, "take the quotes away" if quoted else None)

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number between two bounds."""

    what: str = "tokens"
    """What is counted."""
    least: int = 1
    most: int = MOST_TOKENS

    @property
    def noun(self) -> str:
        """What people call it."""
        return f"a whole number of {self.what}"

    def read(self, value: object) -> int | Misfit:
        """Return the number."""
        if isinstance(value, int) and not isinstance(value, bool):
            bounds = f"a whole number from {self.least:,} to {self.most:,}"
            return value if self.least <= value <= self.most else misfit(bounds, value)
        quoted = isinstance(value, str) and value.isdecimal()
        return misfit(self.noun, value, "take the quotes away" if quoted else None)

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, slots=True)
class Word(Generic[WordT]):
    """One word of a closed list."""

    words: tuple[WordT, ...]

    @property
    def noun(self) -> str:
        """The words, as they are written."""
        return _named(self.words, "or")

    def read(self, value: object) -> WordT | Misfit:
        """Return the word."""
        for word in self.words:
            if value == word:
                return word
        close = nearest(value, self.words) if isinstance(value, str) else None
        return misfit(self.noun, value, f'write "{close}"' if close else None)

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "enum": list(self.words)}


@dataclass(frozen=True, slots=True)
class Words(Generic[WordT]):
    """Words of a closed list, each at most once, in the order in which they are tried."""

    words: tuple[WordT, ...]
    """The last of them ends every list."""

    @property
    def noun(self) -> str:
        """The words, as they are written."""
        return f"a list of {_named(self.words, 'and')}"

    def read(self, value: object) -> tuple[WordT, ...] | Misfit:
        """Return the words."""
        members = as_list(value)
        if members is None:
            return misfit(self.noun, value, f'write ["{value}"]' if value == self.words[-1] else None)
        words: list[WordT] = []
        for member in members:
            word = Word(self.words).read(member)
            if isinstance(word, Misfit):
                return word
            words.append(word)
        return self._in_order(words)

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        items = {"type": "string", "enum": list(self.words)}
        return {"type": "array", "items": items, "minItems": 1, "uniqueItems": True}

    def _in_order(self, words: list[WordT]) -> tuple[WordT, ...] | Misfit:
        if len(set(words)) < len(words):
            return Misfit("must have each word once", "remove the second of the two")
        last = self.words[-1]
        if words[-1:] != [last]:
            others = [word for word in words if word != last]
            return Misfit(f'must end with "{last}"', f"write {json.dumps([*others, last])}")
        return tuple(words)


@dataclass(frozen=True, slots=True)
class Percents:
    """Whole per cents, each once; read in rising order."""

    noun: str = "a list of whole per cents such as [80, 95]"

    def read(self, value: object) -> tuple[int, ...] | Misfit:
        """Return the per cents."""
        members = as_list(value)
        if members is None:
            alone = isinstance(value, int) and _is_percent(value)
            return misfit(self.noun, value, f"write [{value}]" if alone else None)
        for member in members:
            if not _is_percent(member):
                return Misfit(f"must have whole numbers from 1 to 100, not {shown(member)}")
        if len(set(members)) < len(members):
            return Misfit("must have each number once", f"write {sorted(set(members))}")
        return tuple(sorted(members))

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        items = {"type": "integer", "minimum": 1, "maximum": 100}
        return {"type": "array", "items": items, "uniqueItems": True}


@dataclass(frozen=True, slots=True)
class Name:
    """A name of small letters, digits and dashes."""

    noun: str = "a name"

    def read(self, value: object) -> str | Misfit:
        """Return the name."""
        if not isinstance(value, str):
            return misfit(self.noun, value)
        if NAME.fullmatch(value):
            return value
        plain = None if SECRET.search(value) else plain_name(value)
        return Misfit(
            f"{shown(value)} is not a name: names have small letters, digits and dashes only",
            f'write "{plain}"' if plain else None,
        )

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "pattern": f"^{NAME.pattern}$"}


@dataclass(frozen=True, slots=True)
class Zone:
    """The IANA name of a time zone that this machine knows; UTC is known everywhere."""

    noun: str = 'a time zone such as "Europe/Berlin"'

    def read(self, value: object) -> str | Misfit:
        """Return the name."""
        if value == "UTC":
            return "UTC"
        if not isinstance(value, str):
            return misfit(self.noun, value)
        if _ZONE.fullmatch(value) and _is_zone(value):
            return value
        return misfit(self.noun, value, _meant_zone(value))

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "pattern": f"^{_ZONE.pattern}$"}


@dataclass(frozen=True, slots=True)
class Text:
    """A string that is not empty."""

    noun: str = "a string"

    def read(self, value: object) -> str | Misfit:
        """Return the string."""
        return value if isinstance(value, str) and value.strip() else misfit(self.noun, value)

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "minLength": 1}


@dataclass(frozen=True, slots=True)
class Texts:
    """A string, or a list of them, none empty; read as a list."""

    noun: str = "a string or a list of strings"

    def read(self, value: object) -> tuple[str, ...] | Misfit:
        """Return the strings."""
        members = [value] if isinstance(value, str) else as_list(value)
        if not members or not all(isinstance(member, str) and member.strip() for member in members):
            return misfit(self.noun, value)
        return tuple(members)

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": ["string", "array"], "minLength": 1, "items": Text().schema(), "minItems": 1}


@dataclass(frozen=True, slots=True)
class Pattern:
    """A string in which `*` stands for any characters and `?` for one."""

    noun: str = "a pattern"

    def read(self, value: object) -> str | Misfit:
        """Return the pattern."""
        if not isinstance(value, str) or not value:
            return misfit(self.noun, value)
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
    least: str | None = None
    """The shortest; None is a second."""
    why_least: str | None = None
    """The fix for a shorter one: what to write, and why."""

    def read(self, value: object) -> int | Misfit:
        """Return the seconds."""
        if isinstance(value, int) and not isinstance(value, bool):
            return misfit(
                self.noun, value, f'write its unit: "{value}s"' if 0 < value <= LONGEST_DURATION_S else None
            )
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            return misfit(self.noun, value)
        seconds = int(match[1]) * _SECONDS[match[2]]
        if self.least is not None and seconds < cast("int", Duration().read(self.least)):
            return misfit(f'at least "{self.least}"', value, self.why_least)
        return (
            seconds if 0 < seconds <= LONGEST_DURATION_S else misfit("between one second and a year", value)
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
        return misfit(self.noun, value, "take the quotes away" if quoted else None)

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "format": "date"}


@dataclass(frozen=True, slots=True)
class Amount:
    """An exact amount of US dollars, which is a string: a TOML number with a point is not exact."""

    noun: str = 'an amount in quotes such as "4.00"'
    above_zero: bool = False
    """Whether 0 is refused."""

    def read(self, value: object) -> Decimal | Misfit:
        """Return the amount."""
        if isinstance(value, str) and _AMOUNT.fullmatch(value):
            return self._bounded(Decimal(value), value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**6:
            return self._bounded(Decimal(value), value)
        plain = isinstance(value, float) and _AMOUNT.fullmatch(str(value))
        return misfit(self.noun, value, f'put it in quotes: "{value}"' if plain else None)

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        some = "(?=.*[1-9])" if self.above_zero else ""
        return {
            "type": ["string", "integer"],
            "pattern": f"^{some}{_AMOUNT.pattern}$",
            "minimum": 1 if self.above_zero else 0,
        }

    def _bounded(self, amount: Decimal, value: object) -> Decimal | Misfit:
        return misfit("more than zero", value) if self.above_zero and not amount else amount


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table whose keys are free and whose values are all of one kind."""

    each: Kind[str]
    noun: str = "a table"

    def read(self, value: object) -> dict[str, object] | Misfit:
        """Return the table; its values are not read yet, so that each keeps its own place."""
        table = as_table(value)
        return misfit(self.noun, value) if table is None else table

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "object", "additionalProperties": self.each.schema()}


_DURATION: Final = re.compile(r"([0-9]{1,9})(s|m|h|d)")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_AMOUNT: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,9})?")
_ZONE: Final = re.compile(r"[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _named(words: tuple[str, ...], joint: str) -> str:
    *first, last = (f'"{word}"' for word in words)
    return f"{', '.join(first)} {joint} {last}" if first else last


def _is_percent(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 100


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # OSError: the name of a folder, or too long for a file
        return False
    return True


def _meant_zone(value: str) -> str:
    known = sorted(name for name in available_timezones() if _ZONE.fullmatch(name))
    if not known:
        return 'this machine has no time zones: install the package tzdata, or write "UTC"'
    close = nearest(value, known)
    return f'write "{close}"' if close else 'write a name such as "America/New_York", or "UTC"'
