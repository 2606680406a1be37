"""The gateway's own key for the provider: out of the environment, or out of a file that nobody else may read."""

import asyncio
import logging
import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tierwise.errors import UnsafeKey

KEY: Final = "ANTHROPIC_API_KEY"
KEY_FILE: Final = "ANTHROPIC_API_KEY_FILE"
OPENAI_KEY: Final = "OPENAI_API_KEY"

LOOK_EVERY_S: Final = 1.0

log = logging.getLogger("tierwise.gateway")


def key_of(environment: Mapping[str, str], variable: str = KEY) -> tuple[str | None, Path | None]:
    """Return the gateway's key, and the file that it is in; None for what there is not.

    Args:
        environment: where they are named.
        variable: holds the key; with `_FILE` behind it, it names the file.

    Raises:
        UnsafeKey: the file may be read by others or cannot be read, what it holds is no key, or there are two.
    """
    file_variable = f"{variable}_FILE"
    key = environment.get(variable, "").strip() or None
    name = environment.get(file_variable, "").strip()
    if not name:
        return None if key is None else _checked(key, variable), None
    if key is not None:
        raise UnsafeKey(where=file_variable, why=f"is set, and {variable} too", fix="keep one of the two")
    path = Path(name)
    return read_key(path), path


def read_key(path: Path) -> str:
    """Read a key out of a file.

    Raises:
        UnsafeKey: others may read it, it cannot be read, or what it holds is no key.
    """
    where = f"the key file {path}"
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # a pipe would never open
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise UnsafeKey(where=where, why="is no regular file", fix="write the key into one")
            if found.st_mode & 0o077:
                mode = stat.S_IMODE(found.st_mode)
                raise UnsafeKey(
                    where=where, why=f"may be read by others (mode {mode:04o})", fix=f"chmod 600 {path}"
                )
            text = file.read(_LONGEST).decode("latin-1")
    except OSError as error:
        raise UnsafeKey(
            where=where,
            why=f"cannot be read: {error.strerror or error}",
            fix="check its name, and whose it is",
        ) from error
    return _checked(text.strip(), where)


class KeyFile:
    """Follows a file of a key, so that a key is changed without a restart."""

    def __init__(self, path: Path, key: str | None, put: Callable[[str], None]) -> None:
        """Hand each key of `path` that is not `key`, the one in use, to `put`."""
        self._path = path
        self._key = key
        self._put = put
        self._stamp: tuple[int, ...] | None = ()

    async def watch(self) -> None:
        """Look at the file now, and again and again, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    def look(self) -> None:
        """Take a new key over if the file has changed; a bad file leaves the key as it was."""
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            key = read_key(self._path)
        except UnsafeKey as error:
            log.error("the provider's key stays as it was: %s", error)  # noqa: TRY400 — no traceback: the sentence is the news
            return
        if key != self._key:
            self._key = key
            self._put(key)
            log.info("the provider's key is another now: %s", self._path)


_LONGEST: Final = 4096
_PRINTABLE: Final = re.compile(r"[!-~]{1,1000}")


def _checked(key: str, where: str) -> str:
    """The key, if it can stand in a header."""
    if _PRINTABLE.fullmatch(key):
        return key
    raise UnsafeKey(
        where=where, why="holds no key: a key is one line of plain letters", fix="check what it holds"
    )


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode
