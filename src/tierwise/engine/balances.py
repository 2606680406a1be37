"""The balances of a gateway, taken up at its start: its own, or those of a store that several share."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Protocol

from tierwise.core.ledger import Entry
from tierwise.engine.budgets import AsyncBudgets, BudgetStore, LocalBudgets
from tierwise.engine.desk import Desk
from tierwise.engine.upkeep import Forgetful, Upkeep
from tierwise.errors import MissingExtra
from tierwise.stores.budgets.memory import MemoryBudgets
from tierwise.stores.ledger.opening import read_ledger
from tierwise.stores.ledger.reservations import balances, open_reservations, told_since


class SharedConversations(Protocol):
    """Tiers of conversations, as other gateways know them."""

    async def tier(self, key: str) -> str | None:
        """Return the tier of a conversation; None where nobody knows it, or nobody can say in time."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Balances:
    """The balances, and what goes with where they are."""

    store: BudgetStore
    """For threads."""
    for_loop: Callable[[], AsyncBudgets]
    """Makes the side of the event loop that calls it."""
    position: int
    """Up to which of the ledger's entries the balances know what was told of costs and limits."""
    forgetful: Forgetful | None = None
    """The balances, where they are this process's."""
    conversations: Callable[[], SharedConversations | None] = lambda: None
    """What other gateways know of conversations, after `for_loop`; None where there are no others."""
    share: Callable[[str, str, int], None] | None = None
    """Tells other gateways the tier of a conversation: its key, the tier, for how many seconds."""
    trouble: Callable[[], str | None] = lambda: None
    """Why the balances cannot be used now; None where they can."""
    close: Callable[[], None] = lambda: None
    """Lets go of them, once what is left is applied."""


def hold_balances(ledger: Path | str, *, store: str | None) -> Balances:
    """Take up the balances of a ledger.

    What a gateway that is dead had reserved and not settled is kept. Waits a little for a shared store to be ready; one
    that is not may come later, and until then its calls are refused.

    Args:
        ledger: where it is.
        store: address of the Valkey that holds the balances; None: this process does.

    Raises:
        LedgerError: the ledger cannot be read.
        BudgetStoreUnfit: the store is not set up to hold money.
        MissingExtra: the store is a Valkey, and its client is not installed.
    """
    return _own(ledger) if store is None else _shared(ledger, store)


def upkeep_of(
    balances: Balances,
    ledger: Path | str,
    *,
    desk: Desk,
    put: Callable[[Entry], None],
    clock: Callable[[], int],
) -> Upkeep:
    """Share a desk's conversations with the other gateways of the balances, and make their upkeep.

    Args:
        balances: as they were taken up.
        ledger: where the ledger is.
        desk: opens the calls.
        put: hands an entry to the ledger.
        clock: tells the time in microseconds since 1970.
    """
    desk.share = balances.share
    return Upkeep(
        read=lambda: read_ledger(ledger),
        put=put,
        position=balances.position,
        budgets=balances.store,
        forgetful=balances.forgetful,
        desk=desk,
        clock=clock,
    )


_BEFORE_ALL: Final = -1
_READY_WITHIN_S: Final = 10.0


def _own(ledger: Path | str) -> Balances:
    held = MemoryBudgets()
    with closing(read_ledger(ledger)) as reader, reader.snapshot():
        held.resume(balances(reader), open_reservations(reader))
        position, _ = told_since(reader, _BEFORE_ALL)
    return Balances(store=held, for_loop=lambda: LocalBudgets(held), position=position, forgetful=held)


def _shared(ledger: Path | str, address: str) -> Balances:
    """All that was ever told is told again: it counts once, and nobody may have listened when it was."""
    if find_spec("redis") is None:
        raise MissingExtra(package="redis", extra="valkey")
    from tierwise.engine.shared_balances import share  # noqa: PLC0415 — an optional extra

    return share(ledger, address, position=_BEFORE_ALL, ready_within_s=_READY_WITHIN_S)
