"""The tasks that a ledger knows of: its latest calls that acted, gathered, with what was told of how they came out."""

from collections.abc import Iterable
from typing import Final

from tierwise.audit.tasks import Made, Task, finished
from tierwise.stores.ledger.outcomes import outcomes
from tierwise.stores.ledger.query import Reader, Record

LOOKS_AT: Final = 100_000
"""Latest calls that are looked at."""


def finished_tasks(
    ledger: Reader, types: Iterable[str], *, until_us: int, idle_us: int, looks_at: int = LOOKS_AT
) -> list[Task]:
    """Read the finished tasks of some types.

    Args:
        ledger: to read.
        types: the task types.
        until_us: only what was told, and had ended, then; in microseconds since 1970 UTC.
        idle_us: how long after its last call a task is over.
        looks_at: the most calls that are read.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    names = sorted(types)
    if not names:
        return []
    query = _CALLS.format(types=", ".join("?" * len(names)))
    made = [_made(row, until_us) for row in ledger.rows(query, (until_us, *names, looks_at))]
    begin_us = min((call.at_us for call in made), default=0)
    return finished(
        made,
        (told for told in outcomes(ledger, since_us=0) if told.at_us < until_us),
        until_us=until_us,
        idle_us=idle_us,
        whole_since_us=begin_us + idle_us if len(made) == looks_at else 0,
    )


def _made(row: Record, until_us: int) -> Made:
    known = row["ended_us"] is not None and row["ended_us"] < until_us
    return Made(
        call_id=row["call_id"],
        at_us=row["at_us"],
        ended_us=row["ended_us"] if known else None,
        task_type=row["task_type"],
        tier=row["tier"],
        model=row["decided_model"],
        task_id=row["task_id"],
        run_id=row["run_id"],
        key_id=row["key_id"],
        first_call_id=row["first_call_id"],
        probability=row["selection_probability"],
        cost_nanos=row["cost_nanos"] if known else None,
    )


_CALLS: Final = """
SELECT call_id, at_us, ended_us, task_type, tier, decided_model, task_id, run_id, key_id, first_call_id,
    selection_probability, cost_nanos
FROM calls
WHERE at_us < ? AND purpose IS NULL AND acts = 1 AND decided_model IS NOT NULL AND tier IS NOT NULL
    AND task_type IN ({types})
ORDER BY at_us DESC LIMIT ?
"""
