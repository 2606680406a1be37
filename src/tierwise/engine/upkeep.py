"""What a gateway does beside its calls: it takes in what others tell the ledger, and lets go of what is over.

Each second, the settlements and top-ups that were written by hand or by another gateway reach the budgets, and the
acts of the audit, its own and others', the desk. Each minute, reservations of unknown cost that were kept for long
enough (items of Message Batches for as long as their results can be fetched) are posted as assumed, accounts of ended
windows are forgotten, and what texts' tokens and replies' lengths were is learned again. The ledger stays open; where
it cannot be read, it is opened again.
"""

import logging
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final, Protocol

from tierwise.core.ledger import Entry, Settled, ToppedUp
from tierwise.engine.autopilot import acting_of, follows_acts
from tierwise.engine.budgets import BudgetStore
from tierwise.engine.desk import Desk
from tierwise.errors import BudgetStoreError, LedgerError
from tierwise.stores.ledger.acts import count_acts
from tierwise.stores.ledger.batches import ITEMS_FOR_S
from tierwise.stores.ledger.learning import calibration, lengths
from tierwise.stores.ledger.query import Reader
from tierwise.stores.ledger.reservations import overdue, told_since

log = logging.getLogger("tierwise.upkeep")

TICK_S: Final = 1.0
ROUND_TICKS: Final = 60
"""Ticks between two rounds of what is done each minute."""
FAREWELL_S: Final = 5.0
"""How long an end waits for a ledger that is being read."""
FORGOTTEN_AFTER_S: Final = 3600
"""How long after its window an account is still held, beside the longest wait for money: no call takes as long from
its reading to its claim."""


class Forgetful(Protocol):
    """Balances that are held here, and can be forgotten."""

    def forget_ended(self, at_us: int) -> None:
        """Forget the accounts whose window has ended by a time."""
        ...


class Upkeep:
    """One thread that looks after a gateway's budgets."""

    def __init__(
        self,
        *,
        read: Callable[[], Reader],
        put: Callable[[Entry], None],
        position: int,
        budgets: BudgetStore,
        forgetful: Forgetful | None,
        desk: Desk,
        clock: Callable[[], int],
    ) -> None:
        """Begin with the next `start`.

        Args:
            read: opens the ledger for reading.
            put: hands an entry to the ledger.
            position: up to which entries of the ledger the budgets know what was told.
            budgets: the accounts.
            forgetful: the accounts, where this process holds them.
            desk: holds the policy in force, and is told of texts' tokens and replies' lengths.
            clock: tells microseconds since 1970 UTC.
        """
        self._read = read
        self._put = put
        self._position = position
        self._budgets = budgets
        self._forgetful = forgetful
        self._desk = desk
        self._clock = clock
        self._acts = -1
        """How many acts the desk knows."""
        self._reader: Reader | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tierwise-upkeep", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End the thread, but do not wait long for a ledger that is being read."""
        self._stop.set()
        if self._thread.ident is None:
            self._let_go()
        else:
            self._thread.join(FAREWELL_S)

    def tick(self) -> None:
        """Take in what was told since the last time."""
        with self._ledger() as ledger:
            self._position, told = told_since(ledger, self._position)
        for entry in told:
            try:
                self._tell(entry)
            except BudgetStoreError as error:  # the others are told all the same
                log.error("%s", error)  # noqa: TRY400 — no traceback: the sentence is the news

    def follow(self) -> None:
        """Tell the desk where acts send its task types, if any act or the policy is new."""
        policy = self._desk.book.policy
        if not follows_acts(policy):
            return
        with self._ledger() as ledger:
            number = count_acts(ledger)
            if number != self._acts or policy is not self._desk.acting.policy:
                self._desk.acting = acting_of(ledger, policy)
                self._acts = number

    def round(self) -> None:
        """Do what is done each minute."""
        policy = self._desk.book.policy
        now = self._clock()
        with self._ledger() as ledger:
            before_us = now - policy.keep_for_s * 1_000_000
            late = overdue(ledger, before_us, items_before_us=min(before_us, now - ITEMS_FOR_S * 1_000_000))
            if policy.prompt_bound == "calibrated":
                self._desk.calibration = calibration(ledger)
            if any(contract.on_truncation == "escalate" for contract in policy.contracts.values()):
                self._desk.lengths = lengths(ledger)
        for each in late:
            kept_s = (now - each.at_us) // 1_000_000
            note = f"kept for {kept_s} s, and nobody could say what it cost: its worst case"
            self._put(
                Settled(
                    call_id=each.call_id, at_us=now, cost_nanos=each.amount_nanos, basis="assumed", note=note
                )
            )
        if late:
            log.warning(
                "%d reservations of unknown cost were posted as assumed, at their worst case", len(late)
            )
        if self._forgetful is not None:
            self._forgetful.forget_ended(now - (policy.queue_for_s + FORGOTTEN_AFTER_S) * 1_000_000)

    @contextmanager
    def _ledger(self) -> Generator[Reader]:
        """The ledger, opened where it is not open."""
        try:
            if self._reader is None:
                self._reader = self._read()
            yield self._reader
        except LedgerError:
            self._let_go()
            raise

    def _let_go(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _tell(self, entry: Settled | ToppedUp) -> None:
        match entry:
            case Settled(call_id=call_id, cost_nanos=cost):
                self._budgets.settle(call_id, cost)
            case ToppedUp(entry_id=entry_id, account=account, amount_nanos=amount):
                self._budgets.top_up(entry_id, account, amount)

    def _run(self) -> None:
        try:
            self._look()
        finally:
            self._let_go()

    def _look(self) -> None:
        ticks, wait_s = -1, 0.0
        while not self._stop.wait(wait_s):
            try:
                if ticks >= 0:
                    self.tick()
                    if ticks % ROUND_TICKS == 0:
                        self.round()
                self.follow()
            except LedgerError as error:
                log.warning("the ledger cannot be read for upkeep: %s", error)
            except Exception:
                log.exception("upkeep failed, and goes on")
            ticks, wait_s = ticks + 1, TICK_S
