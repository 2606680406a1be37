"""The shell's clock and ids: what the core is given as arguments."""

import itertools
import os
import time
from collections.abc import Callable


def now_us() -> int:
    """Microseconds since 1970 UTC."""
    return time.time_ns() // 1000


def call_ids() -> Callable[[], str]:
    """Return a maker of call ids: unique to this process's start, and sorted by their making."""
    prefix = f"c{now_us():014x}{os.urandom(5).hex()}"
    counter = itertools.count()
    return lambda: f"{prefix}{next(counter):08x}"
