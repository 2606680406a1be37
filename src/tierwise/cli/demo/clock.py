"""The clock of the replayed days: a file that the demo moves, and that its gateway and its sandbox read."""

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Final

_WORD: Final = 8
"""Bytes: one whole number, which is written and read at once."""


def told_by(file: Path) -> Callable[[], int]:
    """Return what tells the time that the file holds, in microseconds since 1970 UTC."""
    with file.open("rb") as opened:
        words = memoryview(mmap.mmap(opened.fileno(), _WORD, access=mmap.ACCESS_READ)).cast("q")
    return lambda: words[0]


class StagedClock:
    """A clock that goes when it is moved."""

    def __init__(self, file: Path, *, at_us: int) -> None:
        """Make the file, at a time in microseconds since 1970 UTC."""
        self.file = file
        file.write_bytes(bytes(_WORD))
        with file.open("r+b") as opened:
            self._words = memoryview(mmap.mmap(opened.fileno(), _WORD)).cast("q")
        self.move(at_us)

    @property
    def now_us(self) -> int:
        """The time it shows."""
        return self._words[0]

    def move(self, at_us: int) -> None:
        """Show another time."""
        self._words[0] = at_us
