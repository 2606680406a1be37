"""What was told of tasks and runs, in the order in which it was recorded."""

# ruff: noqa: S608 — the text is of our own making, and values are parameters

from collections.abc import Iterator

from tierwise.core.ledger import Outcome
from tierwise.stores.ledger.query import Reader
from tierwise.stores.ledger.rows import AUDITED, outcome


def outcomes(ledger: Reader, *, since_us: int) -> Iterator[Outcome]:
    """Read the outcomes that were told since a time."""
    query = (
        f"SELECT {', '.join(AUDITED)} FROM entries WHERE kind = 'outcome' AND at_us >= ? "
        f"ORDER BY {ledger.dialect.position}"
    )
    return map(outcome, ledger.rows(query, (since_us,)))
