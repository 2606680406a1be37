"""How a check of the policy becomes a value: each of its forms is read, and what it names is looked up, once."""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Final, TypeAlias

from tierwise.config import audit_keys as keys
from tierwise.config.functions import find_function, source_of
from tierwise.config.kinds import Misfit
from tierwise.config.reading import Section
from tierwise.config.values import shown
from tierwise.core.checks import LIMIT_S, Check, Command, Function, Schema, TextKind, TextRule
from tierwise.wire.schemas import canonical, problem_of


def read_check(quality: Section, folder: Path) -> Check | None:
    """Return the check of a table `quality`; None where it has none that can be used, which is noted.

    Args:
        quality: the table.
        folder: the policy's, which the check's file, program or module is looked for from.
    """
    words, limit_s = quality.take(keys.CHECK), quality.take(keys.CHECK_TIMEOUT)
    version = quality.take(keys.CHECK_VERSION)
    if words is None:
        for key in (keys.CHECK_TIMEOUT, keys.CHECK_VERSION):
            if key.name in quality.values and keys.CHECK.name not in quality.values:
                quality.notes.warn((*quality.path, key.name), "is not used: there is no check", "add check")
        return None
    form, _, argument = words[0].partition(":")
    read = _FORMS.get(form, _unknown)
    found = read(_Written(argument=argument, words=words, version=version, folder=folder))
    if isinstance(found, Misfit):
        quality.notes.error((*quality.path, keys.CHECK.name), found.message, found.fix)
        return None
    if version is not None and not isinstance(found.rule, Command | Function):
        path = (*quality.path, keys.CHECK_VERSION.name)
        quality.notes.warn(path, f"is not used: a {form} check is its own version", "remove the line")
    return replace(found, limit_s=limit_s or LIMIT_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """A check as it stands in the file."""

    argument: str
    """What follows the colon."""
    words: tuple[str, ...]
    version: str | None
    folder: Path

    @property
    def name(self) -> str:
        """How it is written."""
        return " ".join(self.words)


_Read: TypeAlias = Check | Misfit

_WAYS: Final = (
    'write "json", "json:KEY,KEY", "regex:PATTERN", "exact:TEXT", "schema:FILE", "command:PROGRAM" or '
    '"python:MODULE:FUNCTION"'
)


def _alone(read: Callable[[_Written], _Read]) -> Callable[[_Written], _Read]:
    """A form that is one word."""

    def alone(written: _Written) -> _Read:
        if len(written.words) > 1:
            return Misfit(
                "has more than one word, which only command: has", f"write {shown(written.words[0])}"
            )
        return read(written)

    return alone


@_alone
def _json(written: _Written) -> _Read:
    return _of_text(written, "json")


@_alone
def _exact(written: _Written) -> _Read:
    if not written.argument:
        return Misfit("names no text", 'write "exact:TEXT"')
    return _of_text(written, "exact")


@_alone
def _regex(written: _Written) -> _Read:
    if not written.argument:
        return Misfit("names no pattern", 'write "regex:PATTERN"')
    try:
        re.compile(written.argument)
    except (re.error, RecursionError, OverflowError) as error:
        return Misfit(f"is no pattern: {error}")
    return _of_text(written, "regex")


def _of_text(written: _Written, kind: TextKind) -> Check:
    rule = TextRule(kind=kind, argument=written.argument)
    return Check(written=written.name, version=written.name, rule=rule)


MOST_OF_SCHEMA: Final = 2**20
"""Bytes that a schema may have."""


@_alone
def _schema(written: _Written) -> _Read:
    if not written.argument:
        return Misfit("names no file", 'write "schema:FILE"')
    file = written.folder / written.argument
    try:
        text = file.read_bytes().decode("utf-8-sig")
        problem = problem_of(text) if len(text) <= MOST_OF_SCHEMA else "is larger than a megabyte"
    except FileNotFoundError:
        return Misfit(f"names no file: there is no {shown(str(file))}", _FROM_HERE)
    except (OSError, ValueError) as error:
        return Misfit(f"cannot be read: {shown(str(file))}: {_why(error)}")
    except ImportError:
        return Misfit("needs the package jsonschema", 'pip install "tierwise[schema]"')
    if problem is not None:
        return Misfit(f"cannot be used: {shown(written.argument)} {problem}")
    schema = canonical(text)
    return Check(
        written=written.name,
        version=f"schema:{_hash(schema.encode())}",
        rule=Schema(schema),
        files=(str(file),),
    )


_FROM_HERE: Final = "files are looked for from the policy's folder"


def _command(written: _Written) -> _Read:
    words = (written.argument, *written.words[1:])
    if not written.argument:
        return Misfit("names no program", 'write "command:PROGRAM", or ["command:PROGRAM", "ARGUMENT"]')
    if not _is_program(written.argument, written.folder):
        several = " " in written.argument.strip()
        fix = 'write ["command:PROGRAM", "ARGUMENT"]: no shell splits it' if several else _FROM_HERE
        return Misfit(f"finds no program {shown(written.argument)}", fix)
    files = tuple(file for file in (_own_file(word, written.folder) for word in words) if file is not None)
    try:
        asked = _hash(
            "\0".join(words).encode("utf-8", "surrogatepass"), *(file.read_bytes() for file in files)
        )
    except OSError as error:
        return Misfit(f"cannot be read: {_why(error)}")
    return Check(
        written=written.name,
        version=f"command:{written.version or asked}",
        rule=Command(words=words, folder=str(written.folder)),
        files=tuple(map(str, files)),
    )


def _is_program(word: str, folder: Path) -> bool:
    """Whether a word is a program's name on the path, or its place, which counts from the folder."""
    try:
        return shutil.which(str(folder / word) if "/" in word else word) is not None
    except ValueError:
        return False


def _own_file(word: str, folder: Path) -> Path | None:
    """The file in the policy's folder that a word names."""
    try:
        inside = not Path(word).is_absolute() and (folder / word).is_file()
    except (OSError, ValueError):
        return None
    return folder / word if inside else None


@_alone
def _python(written: _Written) -> _Read:
    module, _, name = written.argument.partition(":")
    if not module or not name:
        return Misfit("names no function", 'write "python:MODULE:FUNCTION"')
    found = find_function(module, name, written.folder)
    if isinstance(found, Misfit):
        return found
    source = written.version or source_of(module, name)
    if source is None:
        return Misfit("has no source that can be read, which would be its version", "add check_version")
    version = written.version or _hash(source.encode("utf-8", "surrogatepass"))
    return Check(written=written.name, version=f"python:{version}", rule=Function(found))


def _unknown(written: _Written) -> _Read:
    if written.words[0].startswith("json-schema:"):
        return Misfit("is no check", f"write {shown('schema:' + written.argument)}")
    return Misfit("is no check", _WAYS)


def _hash(*parts: bytes) -> str:
    digest = blake2b(digest_size=6)
    for part in parts:
        digest.update(b"%d:%b" % (len(part), part))
    return digest.hexdigest()


def _why(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "is not UTF-8 text"


_FORMS: Final[dict[str, Callable[[_Written], _Read]]] = {
    "json": _json,
    "exact": _exact,
    "regex": _regex,
    "schema": _schema,
    "command": _command,
    "python": _python,
}
