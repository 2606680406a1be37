"""Balances in a Valkey, taken up for one process: the store, its event loop's side, and its conversations."""

from contextlib import closing
from pathlib import Path
from typing import Final

from tierwise.engine.balances import Balances, SharedConversations
from tierwise.engine.shared_budgets import SharedBudgets
from tierwise.stores.budgets.address import parse_address
from tierwise.stores.budgets.timing import Timing
from tierwise.stores.budgets.truth import LedgerTruth
from tierwise.stores.budgets.valkey import ValkeyBudgets
from tierwise.stores.ledger.opening import read_ledger
from tierwise.stores.ledger.reservations import ledger_id

TIMING: Final = Timing()


def share(ledger: Path | str, address: str, *, position: int, ready_within_s: float) -> Balances:
    """Take up the balances at an address, for the gateways of one ledger.

    Args:
        ledger: where it is; its id names what it keeps in the store.
        address: of the Valkey.
        position: as `Balances.position`.
        ready_within_s: how long to wait for the store, in seconds.

    Raises:
        LedgerError: the ledger cannot be read.
        BudgetStoreUnfit: the store is not set up to hold money.
    """
    with closing(read_ledger(ledger)) as reader:
        namespace = ledger_id(reader)
    store = ValkeyBudgets(
        parse_address(address),
        LedgerTruth(lambda: read_ledger(ledger)),
        namespace=namespace,
        timing=TIMING,
    )
    store.wait_until_ready(ready_within_s)
    sides: list[SharedBudgets] = []

    def for_loop() -> SharedBudgets:
        sides[:] = [SharedBudgets(store)]
        return sides[0]

    def conversations() -> SharedConversations | None:
        return sides[0] if sides else None

    return Balances(
        store=store,
        for_loop=for_loop,
        position=position,
        conversations=conversations,
        share=store.keep,
        trouble=lambda: store.trouble,
        close=store.close,
    )
