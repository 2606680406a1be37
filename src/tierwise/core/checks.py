"""Checks: what every good reply of a task type satisfies. The policy says it, the shell asks it.

A check is asked of a reply's text. It may not be able to tell, which is neither a pass nor a failure.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

LIMIT_S: Final = 10
"""How long a check may take where the policy does not say, in seconds."""

TextKind: TypeAlias = Literal["json", "exact", "regex"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a function that checks is given."""

    text: str
    """All text of the reply, one block after the other. Thinking is not part of it."""


Quality: TypeAlias = bool | float | None
"""True and a number from 0.5 to 1 pass, False and a smaller one fail, None cannot tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRule:
    """The text itself decides."""

    kind: TextKind
    argument: str = ""
    """A pattern, a text, or the keys that the JSON object has, with commas between them."""


@dataclass(frozen=True, slots=True)
class Schema:
    """A JSON Schema decides."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program decides: it reads the text, and ends with 0 where it passes and with 1 where it fails."""

    words: tuple[str, ...]
    """The program and its arguments."""
    folder: str
    """Where it runs."""


@dataclass(frozen=True, slots=True)
class Function:
    """A Python function decides."""

    call: Callable[[Reply], Quality]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What every good reply of a task type satisfies."""

    written: str
    """As the policy has it."""
    version: str
    """Changes with what it asks: its evidence begins anew then."""
    rule: TextRule | Schema | Command | Function
    limit_s: int = LIMIT_S
    """How long it may take, in seconds; then it cannot tell."""
    files: tuple[str, ...] = ()
    """Files that are part of what it asks."""
