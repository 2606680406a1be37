"""How a table of the policy file and a key of it are described."""

from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

from tierwise.config.kinds import Kind

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key(Generic[T_co]):
    """One key of a table."""

    name: str
    kind: Kind[T_co]
    meaning: str
    """One or two sentences; Markdown."""
    example: str
    """A value, as TOML."""
    absent: str
    """What holds where the key is absent: a value as TOML, or a phrase; `required` where it may not be."""
    advice: str | None = None
    """The fix that goes with a value of another kind, where the kind itself knows none."""

    @property
    def required(self) -> bool:
        """Whether every table of its kind needs it."""
        return self.absent == REQUIRED


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table of the file, or one family of tables."""

    name: str
    """Its dotted name; empty for the top itself."""
    shape: Literal["top", "one", "named", "listed"]
    """one: `[name]`. named: any number of `[name.NAME]`. listed: any number of `[[name]]`."""
    meaning: str
    keys: tuple[Key[object], ...]
    example: str
    """A whole table, as TOML."""
    parts: tuple["Table", ...] = ()
    """The tables inside it."""
    needs_one_of: tuple[str, ...] = ()
    """Keys of which at least one must be there."""
    planned: tuple[str, ...] = ()
    """Keys of later versions: refused with a word about it, never accepted and ignored."""
    elsewhere: tuple[tuple[str, str], ...] = ()
    """Keys that people look for here, and what to do instead."""

    @property
    def key(self) -> str:
        """Its own key, in the table around it."""
        return self.name.rpartition(".")[2]

    @property
    def known(self) -> tuple[str, ...]:
        """Everything that may stand in it: its keys and the tables inside it."""
        return (*(key.name for key in self.keys), *(part.key for part in self.parts))

    @property
    def heading(self) -> str:
        """How its header is written."""
        return {
            "top": "top level",
            "one": f"[{self.name}]",
            "named": f"[{self.name}.NAME]",
            "listed": f"[[{self.name}]]",
        }[self.shape]


REQUIRED: Final = "required"
