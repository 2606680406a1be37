"""Reading a ledger: one SQL text for each question, whichever database holds the entries.

Queries are written for SQLite and name the few things that PostgreSQL writes otherwise by a function of their
`Dialect`. Both databases compute integers as integers.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

Record: TypeAlias = Mapping[str, Any]
"""One row, by column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What one database writes otherwise."""

    name: Literal["sqlite", "postgres"]
    position: str
    """The column of `entries` that grows with the order in which entries became durable."""
    each: str
    """Rows of the JSON list of texts in a column: `{}` stands for the column; the row's alias is `account`, its
    column `value`."""


class Reader(Protocol):
    """A ledger, opened for reading only. One thread at a time."""

    path: str
    """Where it is, for people: without a password."""

    @property
    def dialect(self) -> Dialect:
        """How its database writes what is not the same everywhere."""
        ...

    def rows(self, query: str, parameters: Sequence[object] = ()) -> Iterator[Record]:
        """Yield the rows of a query; each `?` stands for a parameter.

        Raises:
            LedgerUnavailable: the database cannot be read.
        """
        ...

    def snapshot(self) -> AbstractContextManager[None]:
        """Let all queries within see the ledger at one moment, while others write. May be nested.

        Raises:
            LedgerUnavailable: the database cannot be read.
        """
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...


class Writer(Reader, Protocol):
    """A ledger's derived tables, opened for writing."""

    def run(self, statement: str, parameters: Sequence[object] = ()) -> int:
        """Execute a statement and return how many rows it has changed; each `?` stands for a parameter.

        Raises:
            LedgerUnavailable: nothing was changed.
        """
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """Let what is run within happen whole or not at all, and let nobody write meanwhile."""
        ...
