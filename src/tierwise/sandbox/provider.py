"""What the sandbox remembers between requests: the bill, the prompt cache, threads, the rate limit, faults."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from tierwise.sandbox import faults
from tierwise.sandbox.bill import Ledger
from tierwise.sandbox.cache import Cache, Split
from tierwise.sandbox.faults import NO_FAULT, Fault
from tierwise.sandbox.limits import Limit
from tierwise.sandbox.replies import Ask, World
from tierwise.sandbox.threads import Threads
from tierwise.sandbox.tokens import Block


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the sandbox behaves; nothing here changes what a reply says or costs."""

    rpm: int | None = None
    """Requests a minute before a 429; None for no limit."""
    latency_seconds: float = 0.0
    """Before every reply."""
    event_gap_seconds: float = 0.0
    """Before every event of a stream."""
    now: Callable[[], float] = time.time
    """The clock, in seconds since the epoch: the prompt cache, threads and the rate limit go by it."""


class Provider:
    """The state that requests share. One event loop owns it."""

    def __init__(self, world: World, settings: Settings) -> None:
        """Answer from `world`, with nothing remembered."""
        self.world = world
        self.settings = settings
        self.ledger = Ledger()
        self.limit = Limit(rpm=settings.rpm, now=settings.now)
        self.threads = Threads()
        self._cache = Cache()
        self._strikes: dict[tuple[str, str], int] = {}

    def reset(self) -> None:
        """Forget every call, cached prompt and thread, the requests of the last minute and the faults played."""
        self.ledger.reset()
        self.limit.clear()
        self._cache.clear()
        self.threads.clear()
        self._strikes.clear()

    def read_cache(self, prompt: list[Block], ask: Ask) -> Split:
        """Divide a prompt by what the cache holds, and remember it. Raises ApiError (400) for wrong markers."""
        return self._cache.split(
            prompt,
            ask.model,
            length=ask.prompt_tokens,
            auto=ask.body.get("cache_control"),
            at=self.settings.now(),
        )

    def fault_of(self, asked: str, text: str) -> Fault:
        """The fault to play, unless it has had its turns. Raises ApiError (400) for an unknown one."""
        if not asked:
            return NO_FAULT
        fault = faults.parse(asked)
        if fault.times is None:
            return fault
        strikes = self._strikes.get((asked, text), 0)
        self._strikes[asked, text] = strikes + 1
        return fault if strikes < fault.times else NO_FAULT
