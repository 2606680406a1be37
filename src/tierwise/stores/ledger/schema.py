"""The ledger's tables, as the migrations that make them: each brings a file from one version to the next.

One table holds every entry, of whatever kind; a kind uses the columns that it has. The view `calls` has a call's
decision beside its ending, and its cost, whichever entry told it. The other tables are derived from the entries:
`tierwise.stores.ledger.summary` says how.
"""

from typing import Final

MIGRATIONS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE entries (
        seq INTEGER PRIMARY KEY,
        call_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        at_us INTEGER NOT NULL,
        -- decided
        task_type TEXT,
        declared TEXT,
        unknown_type TEXT,
        nearest_type TEXT,
        task_id TEXT,
        run_id TEXT,
        agent TEXT,
        requested_model TEXT,
        tier TEXT,
        decided_model TEXT,
        acts INTEGER,
        stream INTEGER,
        max_tokens_asked INTEGER,
        max_tokens_sent INTEGER,
        policy_version TEXT,
        selection_probability REAL,
        reasons TEXT,
        changes TEXT,
        -- posted, failed
        served_model TEXT,
        stop_reason TEXT,
        input_tokens INTEGER,
        cache_write_5m_tokens INTEGER,
        cache_write_1h_tokens INTEGER,
        cache_read_tokens INTEGER,
        output_tokens INTEGER,
        web_search_requests INTEGER,
        thinking_tokens INTEGER,
        cost_nanos INTEGER,
        at_least_nanos INTEGER,
        price_version TEXT,
        at_frontier_nanos INTEGER,
        as_asked_nanos INTEGER,
        as_decided_nanos INTEGER,
        until_sent_us INTEGER,
        until_first_byte_us INTEGER,
        until_end_us INTEGER,
        request_id TEXT,
        fault TEXT,
        error TEXT,
        status INTEGER
    ) STRICT;

    CREATE UNIQUE INDEX entries_by_call ON entries (call_id, kind);
    CREATE INDEX entries_by_time ON entries (at_us) WHERE kind = 'decided';

    CREATE TRIGGER entries_are_not_changed BEFORE UPDATE ON entries
    BEGIN SELECT RAISE(ABORT, 'an entry is never changed'); END;

    CREATE TRIGGER entries_are_not_deleted BEFORE DELETE ON entries
    BEGIN SELECT RAISE(ABORT, 'an entry is never deleted'); END;

    CREATE VIEW calls AS
    SELECT
        d.call_id, d.at_us, d.task_type, d.declared, d.unknown_type, d.nearest_type, d.task_id, d.run_id, d.agent,
        d.requested_model, d.tier, d.decided_model, d.acts, d.stream, d.max_tokens_asked, d.max_tokens_sent,
        d.policy_version, d.selection_probability, d.reasons, d.changes,
        e.kind AS ending, e.at_us AS ended_us, e.served_model, e.stop_reason, e.input_tokens,
        e.cache_write_5m_tokens, e.cache_write_1h_tokens, e.cache_read_tokens, e.output_tokens,
        e.web_search_requests, e.thinking_tokens, e.cost_nanos, e.at_least_nanos, e.price_version,
        e.at_frontier_nanos, e.as_asked_nanos, e.as_decided_nanos, e.until_sent_us, e.until_first_byte_us,
        e.until_end_us, e.request_id, e.fault, e.error, e.status
    FROM entries AS d
    LEFT JOIN entries AS e ON e.call_id = d.call_id AND e.kind IN ('posted', 'failed')
    WHERE d.kind = 'decided';
    """,
    """
    ALTER TABLE entries ADD COLUMN reserved_nanos INTEGER;
    ALTER TABLE entries ADD COLUMN accounts TEXT;

    CREATE INDEX entries_set_aside ON entries (seq) WHERE kind = 'set-aside';
    """,
    """
    ALTER TABLE entries ADD COLUMN key_id TEXT;
    ALTER TABLE entries ADD COLUMN purpose TEXT;
    ALTER TABLE entries ADD COLUMN attempt INTEGER;
    ALTER TABLE entries ADD COLUMN first_call_id TEXT;
    ALTER TABLE entries ADD COLUMN batch_id TEXT;
    ALTER TABLE entries ADD COLUMN custom_id TEXT;
    ALTER TABLE entries ADD COLUMN prompt_bytes INTEGER;
    ALTER TABLE entries ADD COLUMN prompt_kind TEXT;
    ALTER TABLE entries ADD COLUMN basis TEXT;
    ALTER TABLE entries ADD COLUMN note TEXT;
    ALTER TABLE entries ADD COLUMN account TEXT;
    ALTER TABLE entries ADD COLUMN amount_nanos INTEGER;
    ALTER TABLE entries ADD COLUMN who TEXT;
    ALTER TABLE entries ADD COLUMN why TEXT;

    DROP INDEX entries_set_aside;
    CREATE INDEX entries_told ON entries (seq) WHERE kind IN ('settled', 'topped-up');

    -- the calls whose entries are being deleted; empty but within a transaction
    CREATE TABLE pruning (call_id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;

    DROP TRIGGER entries_are_not_deleted;
    CREATE TRIGGER entries_are_not_deleted BEFORE DELETE ON entries
    WHEN NOT EXISTS (SELECT 1 FROM pruning WHERE pruning.call_id = OLD.call_id)
    BEGIN SELECT RAISE(ABORT, 'an entry is never deleted'); END;

    CREATE TABLE ledger (id TEXT NOT NULL) STRICT;
    INSERT INTO ledger VALUES (lower(hex(randomblob(8))));

    CREATE TABLE summary (position INTEGER NOT NULL) STRICT;
    INSERT INTO summary VALUES (0);

    CREATE TABLE totals (
        dimension TEXT NOT NULL,
        hour INTEGER NOT NULL,
        key TEXT NOT NULL,
        pruned INTEGER NOT NULL,
        calls INTEGER NOT NULL,
        finished INTEGER NOT NULL,
        failed INTEGER NOT NULL,
        unknown_cost INTEGER NOT NULL,
        cost_nanos INTEGER NOT NULL,
        at_least_nanos INTEGER NOT NULL,
        at_frontier_nanos INTEGER,
        as_asked_nanos INTEGER,
        as_decided_nanos INTEGER,
        input_tokens INTEGER NOT NULL,
        cache_read_tokens INTEGER NOT NULL,
        cache_write_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        truncated INTEGER NOT NULL,
        truncation_waste_nanos INTEGER NOT NULL,
        PRIMARY KEY (dimension, hour, key, pruned)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE unknown_types (
        hour INTEGER NOT NULL,
        name TEXT NOT NULL,
        nearest TEXT NOT NULL,
        pruned INTEGER NOT NULL,
        calls INTEGER NOT NULL,
        last_us INTEGER NOT NULL,
        PRIMARY KEY (hour, name, nearest, pruned)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE balances (
        account TEXT NOT NULL,
        pruned INTEGER NOT NULL,
        reservations INTEGER NOT NULL,
        reserved_nanos INTEGER NOT NULL,
        pending_nanos INTEGER NOT NULL,
        posted_nanos INTEGER NOT NULL,
        released_nanos INTEGER NOT NULL,
        overrun_nanos INTEGER NOT NULL,
        topped_up_nanos INTEGER NOT NULL,
        PRIMARY KEY (account, pruned)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE open_reservations (call_id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;

    DROP VIEW calls;
    CREATE VIEW calls AS
    SELECT
        d.call_id, d.at_us, d.task_type, d.declared, d.unknown_type, d.nearest_type, d.task_id, d.run_id, d.agent,
        d.key_id, d.requested_model, d.tier, d.decided_model, d.acts, d.stream, d.max_tokens_asked, d.max_tokens_sent,
        d.policy_version, d.selection_probability, d.reasons, d.changes, d.purpose, d.attempt, d.first_call_id,
        d.batch_id, d.custom_id,
        e.kind AS ending, e.at_us AS ended_us, e.served_model, e.stop_reason, e.input_tokens,
        e.cache_write_5m_tokens, e.cache_write_1h_tokens, e.cache_read_tokens, e.output_tokens,
        e.web_search_requests, e.thinking_tokens, coalesce(e.cost_nanos, s.cost_nanos) AS cost_nanos,
        s.basis, s.note, e.at_least_nanos, e.price_version,
        e.at_frontier_nanos, e.as_asked_nanos, e.as_decided_nanos, e.until_sent_us, e.until_first_byte_us,
        e.until_end_us, e.request_id, e.fault, e.error, e.status
    FROM entries AS d
    LEFT JOIN entries AS e ON e.call_id = d.call_id AND e.kind IN ('posted', 'failed')
    LEFT JOIN entries AS s ON s.call_id = d.call_id AND s.kind = 'settled'
    WHERE d.kind = 'decided';
    """,
    """
    ALTER TABLE entries ADD COLUMN data TEXT;

    CREATE INDEX entries_audited ON entries (seq) WHERE kind IN ('paired', 'graded', 'declared');
    """,
    """
    CREATE INDEX entries_by_batch ON entries (batch_id, custom_id) WHERE batch_id IS NOT NULL;

    DROP VIEW calls;
    CREATE VIEW calls AS
    SELECT
        d.call_id, d.at_us, d.task_type, d.declared, d.unknown_type, d.nearest_type, d.task_id, d.run_id, d.agent,
        d.key_id, d.requested_model, d.tier, d.decided_model, d.acts, d.stream, d.max_tokens_asked, d.max_tokens_sent,
        d.policy_version, d.selection_probability, d.reasons, d.changes, d.purpose, d.attempt, d.first_call_id,
        coalesce(b.batch_id, d.batch_id) AS batch_id, d.custom_id,
        e.kind AS ending, e.at_us AS ended_us, e.served_model, e.stop_reason, e.input_tokens,
        e.cache_write_5m_tokens, e.cache_write_1h_tokens, e.cache_read_tokens, e.output_tokens,
        e.web_search_requests, e.thinking_tokens, coalesce(e.cost_nanos, s.cost_nanos) AS cost_nanos,
        s.basis, s.note, e.at_least_nanos, e.price_version,
        e.at_frontier_nanos, e.as_asked_nanos, e.as_decided_nanos, e.until_sent_us, e.until_first_byte_us,
        e.until_end_us, e.request_id, e.fault, e.error, e.status
    FROM entries AS d
    LEFT JOIN entries AS e ON e.call_id = d.call_id AND e.kind IN ('posted', 'failed')
    LEFT JOIN entries AS s ON s.call_id = d.call_id AND s.kind = 'settled'
    LEFT JOIN entries AS b ON b.call_id = d.batch_id AND b.kind = 'batched'
    WHERE d.kind = 'decided';
    """,
    """
    CREATE INDEX entries_outcomes ON entries (seq) WHERE kind = 'outcome';
    """,
    """
    CREATE INDEX entries_acted ON entries (seq) WHERE kind = 'acted';
    CREATE INDEX entries_checked ON entries (seq) WHERE kind = 'checked';
    """,
    """
    CREATE INDEX entries_batched ON entries (batch_id) WHERE kind = 'batched';
    """,
)
"""In order; the file's `user_version` counts those that it has."""
