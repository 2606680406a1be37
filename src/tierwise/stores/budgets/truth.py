"""The ledger as shared balances are rebuilt from it, and as it is asked about the calls of gateways that died."""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager

from tierwise.money import Nanos
from tierwise.stores.budgets.rebuild import Loaded
from tierwise.stores.ledger import reservations
from tierwise.stores.ledger.query import Reader


class LedgerTruth:
    """Reads a ledger, opened anew for each question: they are seldom asked."""

    def __init__(self, opened: Callable[[], Reader]) -> None:
        """Read what `opened` opens for reading; called on a thread of the shared balances."""
        self._opened = opened

    def load(self) -> Loaded:
        """Return what all accounts hold, from one snapshot of the ledger.

        Raises:
            LedgerUnavailable: the ledger cannot be read.
        """
        with self._reader() as ledger, ledger.snapshot():
            top_ups = ledger.rows("SELECT call_id AS entry_id FROM entries WHERE kind = 'topped-up'")
            return Loaded(
                balances=reservations.balances(ledger),
                open_reservations=reservations.open_reservations(ledger),
                top_ups=[row["entry_id"] for row in top_ups],
            )

    def endings(self, call_ids: Sequence[str]) -> Mapping[str, Nanos | None]:
        """Return the cost of those calls that have ended; None where it is not known.

        Raises:
            LedgerUnavailable: the ledger cannot be read.
        """
        with self._reader() as ledger:
            return reservations.endings(ledger, call_ids)

    def known(self, call_ids: Sequence[str]) -> Collection[str]:
        """Return those of a few hundred calls that have a reservation in the ledger.

        Raises:
            LedgerUnavailable: the ledger cannot be read.
        """
        places = ", ".join("?" * len(call_ids))
        query = f"SELECT call_id FROM entries WHERE kind = 'set-aside' AND call_id IN ({places})"  # noqa: S608 — only places for parameters
        with self._reader() as ledger:
            return {row["call_id"] for row in ledger.rows(query, call_ids)}

    @contextmanager
    def _reader(self) -> Generator[Reader]:
        ledger = self._opened()
        try:
            yield ledger
        finally:
            ledger.close()
