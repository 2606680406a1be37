"""One account in detail: who raised its limit, and for which calls something is set aside on it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from tierwise.cli.accounts import Account, account_json, amount_json, moment, time_json, whose, written
from tierwise.cli.console import harmless, new_table, out, say
from tierwise.core.budgets import OpenReservation, amount_on
from tierwise.core.ledger import ToppedUp
from tierwise.stores.ledger.query import Reader
from tierwise.stores.ledger.reservations import open_reservations
from tierwise.stores.ledger.rows import TOPPED_UP, told


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """Everything that is known of an account."""

    account: Account
    top_ups: tuple[ToppedUp, ...]
    """Oldest first."""
    open_reservations: tuple[OpenReservation, ...]
    """The oldest ones."""
    more_open: int
    """How many there are besides."""


def details_of(reader: Reader, account: Account, limit: int) -> Details:
    """Look an account up, with at most `limit` of its open reservations."""
    key = account.totals.key
    mine = [each for each in open_reservations(reader) if key in each.accounts]
    return Details(
        account=account,
        top_ups=_top_ups(reader, key),
        open_reservations=tuple(mine[:limit]),
        more_open=max(0, len(mine) - limit),
    )


def details_json(details: Details) -> dict[str, Any]:
    """Return the details with stable names."""
    account = details.account
    return {
        **account_json(account),
        "top_ups": [top_up_json(account, entry) for entry in details.top_ups],
        "open_reservations": [_open_json(account, each) for each in details.open_reservations],
        "more_open_reservations": details.more_open,
    }


def top_up_json(account: Account, entry: ToppedUp) -> dict[str, Any]:
    """Return a top-up with stable names."""
    return {
        "entry_id": entry.entry_id,
        "at": time_json(entry.at_us),
        **amount_json(account, "amount", entry.amount_nanos),
        "who": entry.who,
        "why": entry.why,
    }


def print_details(details: Details) -> None:
    """Print the details for people."""
    account = details.account
    for name, text in _facts(account):
        say(f"{name:<10} {text}")
    if details.top_ups:
        say("")
        out.print(_top_ups_table(account, details.top_ups))
    if details.open_reservations:
        say("")
        out.print(_open_table(account, details.open_reservations))
    if details.more_open:
        say(f"{details.more_open:,} more calls have something set aside; --limit shows them.")


def _top_ups(reader: Reader, key: str) -> tuple[ToppedUp, ...]:
    query = (
        f"SELECT {', '.join(TOPPED_UP)} FROM entries "  # noqa: S608 — names of our own
        f"WHERE kind IN ('settled', 'topped-up') AND kind = 'topped-up' AND account = ? "
        f"ORDER BY {reader.dialect.position}"
    )
    entries = map(told, reader.rows(query, (key,)))
    return tuple(entry for entry in entries if isinstance(entry, ToppedUp))


def _open_json(account: Account, each: OpenReservation) -> dict[str, Any]:
    return {
        "call_id": each.call_id,
        **amount_json(account, "amount", amount_on(account.totals.key, each.amount_nanos)),
        "since": time_json(each.at_us),
        "ended": each.ended,
    }


def _facts(account: Account) -> Iterator[tuple[str, str]]:
    terms, totals = account.budget, account.totals
    yield "account", totals.key
    yield (
        "budget",
        account.name if terms is None else f"{account.name}, {'hard' if terms.hard else 'only warns'}",
    )
    yield "whose", whose(account)
    if account.key_id is not None:
        yield "key", account.key_id
    if account.clients:
        yield "clients", f"{', '.join(account.clients)}: their calls alone"
    ends = "" if account.ends_us is None else f", ends {moment(account.ends_us):%Y-%m-%d %H:%M} UTC"
    yield "window", f"{account.window}{ends}"
    yield "limit", _limit_told(account)
    yield "spent", written(account, totals.posted_nanos)
    yield "set aside", written(account, totals.pending_nanos)
    if account.left is not None:
        yield "left", written(account, account.left)
    yield "released", f"{written(account, totals.released_nanos)}, set aside and not needed"
    if totals.overrun_nanos:
        yield "overrun", f"{written(account, totals.overrun_nanos)}, billed above what was set aside"


def _limit_told(account: Account) -> str:
    if account.limit is None:
        return "none: the policy has no such budget"
    raised = account.totals.topped_up_nanos
    topped_up = f", {written(account, raised)} of it topped up" if raised else ""
    return f"{written(account, account.limit)}{topped_up}"


def _top_ups_table(account: Account, entries: Sequence[ToppedUp]) -> Table:
    table = new_table("topped up (UTC)", "by", "who", "why", numbers=("by",))
    for entry in entries:
        table.add_row(
            f"{moment(entry.at_us):%Y-%m-%d %H:%M}",
            written(account, entry.amount_nanos),
            Text(harmless(entry.who)),
            Text(harmless(entry.why)),
        )
    return table


def _open_table(account: Account, reservations: Sequence[OpenReservation]) -> Table:
    table = new_table("call", "set aside", "since (UTC)", "", numbers=("set aside",))
    for each in reservations:
        table.add_row(
            Text(harmless(each.call_id)),
            written(account, amount_on(account.totals.key, each.amount_nanos)),
            f"{moment(each.at_us):%Y-%m-%d %H:%M:%S}",
            "ended, its cost is not known" if each.ended else "in flight, or lost",
        )
    return table
