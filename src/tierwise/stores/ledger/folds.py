"""Folds over entries, as SQL: what some entries add to the totals of reports, to balances, to what is open.

Each entry adds something by itself, which depends on it and on earlier entries of its call only. So the fold of all
entries is the fold of those up to a position plus the fold of those after it, wherever the position lies; and the
fold of some calls' entries is what the fold of all would lose with them.

A decision adds a call. An ending adds what its call consumed; the first entry that knows the call's cost, an ending
or a `settled`, adds that. An ending that does not know it adds a call of unknown cost, which a `settled` takes
away. By model, a call counts under `NO_REPLY` when it is decided: readers move it to the model that served it.

Which entries: a condition on the alias `e`, as the functions of `Which` write it.
"""

# ruff: noqa: S608 — the texts are of this module's own making, and values are parameters

from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from tierwise.stores.ledger.query import Dialect

HOUR_US: Final = 3_600_000_000

NO_REPLY: Final = "(no reply)"

AUDIT: Final = "(audit)"
"""By type, the audit's own calls count under this name. They have no cost elsewhere: nobody asked for them."""

SUMS: Final = (
    "calls", "finished", "failed", "unknown_cost", "cost_nanos", "at_least_nanos", "at_frontier_nanos",
    "as_asked_nanos", "as_decided_nanos", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens",
    "truncated", "truncation_waste_nanos",
)  # fmt: skip
"""Columns of the totals that are sums; the three of other models are NULL where nothing is known."""

AMOUNTS: Final = (
    "reservations", "reserved_nanos", "pending_nanos", "posted_nanos", "released_nanos", "overrun_nanos",
    "topped_up_nanos",
)  # fmt: skip
"""Columns of the balances that are sums."""

_DIMENSIONS: Final[Mapping[str, str]] = {
    "type": "task_type",
    "agent": "agent",
    "run": "run_id",
    "model": "served_model",
    "tier": "tier",
    "key": "key_id",
}
"""Each dimension's column in the fold of calls."""

Which: TypeAlias = str


def between(dialect: Dialect) -> Which:
    """Entries after a position, up to another: two parameters."""
    return f"e.{dialect.position} > ? AND e.{dialect.position} <= ?"


OF_PRUNED: Final[Which] = "e.call_id IN (SELECT call_id FROM pruning)"
"""The entries of the calls in the table `pruning`."""

OF_SPAN: Final[Which] = (
    "e.call_id IN (SELECT call_id FROM entries WHERE kind = 'decided' AND at_us >= ? AND at_us < ?)"
)
"""The entries of calls that were read in a span: two parameters, in microseconds since 1970 UTC."""


def events(dialect: Dialect, which: Which) -> str:
    """Write the CTE `events`: what each entry adds, with the hour and the dimensions of its call."""
    return f"WITH {_picked(which)}, events AS ({_EVENTS.format(position=dialect.position)})"


def of_dimension(dimension: str, *, key: str | None = None) -> str:
    """Write a SELECT of `hour`, `key` and the sums of each of the `events`, of one dimension."""
    return f"SELECT hour, {key or _DIMENSIONS[dimension]} AS key, {_listed(SUMS)} FROM events"


def totals(dialect: Dialect, which: Which) -> str:
    """Write the query of what some entries add to the totals: `dimension`, `hour`, `key` and `SUMS`."""
    columns = _listed(("hour", *_DIMENSIONS.values()))
    arms = (
        f"SELECT '{dimension}' AS dimension, hour, {column} AS key, {summed(SUMS)} FROM grouped GROUP BY hour, {column}"
        for dimension, column in _DIMENSIONS.items()
    )
    return (
        f"{events(dialect, which)}, "
        f"grouped AS MATERIALIZED (SELECT {columns}, {summed(SUMS)} FROM events GROUP BY {columns}) "
        + " UNION ALL ".join(arms)
    )


def unknown_types(which: Which) -> str:
    """Write the query of the types that are not known: `hour`, `name`, `nearest`, `calls`, `last_us`."""
    return (
        f"SELECT e.at_us / {HOUR_US} AS hour, e.unknown_type AS name, coalesce(e.nearest_type, '') AS nearest, "
        "count(*) AS calls, max(e.at_us) AS last_us FROM entries AS e "
        f"WHERE {which} AND e.kind = 'decided' AND e.unknown_type IS NOT NULL "
        f"GROUP BY e.at_us / {HOUR_US}, e.unknown_type, coalesce(e.nearest_type, '')"
    )


def balances(dialect: Dialect, which: Which) -> str:
    """Write the query of what some entries add to each account: `account` and `AMOUNTS`."""
    parts = _MOVES.format(
        position=dialect.position,
        each=dialect.each.format("together.accounts"),
    )
    return f"WITH {_picked(which)}, {parts} SELECT account, {summed(AMOUNTS)} FROM moves GROUP BY account"


def opened(dialect: Dialect, which: Which, *, until: bool) -> str:
    """Write the query of the calls that set money aside and whose cost is not known.

    Args:
        dialect: the database's.
        which: the entries that set aside.
        until: whether only what is known up to a position counts: one parameter more.
    """
    known = f" AND k.{dialect.position} <= ?" if until else ""
    return (
        f"SELECT e.call_id FROM entries AS e WHERE {which} AND e.kind = 'set-aside' AND NOT EXISTS ("
        f"SELECT 1 FROM entries AS k WHERE k.call_id = e.call_id AND {_knows('k')}{known})"
    )


def closed(which: Which) -> str:
    """Write the query of the calls whose cost some entries know."""
    return f"SELECT e.call_id FROM entries AS e WHERE {which} AND {_knows('e')}"


def summed(columns: Iterable[str]) -> str:
    """Write the sums of columns under their own names."""
    return ", ".join(f"sum({column}) AS {column}" for column in columns)


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(columns)


def _knows(alias: str) -> str:
    return f"{alias}.kind IN ('posted', 'failed', 'settled') AND {alias}.cost_nanos IS NOT NULL"


def _picked(which: Which) -> str:
    return f"picked AS NOT MATERIALIZED (SELECT e.* FROM entries AS e WHERE {which})"


_OF_ITS_CALL: Final = f"""
    d.at_us / 3600000000 AS hour,
    CASE WHEN d.purpose = 'audit' THEN '{AUDIT}' ELSE coalesce(d.task_type, '(undeclared)') END AS task_type,
    coalesce(d.agent, '(none)') AS agent,
    coalesce(d.run_id, '(none)') AS run_id,
    CASE WHEN d.tier IS NULL THEN '(none)' WHEN d.acts = 1 THEN d.tier ELSE '(as asked)' END AS tier,
    coalesce(d.key_id, '(none)') AS key_id
"""

_EVENTS: Final = f"""
SELECT
    {_OF_ITS_CALL}, coalesce(e.served_model, '{NO_REPLY}') AS served_model,
    0 AS calls,
    CASE WHEN e.kind = 'posted' THEN 1 ELSE 0 END AS finished,
    CASE WHEN e.kind = 'failed' THEN 1 ELSE 0 END AS failed,
    CASE WHEN s.call_id IS NULL AND e.cost_nanos IS NULL THEN 1 ELSE 0 END AS unknown_cost,
    CASE WHEN s.call_id IS NULL THEN coalesce(e.cost_nanos, 0) ELSE 0 END AS cost_nanos,
    CASE WHEN s.call_id IS NULL AND e.cost_nanos IS NULL THEN coalesce(e.at_least_nanos, 0) ELSE 0 END
        AS at_least_nanos,
    CASE WHEN d.purpose IS NULL THEN e.at_frontier_nanos END AS at_frontier_nanos,
    CASE WHEN d.purpose IS NULL THEN e.as_asked_nanos END AS as_asked_nanos,
    CASE WHEN d.purpose IS NULL THEN e.as_decided_nanos END AS as_decided_nanos,
    coalesce(e.input_tokens, 0) AS input_tokens,
    coalesce(e.cache_read_tokens, 0) AS cache_read_tokens,
    coalesce(e.cache_write_5m_tokens + e.cache_write_1h_tokens, 0) AS cache_write_tokens,
    coalesce(e.output_tokens, 0) AS output_tokens,
    CASE WHEN e.stop_reason = 'max_tokens' THEN 1 ELSE 0 END AS truncated,
    CASE WHEN e.stop_reason = 'max_tokens' AND s.call_id IS NULL THEN coalesce(e.cost_nanos, 0) ELSE 0 END
        AS truncation_waste_nanos
FROM picked AS e
JOIN entries AS d ON d.call_id = e.call_id AND d.kind = 'decided' AND d.{{position}} < e.{{position}}
LEFT JOIN entries AS s ON s.call_id = e.call_id AND s.kind = 'settled' AND s.{{position}} < e.{{position}}
WHERE e.kind IN ('posted', 'failed')
UNION ALL
SELECT
    {_OF_ITS_CALL}, '{NO_REPLY}', 1, 0, 0, 0, 0, 0,
    CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), 0, 0, 0, 0, 0, 0
FROM picked AS d
WHERE d.kind = 'decided'
UNION ALL
SELECT
    {_OF_ITS_CALL}, coalesce(e.served_model, '{NO_REPLY}'), 0, 0, 0,
    CASE WHEN e.call_id IS NULL THEN 0 ELSE -1 END, s.cost_nanos, -coalesce(e.at_least_nanos, 0),
    CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), 0, 0, 0, 0, 0,
    CASE WHEN e.stop_reason = 'max_tokens' THEN s.cost_nanos ELSE 0 END
FROM picked AS s
JOIN entries AS d ON d.call_id = s.call_id AND d.kind = 'decided' AND d.{{position}} < s.{{position}}
LEFT JOIN entries AS e ON e.call_id = s.call_id AND e.kind IN ('posted', 'failed') AND e.{{position}} < s.{{position}}
WHERE s.kind = 'settled' AND e.cost_nanos IS NULL
"""

_MOVES: Final = f"""
shifts AS (
    SELECT
        e.accounts AS accounts, 1 AS opened, e.reserved_nanos AS reserved,
        0 AS closed, 0 AS amount, 0 AS cost, 0 AS billed, 0 AS released, 0 AS overrun
    FROM picked AS e
    WHERE e.kind = 'set-aside'
    UNION ALL
    SELECT
        r.accounts, 0, 0,
        1, r.reserved_nanos, e.cost_nanos, CASE WHEN e.cost_nanos > 1 THEN 1 ELSE e.cost_nanos END,
        CASE WHEN r.reserved_nanos > e.cost_nanos THEN r.reserved_nanos - e.cost_nanos ELSE 0 END,
        CASE WHEN e.cost_nanos > r.reserved_nanos THEN e.cost_nanos - r.reserved_nanos ELSE 0 END
    FROM picked AS e
    JOIN entries AS r ON r.call_id = e.call_id AND r.kind = 'set-aside' AND r.{{position}} < e.{{position}}
    WHERE {_knows("e")} AND NOT EXISTS (
        SELECT 1 FROM entries AS k WHERE k.call_id = e.call_id AND k.{{position}} < e.{{position}} AND {_knows("k")}
    )
),
together AS MATERIALIZED (
    SELECT
        accounts, sum(opened) AS opened, sum(reserved) AS reserved, sum(closed) AS closed, sum(amount) AS amount,
        sum(cost) AS cost, sum(billed) AS billed, sum(released) AS released, sum(overrun) AS overrun
    FROM shifts
    GROUP BY accounts
),
moves AS (
    SELECT
        account.value AS account,
        opened AS reservations,
        CASE WHEN substr(account.value, 1, 1) = '#' THEN opened ELSE reserved END AS reserved_nanos,
        CASE WHEN substr(account.value, 1, 1) = '#' THEN opened - closed ELSE reserved - amount END AS pending_nanos,
        CASE WHEN substr(account.value, 1, 1) = '#' THEN billed ELSE cost END AS posted_nanos,
        CASE WHEN substr(account.value, 1, 1) = '#' THEN closed - billed ELSE released END AS released_nanos,
        CASE WHEN substr(account.value, 1, 1) = '#' THEN 0 ELSE overrun END AS overrun_nanos,
        0 AS topped_up_nanos
    FROM together CROSS JOIN {{each}}
    UNION ALL
    SELECT e.account, 0, 0, 0, 0, 0, 0, e.amount_nanos FROM picked AS e WHERE e.kind = 'topped-up'
)
"""
"""Calls of the same accounts are added up before their accounts are taken apart: there are far fewer such lists."""
