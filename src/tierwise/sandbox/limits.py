"""Requests a minute: the limit, and the headers that tell how much of it is left."""

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from tierwise.sandbox.errors import ApiError

HeaderList = list[tuple[bytes, bytes]]

ORGANIZATION: Final = b"00000000-0000-4000-8000-000000000000"


class Limit:
    """The requests of the last minute against a limit. One event loop owns it."""

    def __init__(self, *, rpm: int | None, now: Callable[[], float]) -> None:
        """Allow `rpm` requests a minute, or any number; `now` is in seconds."""
        self._rpm = rpm
        self._now = now
        self._times: deque[float] = deque()
        self._told: tuple[int, int] | None = None
        self._headers: HeaderList = []

    def admit(self) -> None:
        """Count a request. Raises ApiError (429) when it is one too many."""
        if self._rpm is None:
            return
        now = self._now()
        while self._times and self._times[0] <= now - 60:
            self._times.popleft()
        if len(self._times) >= self._rpm:
            wait = max(1, round(self._times[0] + 60 - now))
            raise ApiError(
                status=429,
                message=f"This request would exceed your rate limit of {self._rpm} requests per minute.",
                headers=((b"retry-after", str(wait).encode()),),
            )
        self._times.append(now)

    def clear(self) -> None:
        """Forget the requests so far."""
        self._times.clear()

    def headers(self) -> HeaderList:
        """The headers that every reply carries; the limits of tokens are never reached."""
        second, used = int(self._now()), len(self._times)
        if self._told != (second, used):
            self._told = (second, used)
            self._headers = _headers(self._rpm or _UNLIMITED_RPM, used, second)
        return self._headers


_UNLIMITED_RPM: Final = 1_000_000
_TOKEN_LIMIT: Final = b"100000000"


def _headers(rpm: int, used: int, second: int) -> HeaderList:
    reset = datetime.fromtimestamp(second + 60, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    headers = [
        (b"anthropic-organization-id", ORGANIZATION),
        (b"anthropic-ratelimit-requests-limit", str(rpm).encode()),
        (b"anthropic-ratelimit-requests-remaining", str(rpm - used).encode()),
        (b"anthropic-ratelimit-requests-reset", reset),
    ]
    for kind in (b"tokens", b"input-tokens", b"output-tokens"):
        headers += [
            (b"anthropic-ratelimit-%s-limit" % kind, _TOKEN_LIMIT),
            (b"anthropic-ratelimit-%s-remaining" % kind, _TOKEN_LIMIT),
            (b"anthropic-ratelimit-%s-reset" % kind, reset),
        ]
    return headers
