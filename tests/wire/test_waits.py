from datetime import UTC, datetime

import pytest

from tierwise.wire.waits import asked_wait_us

AT_US = int(datetime(2026, 11, 24, 12, 0, tzinfo=UTC).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("milliseconds", "seconds_or_date", "wait_us"),
    [
        (None, None, None),
        (None, b"2", 2_000_000),
        (None, b"0.5", 500_000),
        (b"250", b"2", 250_000),
        (b"soon", b"2", 2_000_000),
        (None, b"soon", None),
        (None, b"-1", None),
        (None, b"nan", None),
        (None, b"inf", None),
        (b"5", None, 5_000),
        (None, b"1e30", 366 * 86_400 * 1_000_000),
        (None, b"Tue, 24 Nov 2026 12:00:07 GMT", 7_000_000),
        (None, b"Tue, 24 Nov 2026 12:00:07 -0000", 7_000_000),
        (None, b"Tue, 24 Nov 2026 11:00:00 GMT", 0),
        (None, b"Tue, 99 Nov 2026 11:00:00 GMT", None),
    ],
)
def test_a_wait_is_milliseconds_seconds_or_a_date_and_else_unknown(
    milliseconds: bytes | None, seconds_or_date: bytes | None, wait_us: int | None
) -> None:
    assert asked_wait_us(milliseconds=milliseconds, seconds_or_date=seconds_or_date, at_us=AT_US) == wait_us
