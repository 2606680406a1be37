"""Waiting for what another thread or process is about to do."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

WITHIN_S: Final = 20.0
"""Longer than anything takes that happens at all."""


def eventually(ask: Callable[[], T], *, until: Callable[[T], bool]) -> T:
    """Ask again and again until the answer holds; return it. Raises AssertionError where it never does."""
    give_up_at = time.monotonic() + WITHIN_S
    while not until(answer := ask()):
        assert time.monotonic() < give_up_at, answer
        time.sleep(0.01)
    return answer
