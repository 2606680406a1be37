"""Editing a policy file: single values are replaced where they stand, and every other byte stays.

What comes out is parsed, and must say what the old text says but for those values: an edit that would say more, or
something else, is not made.
"""

import os
import tempfile
import tomllib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Final

from tierwise.config.lines import Path, dotted, value_spans
from tierwise.config.policy import parse_book
from tierwise.errors import PolicyNotWritten

MARK: Final = "# audit: "
"""How a remark of an edit begins: the next edit of the same value replaces it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """Another text for one key."""

    path: Path
    value: str
    remarks: tuple[str, ...] = ()
    """Sentences that are to stand above it, as comments."""


def edited(text: str, edits: Iterable[Edit], *, file: str) -> str:
    """Return the text with other values, and remarks above their lines.

    Args:
        text: of the policy.
        edits: of keys that are there and hold a text.
        file: its name, for messages.

    Raises:
        PolicyNotWritten: a value cannot be replaced without changing something else.
        PolicyError: the policy would not load.
    """
    for edit in edits:
        changed = _replaced(text, edit, file)
        remarked = _remarked(changed, edit)
        text = remarked if _says(remarked, changed) else changed
    parse_book(text, file=file)
    return text


def write_policy(file: FilePath, *, before: str, after: str) -> None:
    """Put a new text in a policy file's place, at once and with its permissions.

    A link stays one: what it leads to is replaced.

    Args:
        file: the policy.
        before: what it must still say.
        after: what it is to say.

    Raises:
        PolicyNotWritten: it was changed meanwhile.
        OSError: it cannot be written; it is as it was.
    """
    target = file.resolve()
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as temporary:
            temporary.write(after.encode())
            temporary.flush()
            os.fsync(temporary.fileno())
        _take_over_owner(FilePath(name), target)
        if target.read_bytes() != before.encode():
            raise PolicyNotWritten(file=str(file), why="it was changed meanwhile; look at the change again")
        FilePath(name).replace(target)
    except BaseException:
        FilePath(name).unlink(missing_ok=True)
        raise


def _take_over_owner(new: FilePath, old: FilePath) -> None:
    """Give a file the permissions of another, and its owner where that is allowed."""
    stat = old.stat()
    if (stat.st_uid, stat.st_gid) != (os.getuid(), os.getgid()):
        with suppress(PermissionError):
            os.chown(new, stat.st_uid, stat.st_gid)
    new.chmod(stat.st_mode & 0o7777)


def _replaced(text: str, edit: Edit, file: str) -> str:
    """The text with the value; everything else in it must say the same."""
    span = value_spans(text).get(edit.path)
    if span is not None:
        begin, end = span
        changed = f"{text[:begin]}{_quoted(edit.value)}{text[end:]}"
        wanted = _with_value(_parsed(text), edit)
        if wanted is not None and _parsed(changed) == wanted:
            return changed
    raise PolicyNotWritten(file=file, why=f"{dotted(edit.path)} cannot be replaced by itself")


def _remarked(text: str, edit: Edit) -> str:
    """The text with remarks above the line of the value, in place of earlier ones."""
    begin, _ = value_spans(text)[edit.path]
    lines = text.split("\n")
    place = text.count("\n", 0, begin)
    line = lines[place]
    indent = line[: len(line) - len(line.lstrip())]
    ending = "\r" if line.endswith("\r") else ""
    first = place
    while first and lines[first - 1].lstrip().startswith(MARK):
        first -= 1
    remarks = [f"{indent}{MARK}{remark}{ending}" for remark in edit.remarks]
    return "\n".join([*lines[:first], *remarks, *lines[place:]])


def _says(text: str, other: str) -> bool:
    return _parsed(text) == _parsed(other)


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError:
        return None


def _with_value(document: dict[str, Any] | None, edit: Edit) -> dict[str, Any] | None:
    table: Any = document
    *above, name = edit.path
    for part in above:
        table = table[part]
    table[name] = edit.value
    return document


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
