"""`tierwise budget`: what each account of the budgets has spent, set aside and left."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final
from urllib.parse import unquote
from zoneinfo import ZoneInfo

import typer
from rich.table import Table
from rich.text import Text

from tierwise.cli.console import harmless, new_table, out, print_json, say
from tierwise.cli.options import (
    DEFAULT_LEDGER,
    DEFAULT_POLICY,
    JsonOption,
    LedgerOption,
    PolicyOption,
)
from tierwise.cli.report import dollars
from tierwise.config import load_book
from tierwise.core.budgets import span
from tierwise.core.policy import Budget, Policy, Window
from tierwise.engine.clock import now_us
from tierwise.money import Nanos, format_usd
from tierwise.names import nearest
from tierwise.stores.ledger.reservations import AccountTotals, account_totals
from tierwise.stores.ledger.sqlite import read_ledger


def budget(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Only this budget.")] = None,
    policy: PolicyOption = DEFAULT_POLICY,
    ledger: LedgerOption = DEFAULT_LEDGER,
    everything: Annotated[bool, typer.Option("--all", help="Also windows that have ended.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what the budgets have spent, set aside and left.

    A line is an account: one budget for one run, agent or whatever its scope is, in one window. What is set aside
    belongs to calls in flight, and to calls whose cost is not known. Accounts of a budget that the policy no longer
    has are listed without a limit.

    Example: tierwise budget run-lifetime
    """
    known = load_book(policy).policy
    with closing(read_ledger(ledger)) as connection:
        accounts = accounts_in(account_totals(connection), known, at_us=now_us())
    _check_name(name, accounts, known)
    shown = [
        account for account in accounts if (everything or account.current) and name in {None, account.name}
    ]
    if as_json:
        print_json({"accounts": list(map(account_json, shown))})
    else:
        _print(shown, known, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account as the ledger has it, under the terms that the policy has for it now."""

    name: str
    """Of its budget."""
    budget: Budget | None
    """None where the policy has no such budget any more, or gives it another window."""
    key_id: str | None
    """Whose credential it is within; None where the scope has no such part, or is the key itself."""
    value: str
    """Whose account it is, as `AccountRef.value`."""
    window: str
    """The label of its window: lifetime, 2026-11, 2026-11-20, …"""
    ends_us: int | None
    current: bool
    """False where its window has ended."""
    totals: AccountTotals

    @property
    def used_nanos(self) -> Nanos:
        """What counts against the limit."""
        return self.totals.posted_nanos + self.totals.pending_nanos

    @property
    def left_nanos(self) -> Nanos | None:
        """What the limit leaves, below zero where more is used; None without a limit."""
        return None if self.budget is None else self.budget.limit_nanos - self.used_nanos

    @property
    def used_share(self) -> float | None:
        """The part of the limit that is used; None without a limit."""
        return None if self.budget is None else self.used_nanos / self.budget.limit_nanos


def accounts_in(totals: Sequence[AccountTotals], policy: Policy, *, at_us: int) -> list[Account]:
    """Match a ledger's accounts with a policy's budgets.

    They come in the order of the budgets, then newest window first, then most used first. Those without a budget
    come last.
    """
    order = {known.name: place for place, known in enumerate(policy.budgets)}
    accounts = [_account(account, policy, at_us) for account in totals]
    return sorted(
        accounts,
        key=lambda account: (
            order[account.name] if account.budget else len(order),
            account.name,
            -(account.ends_us or 0),
            -account.used_nanos,
        ),
    )


def account_json(account: Account) -> dict[str, Any]:
    """Return an account with stable names; money in dollars, exactly, and None where there is no limit."""
    terms = account.budget
    return {
        "budget": account.name,
        "scope": terms and terms.scope,
        "kind": terms and ("hard" if terms.hard else "warn"),
        "key_id": account.key_id,
        "value": account.value,
        "window": account.window,
        "limit_usd": terms and dollars(terms.limit_nanos),
        "posted_usd": dollars(account.totals.posted_nanos),
        "pending_usd": dollars(account.totals.pending_nanos),
        "left_usd": dollars(account.left_nanos),
        "used_share": account.used_share,
        "overrun_usd": dollars(account.totals.overrun_nanos),
        "reservations": account.totals.reservations,
        "ends_at": None if account.ends_us is None else f"{_moment(account.ends_us):%Y-%m-%dT%H:%M:%SZ}",
    }


def _account(totals: AccountTotals, policy: Policy, at_us: int) -> Account:
    name, *names, label = totals.key.split("|")
    window = _window(label)
    terms = next((each for each in policy.budgets if (each.name, each.window) == (name, window)), None)
    ends_us = _end(window, label, policy.time_zone)
    return Account(
        name=name,
        budget=terms,
        key_id=names[0] if len(names) > 1 else None,
        value=unquote(names[-1]) if names else "",
        window=label,
        ends_us=ends_us,
        current=ends_us is None or at_us < ends_us,
        totals=totals,
    )


def _window(label: str) -> Window:
    return _WINDOWS[len(label)]


_WINDOWS: Final[dict[int, Window]] = {
    len("lifetime"): "lifetime",
    len("2026-11"): "month",
    len("2026-11-20"): "day",
    len("2026-11-20T09:00Z"): "hour",
}
"""The kind of a window by the length of its label."""


def _end(window: Window, label: str, time_zone: str) -> int | None:
    """When the window of a label ends, in microseconds since 1970 UTC: the end of the span that a moment in it has."""
    match window:
        case "lifetime":
            return None
        case "hour":
            moment = datetime.fromisoformat(label)
        case "day" | "month":
            first = label if window == "day" else f"{label}-01"
            zone = UTC if time_zone == "UTC" else ZoneInfo(time_zone)
            moment = datetime.fromisoformat(first).replace(hour=12, tzinfo=zone)
    return span(window, int(moment.timestamp()) // 900, time_zone)[1]


def _check_name(name: str | None, accounts: Sequence[Account], policy: Policy) -> None:
    known = dict.fromkeys((*(each.name for each in policy.budgets), *(account.name for account in accounts)))
    if name is None or name in known:
        return
    meant = nearest(name, known)
    hint = f"; did you mean {meant!r}?" if meant else f"; there are: {', '.join(known) or 'none'}"
    raise typer.BadParameter(f"there is no budget {name!r}{hint}", param_hint="NAME")


def _print(accounts: Sequence[Account], policy: Policy, name: str | None) -> None:
    if accounts:
        out.print(_table(accounts))
    for sentence in _remarks(accounts, policy, name):
        say(sentence)


_NUMBERS: Final = ("limit", "spent", "set aside", "left", "used")


def _table(accounts: Sequence[Account]) -> Table:
    table = new_table("budget", "whose", "key", *_NUMBERS, "window", "ends (UTC)", numbers=_NUMBERS)
    for account in accounts:
        table.add_row(
            Text(harmless(account.name)),
            Text(harmless(_whose(account))),
            account.key_id or "",
            *_cells(account),
        )
    return table


def _whose(account: Account) -> str:
    """`run r1`; the value alone where the scope is not known, as without a budget."""
    if account.budget is None:
        return account.value
    scope = account.budget.scope
    return scope if scope == "all" else f"{scope} {account.value or '(none)'}"


def _cells(account: Account) -> Iterator[str]:
    terms, left, share = account.budget, account.left_nanos, account.used_share
    yield "no budget" if terms is None else format_usd(terms.limit_nanos)
    yield format_usd(account.totals.posted_nanos)
    yield format_usd(account.totals.pending_nanos)
    yield "" if left is None else format_usd(left)
    yield "" if share is None else f"{share:.1%}"
    yield account.window
    yield "" if account.ends_us is None else f"{_moment(account.ends_us):%Y-%m-%d %H:%M}"


def _remarks(accounts: Sequence[Account], policy: Policy, name: str | None) -> Iterator[str]:
    """What the table cannot say: overruns, budgets that only warn, and those that no call has met."""
    for account in accounts:
        if account.totals.overrun_nanos:
            yield (
                f"{_named(account)}: the provider billed {format_usd(account.totals.overrun_nanos)} more than was "
                "set aside."
            )
    met = {account.name for account in accounts if account.budget and account.current}
    for known in policy.budgets:
        if name not in {None, known.name}:
            continue
        if known.name not in met:
            when = "" if known.window == "lifetime" else " in the current window"
            yield f"{known.name}: no calls{when}; its limit is {format_usd(known.limit_nanos)}."
        elif not known.hard:
            yield f"{known.name} only warns: it refuses no call."
    if not accounts and not policy.budgets:
        yield "No budgets: the policy has no [[budgets]]."


def _named(account: Account) -> str:
    return ", ".join(filter(None, (account.name, _whose(account), account.window)))


def _moment(at_us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)
