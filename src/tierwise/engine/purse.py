"""The audit's purse: what it may spend today in each direction, worked out of the ledger."""

from collections.abc import Callable, Iterable
from contextlib import closing
from fractions import Fraction

from tierwise.audit.allowance import LOOKS_BACK_DAYS, Day, Terms, replay
from tierwise.core.policy import Audit
from tierwise.money import Nanos
from tierwise.stores.ledger.pairs import DAY_US, DaySpend, is_audit, spend
from tierwise.stores.ledger.query import Reader


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
