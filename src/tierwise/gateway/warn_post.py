"""Warnings of budgets, posted to an address: in the background, each until it is taken or a minute is over."""

import asyncio
import logging
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import aiohttp

from tierwise.core.budgets import Crossing
from tierwise.engine.budgets import describe

log = logging.getLogger("tierwise.budgets")

WAITS_S: Final = (0, 1, 5, 25)
"""Pause before each try, in seconds."""
TIMEOUT_S: Final = 10
FAREWELL_S: Final = 2
"""How long the gateway's end waits for warnings that are not posted yet; they are in the log."""
MOST_WAITING: Final = 1_000
"""Warnings that wait at once; one more is told to the log alone."""


class WarnPost:
    """Posts warnings to one address, in order."""

    def __init__(self, url: str) -> None:
        """Post to `url`; `run` does the work."""
        self._url = url
        self._waiting: asyncio.Queue[Crossing] = asyncio.Queue(MOST_WAITING)

    def tell(self, crossing: Crossing) -> None:
        """Hand in a warning; it never waits."""
        if self._waiting.full():
            log.error("a warning was not posted: %d wait already", MOST_WAITING)
        else:
            self._waiting.put_nowait(crossing)

    async def run(self) -> None:
        """Post what is handed in, until cancelled."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session:
            while True:
                crossing = await self._waiting.get()
                await self._post(session, warning_body(crossing))
                self._waiting.task_done()

    async def drain(self) -> None:
        """Wait until all that was handed in is posted, or given up; not for long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await self._waiting.join()

    async def _post(self, session: aiohttp.ClientSession, body: dict[str, Any]) -> None:
        trouble = ""
        for wait_s in WAITS_S:
            await asyncio.sleep(wait_s)
            try:
                async with session.post(self._url, json=body, allow_redirects=False) as reply:
                    if reply.status < 300:
                        return
                    trouble = f"status {reply.status}"
            except (aiohttp.ClientError, OSError, ValueError) as error:
                trouble = type(error).__name__  # its text may hold the address, which may be a secret
        log.error("a warning was not taken by its address after %d tries: %s", len(WAITS_S), trouble)


def warning_body(crossing: Crossing) -> dict[str, Any]:
    """Return what is posted: stable names, amounts as exact strings, and a sentence in `text`."""
    account = crossing.account
    budget = account.budget
    ends = account.ends_us
    return {
        "type": "budget_warning",
        "text": describe(crossing),
        "budget": budget.name,
        "scope": budget.scope,
        "value": account.value or None,
        "window": budget.window,
        "window_ends_at": None
        if ends is None
        else datetime.fromtimestamp(ends // 1_000_000, UTC).isoformat(),
        "percent": crossing.percent,
        f"used_{budget.counts}": _plain(budget.counts, crossing.used_nanos),
        f"limit_{budget.counts}": _plain(budget.counts, budget.limit),
    }


def _plain(counts: str, value: int) -> str | int:
    return value if counts == "calls" else str(Decimal(value).scaleb(-9))
