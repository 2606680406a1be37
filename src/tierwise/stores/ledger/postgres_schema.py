"""The ledger's tables in PostgreSQL, as the migrations that make them, and how they are brought up to date.

The tables are those of the SQLite ledger, and texts are compared by their bytes, as there.

Several gateways write, and `seq` is given out in another order than transactions are committed in: an entry may
appear after one with a higher number. The gate, a lock, makes positions safe all the same. Whoever inserts entries
holds it, shared, from before the first number is given out until the commit: a trigger sees to it. A summary
takes it alone, for the moment in which its snapshot is made: no number is then on its way, so what the snapshot
has is all there will ever be up to its last entry. Entries that others wait for by number, settlements and top-ups,
are inserted under the gate held alone: their numbers are in the order of their commits.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, LiteralString, TypeAlias

import psycopg
from psycopg.rows import DictRow

Connection: TypeAlias = psycopg.Connection[DictRow]

MIGRATIONS: Final[tuple[LiteralString, ...]] = (
    """
    CREATE TABLE entries (
        seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        call_id TEXT COLLATE "C" NOT NULL,
        kind TEXT COLLATE "C" NOT NULL,
        at_us BIGINT NOT NULL,
        -- decided
        task_type TEXT COLLATE "C",
        declared TEXT COLLATE "C",
        unknown_type TEXT COLLATE "C",
        nearest_type TEXT COLLATE "C",
        task_id TEXT COLLATE "C",
        run_id TEXT COLLATE "C",
        agent TEXT COLLATE "C",
        key_id TEXT COLLATE "C",
        requested_model TEXT COLLATE "C",
        tier TEXT COLLATE "C",
        decided_model TEXT COLLATE "C",
        acts BIGINT,
        stream BIGINT,
        max_tokens_asked BIGINT,
        max_tokens_sent BIGINT,
        policy_version TEXT COLLATE "C",
        selection_probability DOUBLE PRECISION,
        reasons TEXT COLLATE "C",
        changes TEXT COLLATE "C",
        purpose TEXT COLLATE "C",
        attempt BIGINT,
        first_call_id TEXT COLLATE "C",
        batch_id TEXT COLLATE "C",
        custom_id TEXT COLLATE "C",
        -- set aside
        reserved_nanos BIGINT,
        accounts TEXT COLLATE "C",
        prompt_bytes BIGINT,
        prompt_kind TEXT COLLATE "C",
        -- posted, failed
        served_model TEXT COLLATE "C",
        stop_reason TEXT COLLATE "C",
        input_tokens BIGINT,
        cache_write_5m_tokens BIGINT,
        cache_write_1h_tokens BIGINT,
        cache_read_tokens BIGINT,
        output_tokens BIGINT,
        web_search_requests BIGINT,
        thinking_tokens BIGINT,
        cost_nanos BIGINT,
        at_least_nanos BIGINT,
        price_version TEXT COLLATE "C",
        at_frontier_nanos BIGINT,
        as_asked_nanos BIGINT,
        as_decided_nanos BIGINT,
        until_sent_us BIGINT,
        until_first_byte_us BIGINT,
        until_end_us BIGINT,
        request_id TEXT COLLATE "C",
        fault TEXT COLLATE "C",
        error TEXT COLLATE "C",
        status BIGINT,
        -- settled
        basis TEXT COLLATE "C",
        note TEXT COLLATE "C",
        -- topped up
        account TEXT COLLATE "C",
        amount_nanos BIGINT,
        who TEXT COLLATE "C",
        why TEXT COLLATE "C"
    );

    CREATE UNIQUE INDEX entries_by_call ON entries (call_id, kind);
    CREATE INDEX entries_by_time ON entries (at_us) WHERE kind = 'decided';
    CREATE INDEX entries_told ON entries (seq) WHERE kind IN ('settled', 'topped-up');

    -- the calls whose entries are being deleted; empty but within a transaction
    CREATE TABLE pruning (call_id TEXT COLLATE "C" PRIMARY KEY);

    CREATE FUNCTION entries_are_not_changed() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'an entry is never changed'; END
    $$;
    CREATE FUNCTION entries_are_not_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' AND EXISTS (SELECT 1 FROM pruning WHERE pruning.call_id = OLD.call_id) THEN
            RETURN OLD;
        END IF;
        RAISE EXCEPTION 'an entry is never deleted';
    END
    $$;
    CREATE FUNCTION entries_pass_the_gate() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(7526438003);
        RETURN NULL;
    END
    $$;
    CREATE TRIGGER entries_pass_the_gate BEFORE INSERT ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION entries_pass_the_gate();
    CREATE TRIGGER entries_are_not_changed BEFORE UPDATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION entries_are_not_changed();
    CREATE TRIGGER entries_are_not_deleted BEFORE DELETE ON entries
    FOR EACH ROW EXECUTE FUNCTION entries_are_not_deleted();
    CREATE TRIGGER entries_are_not_truncated BEFORE TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION entries_are_not_deleted();

    CREATE TABLE ledger (id TEXT NOT NULL);
    INSERT INTO ledger VALUES (substr(replace(gen_random_uuid()::text, '-', ''), 1, 16));

    CREATE TABLE summary (position BIGINT NOT NULL);
    INSERT INTO summary VALUES (0);

    CREATE TABLE totals (
        dimension TEXT COLLATE "C" NOT NULL,
        hour BIGINT NOT NULL,
        key TEXT COLLATE "C" NOT NULL,
        pruned BIGINT NOT NULL,
        calls BIGINT NOT NULL,
        finished BIGINT NOT NULL,
        failed BIGINT NOT NULL,
        unknown_cost BIGINT NOT NULL,
        cost_nanos BIGINT NOT NULL,
        at_least_nanos BIGINT NOT NULL,
        at_frontier_nanos BIGINT,
        as_asked_nanos BIGINT,
        as_decided_nanos BIGINT,
        input_tokens BIGINT NOT NULL,
        cache_read_tokens BIGINT NOT NULL,
        cache_write_tokens BIGINT NOT NULL,
        output_tokens BIGINT NOT NULL,
        truncated BIGINT NOT NULL,
        truncation_waste_nanos BIGINT NOT NULL,
        PRIMARY KEY (dimension, hour, key, pruned)
    );

    CREATE TABLE unknown_types (
        hour BIGINT NOT NULL,
        name TEXT COLLATE "C" NOT NULL,
        nearest TEXT COLLATE "C" NOT NULL,
        pruned BIGINT NOT NULL,
        calls BIGINT NOT NULL,
        last_us BIGINT NOT NULL,
        PRIMARY KEY (hour, name, nearest, pruned)
    );

    CREATE TABLE balances (
        account TEXT COLLATE "C" NOT NULL,
        pruned BIGINT NOT NULL,
        reservations BIGINT NOT NULL,
        reserved_nanos BIGINT NOT NULL,
        pending_nanos BIGINT NOT NULL,
        posted_nanos BIGINT NOT NULL,
        released_nanos BIGINT NOT NULL,
        overrun_nanos BIGINT NOT NULL,
        topped_up_nanos BIGINT NOT NULL,
        PRIMARY KEY (account, pruned)
    );

    CREATE TABLE open_reservations (call_id TEXT COLLATE "C" PRIMARY KEY);

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
    ALTER TABLE entries ADD COLUMN data TEXT COLLATE "C";

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
"""In order. The table `tierwise_schema` counts those that a database has. Each only adds, so that gateways which run
already can go on writing."""

MIGRATION_LOCK: Final = 7_526_438_001
SUMMARY_LOCK: Final = 7_526_438_002
"""Advisory locks: numbers that nothing else in the database should use."""

CLOSE_GATE: Final = "SELECT pg_advisory_lock(7526438003)"
OPEN_GATE: Final = "SELECT pg_advisory_unlock(7526438003)"
CLOSE_GATE_UNTIL_COMMIT: Final = "SELECT pg_advisory_xact_lock(7526438003)"
"""The gate's number is in the trigger too."""


def version(connection: Connection) -> int:
    """Count the migrations that a database has had; 0 where it holds no ledger.

    Raises:
        psycopg.Error: the database says so.
    """
    found = connection.execute("SELECT to_regclass('tierwise_schema') IS NOT NULL AS answer").fetchone()
    if found is None or not found["answer"]:
        return 0
    row = connection.execute("SELECT coalesce(max(version), 0) AS answer FROM tierwise_schema").fetchone()
    return 0 if row is None else int(row["answer"])


def migrate(connection: Connection) -> int:
    """Bring a database to this version, all of it or nothing, and return the version it has then.

    Only one process does so at a time; the others wait, and find it done. A database of a newer version is left.

    Raises:
        psycopg.Error: nothing was changed.
    """
    if (found := version(connection)) >= len(MIGRATIONS):
        return found
    with _alone(connection):
        connection.execute(
            "CREATE TABLE IF NOT EXISTS tierwise_schema (version INTEGER PRIMARY KEY, at TIMESTAMPTZ DEFAULT now())"
        )
        found = version(connection)
        for number, migration in enumerate(MIGRATIONS[found:], start=found + 1):
            connection.execute(migration)
            connection.execute("INSERT INTO tierwise_schema (version) VALUES ($1)", (number,))
        return max(found, len(MIGRATIONS))


@contextmanager
def _alone(connection: Connection) -> Generator[None]:
    with connection.transaction():
        connection.execute("SELECT set_config('statement_timeout', '0', true)")
        connection.execute("SELECT set_config('lock_timeout', '60s', true)")
        connection.execute("SELECT pg_advisory_xact_lock($1)", (MIGRATION_LOCK,))
        yield
