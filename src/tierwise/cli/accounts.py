"""Accounts as the ledger has them, under the terms that the policy has for them now; and which one is meant."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from urllib.parse import unquote
from zoneinfo import ZoneInfo

import typer

from tierwise.cli.report import dollars
from tierwise.core.budgets import CALLS_MARK, PENDING_MARK, AccountRef, account_of, span
from tierwise.core.policy import Budget, Policy, Scope, Window
from tierwise.core.tasks import Declared, TaskRef
from tierwise.engine.budgets import amount as in_unit
from tierwise.names import begun, nearest
from tierwise.stores.ledger.reservations import AccountTotals


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account of a ledger, matched with its budget. Amounts are in the budget's unit."""

    name: str
    """Of its budget."""
    budget: Budget | None
    """None where the policy has no such budget any more, or gives it another window or unit."""
    counts: Literal["usd", "calls"]
    names: tuple[str, ...]
    """Whose account it is, from the caller's key on; nothing for an account of all calls."""
    pending_of: str | None
    """The key whose pending part of a budget this account bounds; None for an account of a budget itself."""
    window: str
    """The label of its window: lifetime, 2026-11, 2026-11-20, …"""
    ends_us: int | None
    current: bool
    """False where its window has ended."""
    totals: AccountTotals
    clients: tuple[str, ...] = ()
    """Whose calls alone its budget counts; empty: everybody's."""

    @property
    def key_id(self) -> str | None:
        """Whose credential it is within; None where the scope has no such part, or is the key itself."""
        return self.names[0] if len(self.names) > 1 else None

    @property
    def run_id(self) -> str | None:
        """The run that the account's task belongs to; None for other accounts."""
        return self.names[1] if len(self.names) > len(("key", "run")) else None

    @property
    def value(self) -> str:
        """Whose account it is, as `AccountRef.value`."""
        return self.names[-1] if self.names else ""

    @property
    def limit(self) -> int | None:
        """The limit, with what it was raised by; None without a budget."""
        if self.budget is None:
            return None
        share = 100 if self.pending_of is None else self.budget.pending_share
        return self.budget.limit * share // 100 + self.totals.topped_up_nanos

    @property
    def used(self) -> int:
        """What counts against the limit."""
        return self.totals.pending_nanos + (0 if self.pending_of is not None else self.totals.posted_nanos)

    @property
    def left(self) -> int | None:
        """What the limit leaves, below zero where more is used; None without a limit."""
        return None if self.limit is None else self.limit - self.used

    @property
    def used_share(self) -> float | None:
        """The part of the limit that is used; None without a limit."""
        return self.used / self.limit if self.limit else None


def budgets_of(policy: Policy) -> tuple[Budget, ...]:
    """Return all budgets of a policy, and after them those of its task types."""
    own = (budget for contract in policy.contracts.values() for budget in contract.budgets)
    return (*policy.budgets, *own)


def accounts_in(totals: Iterable[AccountTotals], policy: Policy, *, at_us: int) -> list[Account]:
    """Match a ledger's accounts with a policy's budgets.

    They come in the order of the budgets, then newest window first, then most used first. Those without a budget
    come last.
    """
    budgets = budgets_of(policy)
    order = {budget.name: place for place, budget in enumerate(budgets)}
    accounts = [_account(account, budgets, policy, at_us) for account in totals]
    return sorted(
        accounts,
        key=lambda account: (
            order[account.name] if account.budget else len(order),
            account.name,
            -(account.ends_us or 0),
            -account.used,
        ),
    )


def account_json(account: Account) -> dict[str, Any]:
    """Return an account with stable names, which end in its unit; None where there is no limit."""
    terms, totals = account.budget, account.totals
    return {
        "account": totals.key,
        "budget": account.name,
        "scope": terms and terms.scope,
        "kind": terms and ("hard" if terms.hard else "warn"),
        "unit": account.counts,
        "key_id": account.key_id,
        "run_id": account.run_id,
        "value": account.value,
        "clients": list(account.clients),
        "pending_of": account.pending_of,
        "window": account.window,
        **amount_json(account, "limit", account.limit),
        **amount_json(account, "topped_up", totals.topped_up_nanos),
        **amount_json(account, "posted", totals.posted_nanos),
        **amount_json(account, "pending", totals.pending_nanos),
        **amount_json(account, "left", account.left),
        "used_share": account.used_share,
        **amount_json(account, "released", totals.released_nanos),
        **amount_json(account, "overrun", totals.overrun_nanos),
        "reservations": totals.reservations,
        "ends_at": None if account.ends_us is None else time_json(account.ends_us),
    }


def amount_json(account: Account, name: str, amount: int | None) -> dict[str, Any]:
    """Name an amount by its unit: `limit_usd` in exact dollars, `limit_calls` as a number of calls."""
    return {f"{name}_{account.counts}": dollars(amount) if account.counts == "usd" else amount}


def written(account: Account, amount: int | None) -> str:
    """Write an amount in the account's unit; nothing where there is none."""
    return "" if amount is None else in_unit(account.counts, amount)


def named(account: Account) -> str:
    """Write which account it is, in one line: `run-lifetime, run r1, lifetime`."""
    return ", ".join(filter(None, (account.name, whose(account), account.window)))


def whose(account: Account) -> str:
    """Write whose an account is: `run r1`; the value alone where the scope is not known, as without a budget."""
    if account.pending_of is not None:
        return f"pending of key {account.pending_of}"
    if account.budget is None:
        return account.value
    scope = account.budget.scope
    if scope == "all":
        return scope
    of_run = f" of run {account.run_id or '(none)'}" if scope == "task" else ""
    return f"{scope} {account.value or '(none)'}{of_run}"


def time_json(at_us: int) -> str:
    """Write a time, given in microseconds since 1970 UTC."""
    return f"{moment(at_us):%Y-%m-%dT%H:%M:%SZ}"


def moment(at_us: int) -> datetime:
    """Return the time of so many microseconds since 1970 UTC."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What somebody says of the account that is meant."""

    name: str
    """The name of its budget, or the account's own key."""
    value: str | None = None
    """Whose it is: a run, an agent, a task, …"""
    run: str | None = None
    """The run of its task."""
    key: str | None = None
    """The caller's key id, or its first digits."""


def chosen(wanted: Wanted, accounts: Sequence[Account], policy: Policy, *, at_us: int) -> Account:
    """Return the account that is meant: one that the ledger has, in the current window, or a new one.

    Raises:
        typer.BadParameter: none is meant, or several fit; they are named.
    """
    exact = [account for account in accounts if account.totals.key == wanted.name]
    if exact:
        return exact[0]
    check_name(wanted.name, accounts, policy)
    named = _of_key(wanted.key, [each for each in accounts if each.current and _fits(each, wanted)])
    fitting = [account for account in named if account.budget] or named
    if len(fitting) > 1:
        raise typer.BadParameter(
            f"{len(fitting):,} accounts fit; name one, or say more with --value, --run or --key: {_some(fitting)}"
        )
    return fitting[0] if fitting else _new(wanted, accounts, policy, at_us)


def check_name(name: str, accounts: Iterable[Account], policy: Policy) -> None:
    """Refuse the name of a budget that neither the policy nor the ledger has.

    Raises:
        typer.BadParameter: and the name that was probably meant.
    """
    budgets = (budget.name for budget in budgets_of(policy))
    known = dict.fromkeys((*budgets, *(account.name for account in accounts)))
    if name not in known:
        meant = nearest(name, known)
        hint = f"; did you mean {meant!r}?" if meant else f"; there are: {', '.join(known) or 'none'}"
        raise typer.BadParameter(f"there is no budget {name!r}{hint}", param_hint="NAME")


def _account(totals: AccountTotals, budgets: Sequence[Budget], policy: Policy, at_us: int) -> Account:
    pending_of, key = _unmarked(totals.key)
    counts = "calls" if key.startswith(CALLS_MARK) else "usd"
    name, *names, label = key.removeprefix(CALLS_MARK).split("|")
    window = _WINDOWS[len(label)]
    terms = (name, window, counts, len(names))
    ends_us = _end(window, label, policy.time_zone)
    budget = next((each for each in budgets if _terms(each) == terms), None)
    return Account(
        name=name,
        budget=budget,
        counts=counts,
        names=tuple(map(unquote, names)),
        pending_of=pending_of,
        window=label,
        ends_us=ends_us,
        current=ends_us is None or at_us < ends_us,
        totals=totals,
        clients=() if budget is None else policy.clients_of(budget),
    )


def _unmarked(key: str) -> tuple[str | None, str]:
    """The key whose pending part an account bounds, if it does, and the account's own key."""
    if not key.startswith(PENDING_MARK):
        return None, key
    pending_of, _, account = key[1:].partition("|")
    return unquote(pending_of), account


def _terms(budget: Budget) -> tuple[str, Window, str, int]:
    return budget.name, budget.window, budget.counts, _NAMES[budget.scope]


_NAMES: Final[dict[Scope, int]] = {"all": 0, "key": 1, "run": 2, "agent": 2, "type": 1, "task": 3}
"""How many names an account has by its scope."""

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
            inside = datetime.fromisoformat(label)
        case "day" | "month":
            first = label if window == "day" else f"{label}-01"
            zone = UTC if time_zone == "UTC" else ZoneInfo(time_zone)
            inside = datetime.fromisoformat(first).replace(hour=12, tzinfo=zone)
    return span(window, int(inside.timestamp()) // 900, time_zone)[1]


def _fits(account: Account, wanted: Wanted) -> bool:
    """Whether it is an account that is meant, whatever its key."""
    return (
        account.name == wanted.name
        and account.pending_of is None
        and wanted.value in {None, account.value}
        and wanted.run in {None, account.run_id}
    )


def _of_key(key: str | None, accounts: Sequence[Account]) -> Sequence[Account]:
    """Those of the accounts that are within the key."""
    if key is None:
        return accounts
    meant = begun(key, (account.names[0] for account in accounts if _within_key(account)))
    return [account for account in accounts if _within_key(account) and account.names[0] in meant]


_SHOWN: Final = 10
"""How many accounts an error names."""


def _some(accounts: Sequence[Account]) -> str:
    named = ", ".join(repr(account.totals.key) for account in accounts[:_SHOWN])
    return named if len(accounts) <= _SHOWN else f"{named}, …"


def _new(wanted: Wanted, accounts: Sequence[Account], policy: Policy, at_us: int) -> Account:
    """An account that no call has met, as a call would make it."""
    budget = next((budget for budget in budgets_of(policy) if budget.name == wanted.name), None)
    if budget is None:
        raise typer.BadParameter(
            f"no current account of {wanted.name!r} fits, and the policy has no such budget"
        )
    ref = _ref(budget, wanted, _key_id(budget, wanted, accounts, policy), policy, at_us)
    nothing = AccountTotals(
        key=ref.key,
        reservations=0,
        reserved_nanos=0,
        pending_nanos=0,
        posted_nanos=0,
        released_nanos=0,
        overrun_nanos=0,
    )
    return _account(nothing, (budget,), policy, at_us)


def _key_id(budget: Budget, wanted: Wanted, accounts: Sequence[Account], policy: Policy) -> str:
    """The whole key id that is meant, where the budget's accounts are within keys."""
    if budget.scope in {"all", "type"}:
        return ""
    asked = wanted.key or (wanted.value if budget.scope == "key" else None)
    if asked is None:
        raise _incomplete(budget, "--value KEYID" if budget.scope == "key" else "--key KEYID")
    held = (account.names[0] for account in accounts if _within_key(account))
    known = begun(asked, (*held, *(client.name for client in policy.clients)))
    if len(known) == 1:
        return known[0]
    if re.fullmatch(_KEY_ID, asked):
        return asked
    raise typer.BadParameter(
        f"{asked!r} is the beginning of {'several key ids' if known else 'no key id'} of the ledger's budgets and the "
        "policy's clients; give all 12 digits, or a client's name",
        param_hint="--key",
    )


_KEY_ID: Final = r"[0-9a-f]{12}|gateway"
"""As the gateway names the credentials of callers."""


def _within_key(account: Account) -> bool:
    return len(account.names) > 1 or (account.budget is not None and account.budget.scope == "key")


def _ref(budget: Budget, wanted: Wanted, key_id: str, policy: Policy, at_us: int) -> AccountRef:
    scope, value = budget.scope, wanted.value or None
    if wanted.value is None and scope in {"run", "agent", "type", "task"}:
        raise _incomplete(budget, f"--value {scope.upper()}")
    if wanted.run is None and scope == "task":
        raise _incomplete(budget, "--run RUN")
    task = TaskRef(
        declared=Declared.UNDECLARED,
        type=value if scope == "type" else budget.only,
        task_id=value if scope == "task" else None,
        run_id=value if scope == "run" else wanted.run or None,
        agent=value if scope == "agent" else None,
    )
    if budget.only not in {None, task.type}:
        raise typer.BadParameter(f"{budget.name} counts calls of {budget.only} alone", param_hint="--value")
    clients = policy.clients_of(budget)
    if clients and key_id not in {"", *clients}:
        raise typer.BadParameter(
            f"{budget.name} counts calls of the clients {', '.join(clients)} alone", param_hint="--key"
        )
    return account_of(budget, task, key_id=key_id, time_zone=policy.time_zone, at_us=at_us)


def _incomplete(budget: Budget, missing: str) -> typer.BadParameter:
    return typer.BadParameter(
        f"no current account of {budget.name} fits; to name a new one, say {missing} too"
    )
