"""Budgets: money set aside before a call leaves, and settled when it has ended.

An account is one budget for one of its values in one of its windows: the budget of $25 a run has an account for
each run, made by the run's first call. A claim asks for a call's worst case on all its accounts at once, and is
granted on all of them or on none. What a call turns out to cost is posted to the accounts of its reservation,
however late, so a call that crosses midnight is the old day's. Where its cost stays unknown the reservation is
kept, and counts as pending.

After every event, for each account:

    reserved + overrun == pending + posted + released

Overrun is what the provider billed above the worst case that was reserved.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Final, TypeAlias, assert_never
from zoneinfo import ZoneInfo

from tierwise.core.policy import Budget, Policy, Window
from tierwise.core.tasks import TaskRef
from tierwise.money import Nanos
from tierwise.values import maker, value


class ReservationState(StrEnum):
    """Where a reservation is in its life."""

    PENDING = "pending"
    POSTED = "posted"
    """Its call's cost is known and booked."""
    VOIDED = "voided"
    """Its call cost nothing."""
    KEPT = "kept"
    """What its call cost is not known: it stays pending at its worst case."""


class ReservationStep(StrEnum):
    """What moves a reservation on."""

    SETTLE = "settle"
    VOID = "void"
    LOSE_SIGHT = "lose sight"


RESERVATIONS: Final[Mapping[tuple[ReservationState, ReservationStep], ReservationState]] = {
    (ReservationState.PENDING, ReservationStep.SETTLE): ReservationState.POSTED,
    (ReservationState.PENDING, ReservationStep.VOID): ReservationState.VOIDED,
    (ReservationState.PENDING, ReservationStep.LOSE_SIGHT): ReservationState.KEPT,
    (ReservationState.KEPT, ReservationStep.SETTLE): ReservationState.POSTED,  # late, but the money is spent
    (ReservationState.KEPT, ReservationStep.VOID): ReservationState.VOIDED,
}
"""Every transition there is. A step that has none here is a mistake, and a KeyError."""


def step_of(cost_nanos: Nanos | None) -> ReservationStep:
    """Return what a cost does to its reservation: nothing voids it, and an unknown one keeps it."""
    if cost_nanos is None:
        return ReservationStep.LOSE_SIGHT
    return ReservationStep.SETTLE if cost_nanos else ReservationStep.VOID


@value
class AccountRef:
    """One account that a call is charged to, and the terms that hold there now."""

    key: str
    """`BUDGET|VALUE|WINDOW`: unique, and the same in every process."""
    budget: Budget
    value: str
    """Whose account it is, for people: a run's id, a task type, …"""
    ends_us: int | None
    """When its window ends, in microseconds since 1970 UTC; None for a lifetime."""
    pending_only: bool = False
    """Whether only what is pending counts against its limit: it bounds what one caller's key may pin."""

    @property
    def limit(self) -> int | None:
        """What may be used, in the budget's unit; None where the budget only warns."""
        if self.pending_only:
            return self.budget.limit * self.budget.pending_share // 100
        return self.budget.limit if self.budget.hard else None


@value
class Claim:
    """What one call asks for."""

    call_id: str
    accounts: tuple[AccountRef, ...]
    amount_nanos: Nanos
    """The call's worst case."""
    least_nanos: Nanos
    """The worst case of the call shrunk as far as it may be; the amount itself where it may not be shrunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """An account's use has reached one of the shares at which its budget warns."""

    account: AccountRef
    percent: int
    used_nanos: Nanos
    """Posted and pending."""


@value
class Reserved:
    """The whole claim was set aside on all accounts."""

    amount_nanos: Nanos
    crossings: tuple[Crossing, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrunk:
    """Less than the claim, and at least its least, was set aside on all accounts."""

    amount_nanos: Nanos
    crossings: tuple[Crossing, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """Nothing was set aside: an account has less left than the claim's least."""

    account: AccountRef
    """The one with the least left."""
    posted_nanos: Nanos
    pending_nanos: Nanos
    asked_nanos: Nanos
    """The claim's least."""
    topped_up_nanos: Nanos = 0
    """By how much its limit was raised."""

    @property
    def limit(self) -> int:
        """The limit, raised: in the budget's unit, as everything here."""
        return (self.account.limit or 0) + self.topped_up_nanos

    @property
    def left(self) -> int:
        """What was left on the account."""
        spent = 0 if self.account.pending_only else self.posted_nanos
        return self.limit - spent - self.pending_nanos


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """Nobody knows what is left: the store of the balances cannot be reached."""

    why: str


Outcome: TypeAlias = Reserved | Shrunk | Denied | Lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What an account holds."""

    reserved_nanos: Nanos = 0
    """Everything that was ever set aside."""
    pending_nanos: Nanos = 0
    """Set aside and not settled: in flight, or kept."""
    posted_nanos: Nanos = 0
    """Spent."""
    released_nanos: Nanos = 0
    """Set aside and not needed."""
    overrun_nanos: Nanos = 0
    """Spent beyond what was set aside for the call."""
    topped_up_nanos: Nanos = 0
    """By how much its limit was raised."""

    @property
    def used_nanos(self) -> Nanos:
        """What counts against the limit."""
        return self.posted_nanos + self.pending_nanos

    @property
    def holds(self) -> bool:
        """Whether the law of conservation holds."""
        left = self.reserved_nanos + self.overrun_nanos
        return left == self.pending_nanos + self.posted_nanos + self.released_nanos


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """One reservation as the ledger tells it: what a balance is rebuilt from."""

    call_id: str
    accounts: tuple[str, ...]
    """Keys."""
    amount_nanos: Nanos
    cost_nanos: Nanos | None
    """None where the call has no ending, or one without a known cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenReservation:
    """A reservation whose call has no known cost."""

    call_id: str
    accounts: tuple[str, ...]
    """Keys."""
    amount_nanos: Nanos
    at_us: int
    """When it was set aside, in microseconds since 1970 UTC."""
    ended: bool
    """Whether its call has an ending, so that no gateway will tell its cost."""


CALLS_MARK: Final = "#"
PENDING_MARK: Final = "~"


def amount_on(key: str, nanos: Nanos) -> Nanos:
    """Return what a call holds on an account: its money, or 1 where the account counts calls."""
    return nanos if key[0] != CALLS_MARK else 1


def cost_on(key: str, nanos: Nanos) -> Nanos:
    """Return what a call's cost is on an account: where that counts calls, 1, or 0 for one that cost nothing."""
    return nanos if key[0] != CALLS_MARK else min(nanos, 1)


def accounts_of(task: TaskRef, *, key_id: str, policy: Policy, at_us: int) -> tuple[AccountRef, ...]:
    """Return the accounts that a call is charged to, in the order of the policy's budgets.

    The budgets are those of the policy that count the key's calls, then those of the contract. The accounts of a run,
    an agent and a task are within the caller's key, so that no name of the caller's choosing reaches another key's.
    Calls without such a name share one account of their key. A budget that bounds what one key may have pending has an
    account more for that.

    Args:
        task: the task that the call belongs to.
        key_id: names the caller's credential, without telling it.
        policy: the budgets.
        at_us: when the call was read, in microseconds since 1970 UTC.
    """
    contract = policy.contracts.get(task.type) if task.type is not None else None
    budgets = policy.budgets_of(key_id)
    if contract is not None:
        budgets = (*budgets, *contract.budgets)
    accounts: list[AccountRef] = []
    for budget in budgets:
        if _is_charged(budget, task):
            accounts.append(account_of(budget, task, key_id=key_id, time_zone=policy.time_zone, at_us=at_us))
            if budget.pending_share < 100 and budget.hard and budget.counts == "usd":
                accounts.append(_pending(accounts[-1], key_id))
    return tuple(accounts)


def _is_charged(budget: Budget, task: TaskRef) -> bool:
    """Whether it counts the call: calls that name no task are not many calls of one."""
    if budget.counts == "calls" and budget.scope == "task" and task.task_id is None:
        return False
    return budget.only is None or budget.only == task.type


def account_of(budget: Budget, task: TaskRef, *, key_id: str, time_zone: str, at_us: int) -> AccountRef:
    """Return a budget's account for a task, whether or not the budget counts its calls.

    Args:
        budget: it.
        task: says whose account it is, and so does `key_id`.
        key_id: names the caller's credential, without telling it.
        time_zone: IANA name of the zone whose calendar its window follows.
        at_us: a moment of the window, in microseconds since 1970 UTC.
    """
    window, ends_us = span(budget.window, at_us // _QUARTER_US, time_zone)
    names = _names(budget, task, key_id)
    return _make_account_ref(
        key=_key(budget.counts, budget.name, names, window),
        budget=budget,
        value=names[-1] if names else "",
        ends_us=ends_us,
    )


@lru_cache(maxsize=4096)
def _key(counts: str, name: str, names: tuple[str, ...], window: str) -> str:
    mark = CALLS_MARK if counts == "calls" else ""
    return mark + "|".join((name, *map(_plain, names), window))


def _pending(account: AccountRef, key_id: str) -> AccountRef:
    """What one key has pending on an account."""
    return _make_account_ref(
        key=f"{PENDING_MARK}{_plain(key_id)}|{account.key}",
        budget=account.budget,
        value=key_id,
        ends_us=account.ends_us,
        pending_only=True,
    )


def _names(budget: Budget, task: TaskRef, key_id: str) -> tuple[str, ...]:
    match budget.scope:
        case "all":
            return ()
        case "key":
            return (key_id,)
        case "run":
            return (key_id, task.run_id or "")
        case "agent":
            return (key_id, task.agent or "")
        case "type":
            return (task.type or "",)
        case "task":
            return (key_id, task.run_id or "", task.task_id or "")
        case other:
            assert_never(other)


def _plain(name: str) -> str:
    """The name without the separator, so that no two accounts have one key."""
    return name.replace("%", "%25").replace("|", "%7C")


_QUARTER_US: Final = 900_000_000
"""All zones' offsets are whole quarters of an hour: within one, every window stays the same."""


@lru_cache(maxsize=4096)
def span(window: Window, quarter: int, time_zone: str) -> tuple[str, int | None]:
    """Return the calendar window of a quarter of an hour: its label, and when it ends.

    Args:
        window: its kind.
        quarter: quarters of an hour since 1970 UTC.
        time_zone: IANA name of the zone whose calendar it is.
    """
    if window == "lifetime":
        return "lifetime", None
    zone = UTC if time_zone == "UTC" else ZoneInfo(time_zone)
    now = datetime.fromtimestamp(quarter * 900, zone)
    match window:
        case "hour":
            # An hour is an hour of UTC's count, so that the one that is repeated in autumn has its own account.
            start = now.astimezone(UTC) - timedelta(minutes=now.minute)
            return f"{start:%Y-%m-%dT%H:%M}Z", _us(start + timedelta(hours=1))
        case "day":
            return f"{now:%Y-%m-%d}", _us(_midnight(now + timedelta(days=1)))
        case "month":
            next_month = now.replace(day=1, hour=12) + timedelta(days=31)
            return f"{now:%Y-%m}", _us(_midnight(next_month.replace(day=1)))
        case other:
            assert_never(other)


def _midnight(day: datetime) -> datetime:
    return day.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)


def _us(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000


_make_account_ref: Final = maker(AccountRef)
