"""How a table is read: keys are taken by their description, and what does not fit is noted, not raised."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from tierwise.config.keys import TOP
from tierwise.config.kinds import NAME, Misfit, TextTable, plain_name
from tierwise.config.lines import Path, dotted, key_lines, line_of
from tierwise.config.tables import Key, Table
from tierwise.config.values import SECRET, as_list, as_table, shown
from tierwise.errors import PolicyProblem
from tierwise.names import nearest

T = TypeVar("T")

SECRET_KEY: Final = re.compile(
    r"(.*[-_])?(api[-_]?key|secret|secret[-_]key|passw(or)?d|authorization|credentials?)"
    r"|((auth|access|bearer|oauth|api|anthropic)[-_])*token",
    re.IGNORECASE,
)
"""Keys that would hold a credential."""


@dataclass(frozen=True, slots=True)
class Note:
    """One problem, before its line is looked up."""

    path: Path
    message: str
    fix: str | None


@dataclass(slots=True)
class Notes:
    """What is found wrong while a file is read, and what is only doubtful."""

    errors: list[Note] = field(default_factory=list[Note])
    warnings: list[Note] = field(default_factory=list[Note])

    def error(self, path: Path, message: str, fix: str | None = None) -> None:
        """Note what makes the policy unusable."""
        self.errors.append(Note(path, message, fix))

    def warn(self, path: Path, message: str, fix: str | None = None) -> None:
        """Note what is probably not meant."""
        self.warnings.append(Note(path, message, fix))


def located(notes: Sequence[Note], text: str) -> tuple[PolicyProblem, ...]:
    """Give each note its line in the text, and put them in the order of the file."""
    if not notes:
        return ()
    lines = key_lines(text)
    problems = [
        PolicyProblem(
            path=SECRET.sub("…", dotted(note.path)),
            line=line_of(note.path, lines),
            message=note.message,
            fix=note.fix,
        )
        for note in notes
    ]
    return tuple(sorted(problems, key=lambda problem: problem.line or 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One table of the file, while it is read."""

    table: Table
    path: Path
    values: Mapping[str, Any]
    notes: Notes

    def take(self, key: Key[T]) -> T | None:
        """Return the key's value; None where it is absent or does not fit, which is noted."""
        if key.name not in self.values:
            if key.required:
                self.notes.error(self.path, f"needs {key.name}", f"add {key.name} = {key.example}")
            return None
        value = key.kind.read(self.values[key.name])
        if isinstance(value, Misfit):
            self.notes.error((*self.path, key.name), value.message, value.fix or key.advice)
            return None
        return value

    def inner(self, *only: Table) -> Iterator["Section"]:
        """Open the tables inside this one, those that are there: all, or only some. Each is to be opened once."""
        for part in self.table.parts:
            if part.key in self.values and (not only or part in only):
                opened = section(part, (*self.path, part.key), self.values[part.key], self.notes)
                if opened is not None:
                    yield opened

    def take_table(self, key: Key[dict[str, object]]) -> Iterator[tuple[str, str]]:
        """Yield the entries of a table of free keys, those that fit."""
        kind = key.kind
        assert isinstance(kind, TextTable)
        for name, value in (self.take(key) or {}).items():
            text = kind.each.read(value)
            if isinstance(text, Misfit):
                self.notes.error((*self.path, key.name, name), text.message, text.fix)
            else:
                yield name, text


def section(table: Table, path: Path, value: object, notes: Notes) -> Section | None:
    """Open a table for reading and note the keys that it cannot have; None where the value is no table."""
    values = as_table(value)
    if values is None:
        notes.error(path, f"must be a table, not {shown(value)}", f"write {table.heading}")
        return None
    opened = Section(table=table, path=path, values=values, notes=notes)
    for name in opened.values:
        if name not in table.known:
            _note_stranger(name, opened)
    if table.needs_one_of and not opened.values.keys() & set(table.needs_one_of):
        notes.error(path, f"needs at least one of {', '.join(table.needs_one_of)}")
    return opened


def named_sections(
    table: Table, value: object, notes: Notes, *, path: Path = ()
) -> dict[str, Section | None]:
    """Open every table of a named family, by name, in the order of the file; `path` is of the table around it."""
    path = (*path, table.key)
    members = as_table(value)
    if members is None:
        notes.error(path, f"must be tables, not {shown(value)}", f"write {table.heading}")
        return {}
    for name in members:
        if not NAME.fullmatch(name):
            _note_bad_name((*path, name), name, notes)
    return {name: section(table, (*path, name), member, notes) for name, member in members.items()}


def listed_sections(table: Table, value: object, notes: Notes) -> list[Section | None]:
    """Open every table of a listed family, in the order of the file."""
    members = as_list(value)
    if members is None:
        notes.error((table.name,), f"must be a list of tables, not {shown(value)}", f"write {table.heading}")
        return []
    return [section(table, (table.name, index), member, notes) for index, member in enumerate(members)]


def _note_stranger(name: str, section: Section) -> None:
    path, notes = (*section.path, name), section.notes
    value = section.values[name]
    what = "table" if isinstance(value, dict | list) else "line"
    instead = dict(section.table.elsewhere).get(name)
    if instead is not None:
        notes.error(path, "is not a key here", instead)
    elif name in section.table.planned:
        notes.error(path, "is planned and not in this version", f"remove the {what}")
    elif SECRET_KEY.fullmatch(name):
        notes.error(path, "would hold a credential, and the policy is for everybody to read", _ENVIRONMENT)
    else:
        notes.error(path, "is not known", _meant(name, section.table))


_ENVIRONMENT: Final = "remove the line, and set ANTHROPIC_API_KEY in the environment"


def _meant(name: str, table: Table) -> str:
    close = nearest(name, table.known)
    if close is not None:
        return f"did you mean {close}?"
    where = "at the top" if table is TOP else f"in {table.heading}"
    return f"the keys {where} are {', '.join(table.known)}"


def _note_bad_name(path: Path, name: str, notes: Notes) -> None:
    plain = plain_name(name)
    fix = f"call it {plain}" if plain else None
    notes.error(path, "is not a name: names have small letters, digits and dashes only", fix)
