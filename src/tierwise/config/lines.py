"""Where each key of a TOML text stands: the parser of the standard library gives values and no lines.

The scanner trusts a text that has been parsed already: it only looks for keys, and steps over values. On any
other text it finds what it can and stops.
"""

import re
from bisect import bisect_right
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, TypeAlias

Path: TypeAlias = tuple[str | int, ...]
"""The keys that lead to a value, from the top; an int is the index in an array, from 0."""


def key_lines(text: str) -> Mapping[Path, int]:
    """Return the line, from 1, on which each table and each key of the text first appears."""
    scanner = _Scanner(text)
    with suppress(_Lost, RecursionError):
        scanner.document()
    return scanner.found


def value_spans(text: str) -> Mapping[Path, tuple[int, int]]:
    """Return where the value of each key of the text begins and ends: offsets into it."""
    scanner = _Scanner(text)
    with suppress(_Lost, RecursionError):
        scanner.document()
    return scanner.spans


def line_of(path: Path, lines: Mapping[Path, int]) -> int | None:
    """Return the line of a key, else of the nearest table around it; None where the text has neither."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path)


def dotted(path: Path) -> str:
    """Write a path as people read it: `match[0].headers.x-team`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE.fullmatch(part) else f'"{part}"')
    return text


_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_GAP: Final = re.compile(r"[ \t]*")
_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_STRING: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR: Final = re.compile(r"[^,\]}\n#]+")
_ESCAPE: Final = re.compile(r"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)")
_ESCAPED: Final = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r"}


class _Lost(Exception):
    """The text is not TOML."""


class _Scanner:
    def __init__(self, text: str) -> None:
        self.found: dict[Path, int] = {}
        self.spans: dict[Path, tuple[int, int]] = {}
        self._text = text
        self._at = 0
        self._newlines = [match.start() for match in re.finditer("\n", text)]
        self._last: dict[Path, int] = {}  # index of the newest element of each array of tables

    def document(self) -> None:
        table: Path = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._takes("[["):
                table = self._new_element(self._key())
            elif self._takes("["):
                table = self._step(self._key())
            else:
                self._pair(table)
                self._skip(_BLANK)
                continue
            self._skip(_GAP)
            if not (self._takes("]]") or self._takes("]")):
                raise _Lost
            self._skip(_BLANK)

    def _new_element(self, keys: list[tuple[str, int]]) -> Path:
        name, line = keys.pop()
        array = (*self._step(keys), name)
        self.found.setdefault(array, line)
        self._last[array] = self._last.get(array, -1) + 1
        element = (*array, self._last[array])
        self.found[element] = line
        return element

    def _step(self, keys: list[tuple[str, int]], base: Path = ()) -> Path:
        """Go down from a table, into the newest element of each array of tables on the way."""
        for name, line in keys:
            base = (*base, name)
            self.found.setdefault(base, line)
            if base in self._last:
                base = (*base, self._last[base])
        return base

    def _pair(self, table: Path) -> None:
        path = self._step(self._key(), table)
        self._skip(_GAP)
        if not self._takes("="):
            raise _Lost
        self._skip(_GAP)
        begin = self._at
        self._value(path)
        self.spans[path] = (begin, self._at)

    def _key(self) -> list[tuple[str, int]]:
        parts = [self._part()]
        self._skip(_GAP)
        while self._takes("."):
            parts.append(self._part())
            self._skip(_GAP)
        return parts

    def _part(self) -> tuple[str, int]:
        self._skip(_GAP)
        line = bisect_right(self._newlines, self._at - 1) + 1
        if self._text.startswith(('"', "'"), self._at):
            return _unquoted(self._token(_STRING)), line
        return self._token(_BARE), line

    def _value(self, path: Path) -> None:
        if self._takes("["):
            self._array(path)
        elif self._takes("{"):
            self._inline_table(path)
        elif self._text.startswith(('"', "'"), self._at):
            self._token(_STRING)
        else:
            self._token(_SCALAR)

    def _array(self, path: Path) -> None:
        index = 0
        self._skip(_BLANK)
        while not self._takes("]"):
            self.found[(*path, index)] = bisect_right(self._newlines, self._at - 1) + 1
            self._value((*path, index))
            index += 1
            self._skip(_BLANK)
            self._takes(",")
            self._skip(_BLANK)

    def _inline_table(self, path: Path) -> None:
        self._skip(_BLANK)
        while not self._takes("}"):
            self._pair(path)
            self._skip(_BLANK)
            self._takes(",")
            self._skip(_BLANK)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _takes(self, mark: str) -> bool:
        taken = self._text.startswith(mark, self._at)
        self._at += len(mark) if taken else 0
        return taken

    def _token(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise _Lost
        self._at = match.end()
        return match.group()


def _unquoted(token: str) -> str:
    if token[0] == "'":
        return token[1:-1]
    return _ESCAPE.sub(_unescaped, token[1:-1])


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    if len(code) > 1:
        return chr(int(code[1:], 16))
    return _ESCAPED.get(code, code)
