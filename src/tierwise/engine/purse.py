"""The audit's purse: what it may spend today in each direction, worked out of the ledger."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import closing
from fractions import Fraction
from typing import Final

from tierwise.audit.allowance import LOOKS_BACK_DAYS, Day, Terms, replay
from tierwise.core.policy import Audit
from tierwise.engine.desk import Desk
from tierwise.errors import LedgerError
from tierwise.money import Nanos
from tierwise.stores.ledger.pairs import DAY_US, DaySpend, is_audit, spend
from tierwise.stores.ledger.query import Reader

log = logging.getLogger("tierwise.audit")

AGE_US: Final = 60_000_000
"""How old the allowance may be; a pair that it could not pay has it worked out again after `RETRY_S`."""
RESTS_TIMES: Final = 30
"""How many times as long a direction rests when its account refused a call: each refusal leaves an entry."""


class Purse:
    """What the audit may spend now in a direction: that of calls on a dearer tier, or the other."""

    def __init__(
        self,
        *,
        desk: Desk,
        read: Callable[[], Reader],
        clock: Callable[[], int],
        retry_s: float,
        owed: Callable[[int], Nanos],
    ) -> None:
        """Begin with what the ledger says.

        Args:
            desk: knows the policy.
            read: opens the ledger for reading.
            clock: tells microseconds since 1970 UTC.
            retry_s: how long a direction rests that has too little left, in seconds.
            owed: says what calls that were read before an instant may still cost.
        """
        self._desk = desk
        self._read = read
        self._clock = clock
        self._retry_us = int(retry_s * 1_000_000)
        self._owed = owed
        self._purses: tuple[Nanos, Nanos] = (0, 0)
        self._at_us: int | None = None
        self._rests_until_us: dict[bool, int] = {}
        """Until when a direction makes no calls: it had too little left."""

    async def limits(self, on_dear: bool) -> AsyncIterator[Nanos]:  # noqa: FBT001 — it names the direction
        """Yield what may be spent, and once more as worked out anew; whoever takes neither has the direction rest."""
        if self._clock() < self._rests_until_us.get(on_dear, 0):
            return
        for oldest_us in (AGE_US, self._retry_us):
            yield await self._limit(on_dear, oldest_us=oldest_us)
        self._rests_until_us[on_dear] = self._clock() + self._retry_us

    def refused(self, on_dear: bool) -> None:  # noqa: FBT001 — it names the direction
        """Have a direction rest for long whose account refused a call."""
        self._rests_until_us[on_dear] = self._clock() + RESTS_TIMES * self._retry_us
        self._at_us = None

    async def _limit(self, on_dear: bool, *, oldest_us: int) -> Nanos:  # noqa: FBT001
        """What may be spent today, as worked out no longer ago than that."""
        now, at_us = self._clock(), self._at_us
        if at_us is None or now - at_us >= oldest_us:
            self._at_us = now
            audit = self._desk.book.policy.audit
            try:
                self._purses = await asyncio.to_thread(purses, self._read, audit, at_us=now)
            except LedgerError as error:
                log.warning("the audit's allowance cannot be worked out: %s", error)
        return max(0, self._purses[0 if on_dear else 1] - self._owed(now // DAY_US * DAY_US))


def terms_of(audit: Audit) -> Terms:
    """The policy's words as the allowance has them."""
    return Terms(
        share=Fraction(audit.share, 100),
        credit_days=audit.credit_days,
        day_share=Fraction(audit.most_of_day, 100),
    )


def purses(read: Callable[[], Reader], audit: Audit, *, at_us: int) -> tuple[Nanos, Nanos]:
    """Return the most that all of today's pairs may cost: of calls on a dearer tier, and on a cheaper one.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    today = at_us // DAY_US
    with closing(read()) as ledger:
        spent = spend(ledger, since_day=today - LOOKS_BACK_DAYS)
    return replay(days_of(spent), today=today, terms=terms_of(audit)).purses_nanos


def days_of(spent: Iterable[DaySpend]) -> list[Day]:
    """Sum types up to days, the audit's own part apart."""
    days: dict[int, Day] = {}
    for one in spent:
        day = days.get(one.day, Day(day=one.day, spend_nanos=0, audit_nanos=0))
        own = one.cost_nanos if is_audit(one) else 0
        days[one.day] = Day(
            day=one.day,
            spend_nanos=day.spend_nanos + one.cost_nanos - own,
            audit_nanos=day.audit_nanos + own,
        )
    return [days[day] for day in sorted(days)]
