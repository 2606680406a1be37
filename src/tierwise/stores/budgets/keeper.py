"""The other thread of the shared balances: rebuilds them where they are lost, and looks after what the dead left.

It has a connection of its own, so that neither a long rebuilding nor a slow ledger holds up a batch.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from tierwise.errors import TierwiseError
from tierwise.stores.budgets.dead import Settle, settle_for_the_dead
from tierwise.stores.budgets.link import Link
from tierwise.stores.budgets.names import Names, run_id_of
from tierwise.stores.budgets.rebuild import Rebuilder, Truth
from tierwise.stores.budgets.timing import Timing

RETRY_S: Final = 0.5
LOOK_S: Final = 0.2
"""How often to look whether the gateway that rebuilds is still alive."""
FAREWELL_S: Final = 5.0

log = logging.getLogger("tierwise.budgets")


class _Closed(Exception):
    """The process ends."""


class Keeper:
    """Keeps the balances true to the ledger."""

    def __init__(
        self,
        connect: Callable[[], Link],
        names: Names,
        *,
        gateway: str,
        truth: Truth,
        timing: Timing,
        settle: Settle,
        is_first: Callable[[], bool],
    ) -> None:
        """Prepare; `start` starts.

        Args:
            connect: makes a connection.
            names: the keys.
            gateway: names this process among all that share the balances.
            truth: the ledger.
            timing: the times.
            settle: settles a reservation.
            is_first: whether this process has not seen any balances yet.
        """
        self.trouble: str | None = None
        """Why the last rebuilding failed; None where it did not."""
        self._connect = connect
        self._names = names
        self._gateway = gateway
        self._truth = truth
        self._timing = timing
        self._settle = settle
        self._is_first = is_first
        self._link: Link | None = None
        self._look_at = time.monotonic() + timing.look_s
        self._is_lost = threading.Event()
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tierwise-budgets-keeper", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def rebuild(self) -> None:
        """Rebuild the balances if they are still lost; returns at once."""
        self._is_lost.set()

    def close(self) -> None:
        """End, but do not wait long for a ledger that is being read."""
        self._is_closed.set()
        self._is_lost.set()
        self._thread.join(FAREWELL_S)

    def _run(self) -> None:
        while not self._is_closed.is_set():
            self._is_lost.wait(max(0.0, self._look_at - time.monotonic()))
            try:
                self._turn()
            except _Closed:
                break
            except TierwiseError as error:
                self._fail(str(error))
            except Exception as error:
                log.exception("the shared balances could not be looked after")
                self._fail(f"{type(error).__name__}: {error}")
        self._give_up_link()

    def _turn(self) -> None:
        """Rebuild if the balances are lost; else look after the dead, when it is time."""
        if self._is_lost.is_set():
            self._is_lost.clear()
            self._rebuild()
        link = self._link = self._link or self._connect()
        if self._look_at <= time.monotonic():
            self._look_at = time.monotonic() + self._timing.look_s
            settle_for_the_dead(
                link,
                self._names,
                truth=self._truth,
                settle=self._settle,
                never_sent_s=self._timing.grace_s + self._timing.alive_s,
            )
        self.trouble = None

    def _rebuild(self) -> None:
        """Rebuild, in the server that a new connection leads to: the old one may lead to one that was replaced."""
        if self._is_closed.is_set():
            raise _Closed
        self._give_up_link()
        link = self._link = self._connect()
        if not self._is_current(link) and not self._rebuilder(link).rebuild(is_first=self._is_first()):
            self._pause(LOOK_S)

    def _is_current(self, link: Link) -> bool:
        found = link.ask_one("GET", self._names.epoch)
        return found is not None and run_id_of(found.decode()) == link.run_id

    def _rebuilder(self, link: Link) -> Rebuilder:
        return Rebuilder(
            link=link,
            names=self._names,
            gateway=self._gateway,
            truth=self._truth,
            pause=self._pause,
            grace_s=self._timing.grace_s,
            beat_s=self._timing.beat_s,
        )

    def _pause(self, seconds: float) -> None:
        if self._is_closed.wait(seconds):
            raise _Closed

    def _fail(self, why: str) -> None:
        if self.trouble != why:
            log.error("%s", why)
        self.trouble = why
        self._give_up_link()
        self._is_closed.wait(RETRY_S)

    def _give_up_link(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
