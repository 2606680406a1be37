"""What the ledger's calls teach: the most tokens that bodies have had for their length, and how long replies are."""

from itertools import pairwise
from typing import Final

from tierwise.core.calibration import Calibration, Ratio
from tierwise.core.lengths import BOUNDS, Counts, Lengths
from tierwise.stores.ledger.query import Reader

LOOKS_AT: Final = 20_000
"""Latest reservations, or replies, that are looked at."""


def calibration(ledger: Reader) -> Calibration:
    """Learn the ratios of the latest calls, by the model that answered and the kind of text."""
    return Calibration(
        ratios={
            (row["model"], row["kind"]): Ratio(calls=row["calls"], most_per_mille=row["most"])
            for row in ledger.rows(_RATIOS, (LOOKS_AT,))
        }
    )


def lengths(ledger: Reader) -> Lengths:
    """Count the latest replies by their task type, the model that answered, and their length."""
    found: dict[tuple[str, str], dict[int, Counts]] = {}
    for row in ledger.rows(_LENGTHS, (LOOKS_AT,)):
        of_type = found.setdefault((row["task_type"], row["model"]), {})
        of_type[row["class"]] = Counts(whole=row["whole"], cut=row["cut"])
    return Lengths(histograms=found)


_RATIOS: Final = """
SELECT
    e.served_model AS model,
    r.prompt_kind AS kind,
    count(*) AS calls,
    max(
        ((e.input_tokens + e.cache_write_5m_tokens + e.cache_write_1h_tokens + e.cache_read_tokens) * 1000
        + r.prompt_bytes - 1) / r.prompt_bytes
    ) AS most
FROM (
    SELECT call_id, prompt_bytes, prompt_kind FROM entries
    WHERE kind = 'set-aside' AND prompt_bytes > 0
    ORDER BY seq DESC LIMIT ?
) AS r
JOIN entries AS e ON e.call_id = r.call_id AND e.kind = 'posted'
GROUP BY e.served_model, r.prompt_kind
"""

_CLASSES: Final = " ".join(f"WHEN e.output_tokens <= {high} THEN {high}" for _, high in pairwise(BOUNDS))

_LENGTHS: Final = f"""
SELECT d.task_type, e.model, e.class, sum(e.whole) AS whole, sum(e.cut) AS cut
FROM (
    SELECT
        e.call_id,
        e.served_model AS model,
        CASE {_CLASSES} ELSE {BOUNDS[-1]} END AS class,
        CASE WHEN e.stop_reason = 'max_tokens' THEN 0 ELSE 1 END AS whole,
        CASE WHEN e.stop_reason = 'max_tokens' THEN 1 ELSE 0 END AS cut
    FROM entries AS e
    WHERE e.kind = 'posted' AND e.output_tokens IS NOT NULL
    ORDER BY e.seq DESC LIMIT ?
) AS e
JOIN entries AS d ON d.call_id = e.call_id AND d.kind = 'decided'
WHERE d.task_type IS NOT NULL
GROUP BY d.task_type, e.model, e.class
"""  # noqa: S608 — made of this module's own texts
