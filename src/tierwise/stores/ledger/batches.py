"""Items of Message Batches: the calls that a batch's results are of, by the provider's id and the caller's own ids."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from tierwise.core.tasks import LONGEST_ID
from tierwise.stores.ledger.query import Reader

AT_ONCE: Final = 500
"""Items that one query asks for."""

ITEMS_FOR_S: Final = 30 * 86_400
"""How long an item is kept at least, in seconds: its result can be fetched for 29 days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SentItem:
    """An item whose result is still to be taken in."""

    call_id: str
    at_us: int
    """When its batch was read, in microseconds since 1970 UTC."""
    requested_model: str
    decided_model: str
    acts: bool


def open_items(ledger: Reader, batch_id: str, custom_ids: Sequence[str]) -> dict[str, SentItem]:
    """Return those items of a batch that the ledger has, by their custom ids, whose ending nobody has told yet.

    Of several batches under one id, the items of the first count: the provider has and bills one. What was settled
    without an ending, by a person or as assumed, has its cost already: it is left out.

    Args:
        ledger: to read.
        batch_id: the provider's id of the batch.
        custom_ids: at most `AT_ONCE`.

    Raises:
        LedgerUnavailable: it cannot be read.
    """
    wanted = {custom_id[:LONGEST_ID]: custom_id for custom_id in custom_ids}
    query = _OPEN_ITEMS.format(places=", ".join("?" * len(wanted)), position=ledger.dialect.position)
    return {
        wanted[row["custom_id"]]: SentItem(
            call_id=row["call_id"],
            at_us=row["at_us"],
            requested_model=row["requested_model"],
            decided_model=row["decided_model"],
            acts=bool(row["acts"]),
        )
        for row in ledger.rows(query, (batch_id, *wanted))
    }


def is_known(ledger: Reader, batch_id: str) -> bool:
    """Tell whether the ledger has a batch under an id of the provider's.

    Raises:
        LedgerUnavailable: it cannot be read.
    """
    return next(ledger.rows(_KNOWN, (batch_id,)), None) is not None


def made_with(ledger: Reader, batch_ids: Collection[str], key_id: str) -> set[str]:
    """Return those of some batches that were made with a credential, as far as the ledger has them.

    Raises:
        LedgerUnavailable: it cannot be read.
    """
    ids, made = iter(batch_ids), set[str]()
    while some := list(islice(ids, AT_ONCE)):
        query = _MADE_WITH.format(places=", ".join("?" * len(some)))
        made |= {row["batch_id"] for row in ledger.rows(query, (*some, key_id))}
    return made


_KNOWN: Final = "SELECT 1 FROM entries WHERE batch_id = ? AND kind = 'batched' LIMIT 1"

_MADE_WITH: Final = """
SELECT b.batch_id FROM entries AS b WHERE b.batch_id IN ({places}) AND b.kind = 'batched' AND (
    SELECT d.key_id FROM entries AS d WHERE d.batch_id = b.call_id AND d.kind = 'decided' LIMIT 1
) = ?
"""
"""All items of a batch have one credential: one of them is asked, and not a hundred thousand."""

_OPEN_ITEMS: Final = """
SELECT d.call_id, d.custom_id, d.at_us, d.requested_model, d.decided_model, d.acts
FROM entries AS d
WHERE d.batch_id = (
    SELECT call_id FROM entries WHERE batch_id = ? AND kind = 'batched' ORDER BY {position} + 0 LIMIT 1
)
AND d.kind = 'decided' AND d.custom_id IN ({places})
AND NOT EXISTS (
    SELECT 1 FROM entries AS e WHERE e.call_id = d.call_id AND e.kind IN ('posted', 'failed', 'settled')
)
"""
"""The sum keeps a planner from walking all entries by their position, which looks cheap to it."""
