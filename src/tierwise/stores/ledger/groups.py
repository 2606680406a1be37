"""Groups: the ledger's calls by UTC day, key and model, as they are compared with the provider's report.

A call belongs to the day on which it ended; one without an ending, in flight or lost with its gateway, to the day on
which it was read. Its model is the one that served it, or the one that was asked where nothing came back. Calls that
were never sent are left out.
"""

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Final, TypeAlias

from tierwise.core.charges import KeptCall, OurCalls
from tierwise.stores.ledger.query import Reader, Record
from tierwise.usage import Usage


def our_calls(ledger: Reader, *, since: date, until: date) -> tuple[OurCalls, ...]:
    """Fold the calls of the days from `since` up to `until`, which is not included, in order."""
    span = (_begin_us(since - LONGEST_CALL), _begin_us(until), _begin_us(since), _begin_us(until))
    with ledger.snapshot():
        kept = _kept(ledger, span)
        found = [_our_calls(row, kept) for row in ledger.rows(_SUMS, span)]
    return tuple(sorted(found, key=lambda calls: (calls.day, calls.key or "", calls.model)))


def key_ids(ledger: Reader) -> tuple[str, ...]:
    """Return the names of all credentials that the ledger has calls of, in order."""
    return tuple(row["key_id"] for row in ledger.rows(_KEYS))


def pruned_until(ledger: Reader) -> date | None:
    """Return the day after the last one of which calls were deleted; None where none were."""
    (row,) = ledger.rows("SELECT max(hour) AS hour FROM totals WHERE pruned = 1")
    return None if row["hour"] is None else _EPOCH + timedelta(days=row["hour"] // 24 + 1)


LONGEST_CALL: Final = timedelta(days=1)
"""A call is looked for among those read up to so long before the day on which it ended."""

_DAY_US: Final = 86_400_000_000
_EPOCH: Final = date(1970, 1, 1)

_Span: TypeAlias = tuple[int, int, int, int]
_Key: TypeAlias = tuple[int, str | None, str]

_CALLS: Final = f"""
SELECT
    c.call_id, c.ending, c.key_id, c.basis, c.cost_nanos, c.at_least_nanos, c.input_tokens, c.cache_write_5m_tokens,
    c.cache_write_1h_tokens, c.cache_read_tokens, c.output_tokens, c.web_search_requests,
    coalesce(c.ended_us, c.at_us) / {_DAY_US} AS day,
    coalesce(c.served_model, CASE WHEN c.acts <> 0 THEN c.decided_model ELSE c.requested_model END) AS model
FROM calls AS c
WHERE c.at_us >= ? AND c.at_us < ? AND coalesce(c.ended_us, c.at_us) >= ? AND coalesce(c.ended_us, c.at_us) < ?
    AND c.max_tokens_sent IS NOT NULL
"""  # noqa: S608 — made of this module's own texts
"""Integer division is exact in both databases."""

_COUNTED: Final = "ending = 'posted' AND cost_nanos IS NOT NULL AND basis IS NULL"

_SUMS: Final = f"""
SELECT
    day, key_id, model,
    count(*) AS calls,
    coalesce(sum(cost_nanos), 0) AS cost_nanos,
    coalesce(sum(cost_nanos) FILTER (WHERE basis = 'assumed'), 0) AS assumed_nanos,
    count(*) FILTER (WHERE cost_nanos IS NULL OR basis IS NOT NULL) AS uncounted,
    coalesce(sum(input_tokens) FILTER (WHERE {_COUNTED}), 0) AS input_tokens,
    coalesce(sum(cache_write_5m_tokens) FILTER (WHERE {_COUNTED}), 0) AS cache_write_5m_tokens,
    coalesce(sum(cache_write_1h_tokens) FILTER (WHERE {_COUNTED}), 0) AS cache_write_1h_tokens,
    coalesce(sum(cache_read_tokens) FILTER (WHERE {_COUNTED}), 0) AS cache_read_tokens,
    coalesce(sum(output_tokens) FILTER (WHERE {_COUNTED}), 0) AS output_tokens,
    coalesce(sum(web_search_requests) FILTER (WHERE {_COUNTED}), 0) AS web_search_requests
FROM ({_CALLS}) AS call
GROUP BY day, key_id, model
"""  # noqa: S608 — made of this module's own texts

_UNKNOWN: Final = f"""
SELECT call.day, call.key_id, call.model, call.call_id, call.at_least_nanos, r.reserved_nanos
FROM ({_CALLS}) AS call
LEFT JOIN entries AS r ON r.call_id = call.call_id AND r.kind = 'set-aside'
WHERE call.cost_nanos IS NULL
ORDER BY call.call_id
"""  # noqa: S608 — made of this module's own texts

_KEYS: Final = (
    "SELECT DISTINCT key_id FROM entries WHERE kind = 'decided' AND key_id IS NOT NULL ORDER BY key_id"
)


def _begin_us(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000


def _kept(ledger: Reader, span: _Span) -> dict[_Key, list[KeptCall]]:
    kept: defaultdict[_Key, list[KeptCall]] = defaultdict(list)
    for row in ledger.rows(_UNKNOWN, span):
        kept[_key(row)].append(
            KeptCall(
                call_id=row["call_id"],
                at_least_nanos=row["at_least_nanos"] or 0,
                reserved_nanos=row["reserved_nanos"],
            )
        )
    return kept


def _key(row: Record) -> _Key:
    return row["day"], row["key_id"], row["model"]


def _our_calls(row: Record, kept: Mapping[_Key, list[KeptCall]]) -> OurCalls:
    return OurCalls(
        day=_EPOCH + timedelta(days=row["day"]),
        key=row["key_id"],
        model=row["model"],
        calls=row["calls"],
        cost_nanos=int(row["cost_nanos"]),
        assumed_nanos=int(row["assumed_nanos"]),
        usage=Usage(
            input_tokens=int(row["input_tokens"]),
            cache_write_5m_tokens=int(row["cache_write_5m_tokens"]),
            cache_write_1h_tokens=int(row["cache_write_1h_tokens"]),
            cache_read_tokens=int(row["cache_read_tokens"]),
            output_tokens=int(row["output_tokens"]),
            web_search_requests=int(row["web_search_requests"]),
        ),
        counted=not row["uncounted"],
        kept=tuple(kept.get(_key(row), ())),
    )
