"""How long a provider asks callers to wait before they try again.

`retry-after-ms` is milliseconds; `retry-after` is seconds or a date
(https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3).
"""

import math
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final


def asked_wait_us(*, milliseconds: bytes | None, seconds_or_date: bytes | None, at_us: int) -> int | None:
    """Return the wait that a reply asks for, in microseconds; None where it asks for none that can be read.

    Args:
        milliseconds: the header `retry-after-ms`, which wins.
        seconds_or_date: the header `retry-after`.
        at_us: when the reply came, in microseconds since 1970 UTC.
    """
    wait_us = _number_us(milliseconds, 1_000)
    if wait_us is None:
        wait_us = _number_us(seconds_or_date, 1_000_000)
    if wait_us is None and seconds_or_date is not None:
        return _until_us(seconds_or_date, at_us)
    return wait_us


_LONGEST_US: Final = 366 * 86_400 * 1_000_000
"""Longer than any wait that is meant."""


def _number_us(value: bytes | None, unit_us: int) -> int | None:
    try:
        number = float(value or b"")
    except ValueError:
        return None
    return round(min(number * unit_us, _LONGEST_US)) if number >= 0 and math.isfinite(number) else None


def _until_us(value: bytes, at_us: int) -> int | None:
    try:
        date = parsedate_to_datetime(value.decode("latin-1"))
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0, round(date.timestamp() * 1_000_000) - at_us)
