"""The gateway of the replayed days: the real one, in a process of its own, by the demo's clock.

Nothing but its clock is another one: where the audit looks at its evidence each minute, it does here whenever that
clock shows half an hour more, and when the demo says so on stdin. Upkeep goes on by the machine's seconds, and takes
the times of what it looks after from the clock. The end of stdin ends it.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tierwise.audit.acting import Acting
from tierwise.cli.child import Child, GatewayDidNotStart, child
from tierwise.cli.demo.clock import told_by
from tierwise.config import load_book
from tierwise.engine.autopilot import acting_of
from tierwise.gateway.messages import Parts
from tierwise.gateway.parts import Settings
from tierwise.gateway.server import serve

LOOK_US: Final = 1_800_000_000
"""How much later the clock is at the next look."""
GLANCE_S: Final = 0.02
"""How often the clock is read for that."""
IDLE_S: Final = 10.0
"""How long the pairs on their way are waited for: those that go as a batch take longer, and come another day."""


@dataclass(frozen=True, slots=True)
class Staged:
    """The gateway, as the demo has it."""

    child: Child

    @property
    def address(self) -> str:
        """Where it takes calls."""
        return self.child.address

    def look(self) -> None:
        """Have it finish its pairs, look at all evidence, and act on that. Raises GatewayDidNotStart if it is gone."""
        self.child.told.write("look\n")
        self.child.told.flush()
        if not self.child.said.readline():
            raise GatewayDidNotStart


@contextmanager
def staged_gateway(*, policy: Path, ledger: Path, upstream: str, clock: Path) -> Generator[Staged]:
    """Run the gateway by the clock in a file.

    Raises:
        GatewayDidNotStart: it ended before it took calls.
    """
    command = (sys.executable, "-m", __name__, *(str(path) for path in (policy, ledger, clock)), upstream)
    with child(command, ledger=ledger) as started:
        yield Staged(started)


def main(policy: str, ledger: str, clock: str, upstream: str) -> None:
    """Serve until stdin ends."""
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    now_us = told_by(Path(clock))
    looks = _Looks(now_us)
    settings = Settings(
        book=load_book(Path(policy)),
        policy_path=None,
        ledger=Path(ledger),
        port=0,
        upstream=upstream,
        clock=now_us,
        beside=(looks.by_the_clock, looks.when_told),
    )
    serve(replace(settings, book=settings.redirected(settings.book)), ready=_say)


class _Looks:
    """When the audit looks at its evidence: one look at a time."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self._lock = asyncio.Lock()

    async def by_the_clock(self, parts: Parts) -> None:
        """Look whenever the clock shows so much more."""
        looked_us = self._now_us()
        while True:
            await asyncio.sleep(GLANCE_S)
            if self._now_us() >= looked_us + LOOK_US:
                looked_us = self._now_us()
                await self._look(parts)

    async def when_told(self, parts: Parts) -> None:
        """Look whenever a line comes on stdin, and say so; end with it."""
        assert parts.auditor is not None
        await parts.auditor.ready.wait()
        while await asyncio.to_thread(sys.stdin.readline):
            with suppress(TimeoutError):
                async with asyncio.timeout(IDLE_S):
                    await parts.auditor.idle()
            await self._look(parts)
            _say("looked")
        os.kill(os.getpid(), signal.SIGTERM)

    async def _look(self, parts: Parts) -> None:
        assert parts.auditor is not None
        async with self._lock:
            await parts.auditor.look()
            parts.desk.acting = await asyncio.to_thread(_acting, parts)


def _acting(parts: Parts) -> Acting:
    with closing(parts.read()) as ledger:
        return acting_of(ledger, parts.desk.book.policy)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
