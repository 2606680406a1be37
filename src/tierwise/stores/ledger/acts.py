"""What came of the audit's verdicts, as the ledger holds it: acts, and replies that were checked after them."""

from typing import Final

from tierwise.core.ledger import Acted, Checked
from tierwise.stores.ledger.query import Reader
from tierwise.stores.ledger.rows import AUDITED, audited


def acts(ledger: Reader) -> tuple[Acted, ...]:
    """Read all of them, oldest first."""
    query = f"SELECT {', '.join(AUDITED)} FROM entries WHERE {_ACTED} ORDER BY {ledger.dialect.position}"  # noqa: S608 — names of our own
    return tuple(entry for entry in map(audited, ledger.rows(query)) if isinstance(entry, Acted))


def count_acts(ledger: Reader) -> int:
    """Count them: as long as it is the same number, they are the same."""
    (row,) = ledger.rows(f"SELECT count(*) AS acts FROM entries WHERE {_ACTED}")  # noqa: S608 — a name of our own
    return int(row["acts"])


def checks(ledger: Reader) -> tuple[Checked, ...]:
    """Read all counts of checked replies, oldest first."""
    query = (
        f"SELECT {', '.join(AUDITED)} FROM entries WHERE kind = 'checked' ORDER BY {ledger.dialect.position}"  # noqa: S608 — names of our own
    )
    return tuple(entry for entry in map(audited, ledger.rows(query)) if isinstance(entry, Checked))


_ACTED: Final = "kind = 'acted'"
