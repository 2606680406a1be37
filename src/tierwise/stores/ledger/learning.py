"""What the ledger's calls teach of texts: the most tokens that bodies have had for their length."""

from typing import Final

from tierwise.core.calibration import Calibration, Ratio
from tierwise.stores.ledger.query import Reader

LOOKS_AT: Final = 20_000
"""Latest reservations that are looked at."""


def calibration(ledger: Reader) -> Calibration:
    """Learn the ratios of the latest calls, by the model that answered and the kind of text."""
    return Calibration(
        ratios={
            (row["model"], row["kind"]): Ratio(calls=row["calls"], most_per_mille=row["most"])
            for row in ledger.rows(_RATIOS, (LOOKS_AT,))
        }
    )


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
