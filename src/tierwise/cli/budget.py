"""`tierwise budget`: what each account of the budgets has spent, set aside and left, and raising its limit."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Annotated, Final

import typer
from rich.table import Table
from rich.text import Text

from tierwise.cli.account_details import details_json, details_of, print_details, top_up_json
from tierwise.cli.accounts import (
    Account,
    Wanted,
    account_json,
    accounts_in,
    budgets_of,
    check_name,
    chosen,
    moment,
    named,
    whose,
    written,
)
from tierwise.cli.console import harmless, new_table, out, print_json, say
from tierwise.cli.groups import new_group
from tierwise.cli.options import (
    DEFAULT_LEDGER,
    DEFAULT_POLICY,
    JsonOption,
    LedgerOption,
    PolicyOption,
)
from tierwise.config import load_book
from tierwise.core.ledger import ToppedUp
from tierwise.core.policy import Policy
from tierwise.engine.budgets import amount as in_unit
from tierwise.engine.clock import call_ids, now_us
from tierwise.errors import MoneyError
from tierwise.money import usd
from tierwise.stores.budgets.operations import LARGEST
from tierwise.stores.ledger.opening import open_ledger, read_ledger
from tierwise.stores.ledger.reservations import account_totals

_Limit = Annotated[int, typer.Option("--limit", min=1, help="How many lines at the most.")]
_Value = Annotated[
    str | None,
    typer.Option("--value", metavar="NAME", help="Whose account: a run, an agent, a key id, a type, a task."),
]
_Run = Annotated[str | None, typer.Option("--run", metavar="RUN", help="The run of the task.")]
_Key = Annotated[
    str | None,
    typer.Option("--key", metavar="KEYID", help="The caller's key id that the account is within."),
]
_Named = Annotated[str, typer.Argument(metavar="NAME", help="A budget, or an account as `show` writes it.")]


def list_(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Only this budget.")] = None,
    policy: PolicyOption = DEFAULT_POLICY,
    ledger: LedgerOption = DEFAULT_LEDGER,
    everything: Annotated[
        bool, typer.Option("--all", help="Also windows that have ended, and what each key has pending.")
    ] = False,
    limit: _Limit = 50,
    as_json: JsonOption = False,
) -> None:
    """Show what the budgets have spent, set aside and left.

    A line is an account: one budget for one run, agent or whatever its scope is, in one window. What is set aside
    belongs to calls in flight, and to calls whose cost is not known. Accounts of a budget that the policy no longer
    has are listed without a limit. Limits have their top-ups in them.

    Example: tierwise budget list run-lifetime
    """
    known = load_book(policy).policy
    with closing(read_ledger(ledger)) as reader:
        accounts = accounts_in(account_totals(reader), known, at_us=now_us())
    if name is not None:
        check_name(name, accounts, known)
    found = [
        account
        for account in accounts
        if name in {None, account.name} and (everything or (account.current and account.pending_of is None))
    ]
    shown, more = found[:limit], found[limit:]
    if as_json:
        print_json({"accounts": list(map(account_json, shown)), "more": len(more)})
    else:
        _print_list(shown, more, known, name)


def show(
    name: _Named,
    value: _Value = None,
    run: _Run = None,
    key: _Key = None,
    policy: PolicyOption = DEFAULT_POLICY,
    ledger: LedgerOption = DEFAULT_LEDGER,
    limit: _Limit = 50,
    as_json: JsonOption = False,
) -> None:
    """Show one account in detail.

    That is its limit and who raised it, what it holds, and for which calls. It is the account of the budget in the
    current window; --value, --run and --key say which, where there are several.

    Example: tierwise budget show run-lifetime --value run-7
    """
    known = load_book(policy).policy
    with closing(read_ledger(ledger)) as reader, reader.snapshot():
        accounts = accounts_in(account_totals(reader), known, at_us=now_us())
        wanted = Wanted(name=name, value=value, run=run, key=key)
        account = chosen(wanted, accounts, known, at_us=now_us())
        details = details_of(reader, account, limit)
    if as_json:
        print_json(details_json(details))
    else:
        print_details(details)


def top_up(
    name: _Named,
    amount: Annotated[
        str,
        typer.Option(
            "--amount", metavar="AMOUNT", help="By how much: dollars, or calls where it counts calls."
        ),
    ],
    who: Annotated[str, typer.Option("--who", metavar="WHO", help="Who raises it, for the record.")],
    why: Annotated[str, typer.Option("--why", metavar="WHY", help="Why, for the record.")],
    value: _Value = None,
    run: _Run = None,
    key: _Key = None,
    policy: PolicyOption = DEFAULT_POLICY,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Raise the limit of one account, in its current window.

    The ledger keeps the amount, who and why. A running gateway takes it up within a second or so. It cannot be taken
    back, and the next window begins with the policy's limit again. An account that no call has met yet can be raised
    too: then say whose it is.

    Example: tierwise budget top-up run-lifetime --value run-7 --amount 5.00 --who ops --why "one more source"
    """
    known = load_book(policy).policy
    for text, option in ((who, "--who"), (why, "--why")):
        if not text.strip():
            raise typer.BadParameter("is empty", param_hint=option)
    at_us = now_us()
    with closing(read_ledger(ledger)) as reader:
        accounts = accounts_in(account_totals(reader), known, at_us=at_us)
    account = chosen(Wanted(name=name, value=value, run=run, key=key), accounts, known, at_us=at_us)
    _check_raisable(account)
    entry = ToppedUp(
        entry_id=call_ids()(),
        at_us=at_us,
        account=account.totals.key,
        amount_nanos=_amount(amount, account),
        who=who.strip(),
        why=why.strip(),
    )
    with closing(open_ledger(ledger)) as writer:
        writer.write([entry])
    raised = _raised(account, entry)
    if as_json:
        print_json({"top_up": top_up_json(raised, entry), "account": account_json(raised)})
    else:
        say(
            f"{named(raised)}: {in_unit(raised.counts, entry.amount_nanos)} more. The limit is now "
            f"{written(raised, raised.limit)}, of which {written(raised, raised.left)} is left."
        )


budget: Final = new_group(
    """Show what the budgets have left, and raise their limits.

    Without a command, `list` is meant.

    Example: tierwise budget
    """,
    {"list": list_, "show": show, "top-up": top_up},
    lists=True,
)


def _print_list(
    accounts: Sequence[Account], more: Sequence[Account], policy: Policy, name: str | None
) -> None:
    if accounts:
        out.print(_table(accounts))
    if more:
        counted = ", ".join(
            f"{count:,} of {budget}" for budget, count in Counter(a.name for a in more).items()
        )
        say(f"{len(more):,} more accounts: {counted}. --limit shows more lines, NAME one budget alone.")
    for sentence in _remarks(accounts, more, policy, name):
        say(sentence)


_NUMBERS: Final = ("limit", "spent", "set aside", "left", "used")
_COLUMNS: Final = ("budget", "whose", "key", *_NUMBERS, "window", "ends (UTC)")


def _table(accounts: Sequence[Account]) -> Table:
    """One line an account; columns that all accounts leave empty are left out."""
    rows = [tuple(_cells(account)) for account in accounts]
    filled = [place for place in range(len(_COLUMNS)) if any(row[place] for row in rows)]
    table = new_table(*(_COLUMNS[place] for place in filled), numbers=_NUMBERS)
    for row in rows:
        table.add_row(*(Text(harmless(row[place])) for place in filled))
    return table


def _cells(account: Account) -> Iterator[str]:
    share = account.used_share
    yield account.name
    yield whose(account)
    yield account.key_id or ""
    yield "no budget" if account.limit is None else written(account, account.limit)
    yield written(account, account.totals.posted_nanos)
    yield written(account, account.totals.pending_nanos)
    yield written(account, account.left)
    yield "" if share is None else f"{share:.1%}"
    yield account.window
    yield "" if account.ends_us is None else f"{moment(account.ends_us):%Y-%m-%d %H:%M}"


def _remarks(
    accounts: Sequence[Account], more: Sequence[Account], policy: Policy, name: str | None
) -> Iterator[str]:
    """What the table cannot say: overruns, budgets that only warn, and those that no call has met."""
    for account in accounts:
        if account.totals.overrun_nanos:
            overrun = written(account, account.totals.overrun_nanos)
            yield f"{named(account)}: the provider billed {overrun} more than was set aside."
    met = {account.name for account in (*accounts, *more) if account.budget and account.current}
    budgets = budgets_of(policy)
    for known in budgets:
        if name not in {None, known.name}:
            continue
        if known.name not in met:
            when = "" if known.window == "lifetime" else " in the current window"
            yield f"{known.name}: no calls{when}; its limit is {in_unit(known.counts, known.limit)}."
        elif not known.hard:
            yield f"{known.name} only warns: it refuses no call."
        clients = policy.clients_of(known)
        if clients:
            yield f"{known.name} counts the calls of {', '.join(clients)} alone."
    if not accounts and not budgets:
        yield "No budgets: the policy has no [[budgets]]."


def _check_raisable(account: Account) -> None:
    if account.budget is None:
        raise typer.BadParameter(
            f"the policy has no budget for the account {account.totals.key!r}", param_hint="NAME"
        )
    if not account.current:
        raise typer.BadParameter(
            f"the window of the account {account.totals.key!r} has ended", param_hint="NAME"
        )


def _amount(text: str, account: Account) -> int:
    """An amount in the account's unit, above zero and such that any store of balances counts it exactly."""
    if account.counts == "calls":
        if not (text.isascii() and text.isdigit()):
            raise typer.BadParameter(f"{text!r} is no number of calls", param_hint="--amount")
        amount = int(text)
    else:
        try:
            amount = usd(text)
        except MoneyError as error:
            raise typer.BadParameter(str(error), param_hint="--amount") from error
    if amount <= 0:
        raise typer.BadParameter(f"{text!r} is not above zero: a limit is only raised", param_hint="--amount")
    if amount > LARGEST:
        raise typer.BadParameter(
            f"{text!r} is more than {in_unit(account.counts, LARGEST)}", param_hint="--amount"
        )
    return amount


def _raised(account: Account, entry: ToppedUp) -> Account:
    topped_up = account.totals.topped_up_nanos + entry.amount_nanos
    return replace(account, totals=replace(account.totals, topped_up_nanos=topped_up))
