"""The audit: every change of a task row, as a trigger of the tests' own writes it down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.faults.history import Change, Row, State

TRIGGER = """
CREATE TABLE faults_change (
    n bigint PRIMARY KEY DEFAULT nextval('faults_n'),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    task_id bigint NOT NULL,
    old jsonb,
    new jsonb,
    session text NOT NULL,
    begun timestamptz NOT NULL DEFAULT transaction_timestamp(),
    xid xid NOT NULL DEFAULT pg_current_xact_id()::xid
);

CREATE FUNCTION faults_state(t partisan_async_task) RETURNS jsonb LANGUAGE sql STABLE
RETURN jsonb_build_object(
    'status', t.status,
    'claim_seq', t.claim_seq,
    'claimed_by', t.claimed_by,
    'tries', t.tries,
    'postpones', t.postpones,
    'lost', t.lost,
    'suspect', t.suspect,
    'unrecognised', t.unrecognised,
    'interrupted', t.interrupted,
    'errors', CASE jsonb_typeof(t.errors) WHEN 'array' THEN jsonb_array_length(t.errors) END,
    'error', t.errors -> -1 ->> 'exception_class',
    'worker', t.worker_ids ->> -1,
    'attempted', extract(epoch FROM t.last_attempted_at)::text,
    'after', t.execute_after::text,
    'digest', encode(t.digest, 'hex'),
    'unique_key', encode(t.unique_key, 'hex'),
    'limit', t.limit_name,
    'key', t.limit_key,
    'claimed', extract(epoch FROM t.claimed_at)::float8);

CREATE FUNCTION faults_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO faults_change (task_id, old, new, session) SELECT
        COALESCE(NEW.id, OLD.id),
        CASE WHEN TG_OP <> 'INSERT' THEN faults_state(OLD) END,
        CASE WHEN TG_OP <> 'DELETE' THEN faults_state(NEW) END,
        a.pid || '@' || extract(epoch FROM a.backend_start)
    FROM pg_stat_get_activity(pg_backend_pid()) AS a;
    RETURN NULL;
END $$;

CREATE TRIGGER faults_audit AFTER INSERT OR UPDATE OR DELETE ON partisan_async_task
FOR EACH ROW EXECUTE FUNCTION faults_audit();
"""
"""It takes its numbers from the ledger's sequence: one order for both. Install the ledger first."""

ROWS = """
SELECT t.id, t.processor_class, faults_state(t), t.arguments -> 'args' ->> 0
FROM partisan_async_task t ORDER BY t.id
"""


COMMITTED = """
CASE current_setting('track_commit_timestamp') WHEN 'on' THEN pg_xact_commit_timestamp(xid) END
"""

CHANGES = f"""
SELECT n, at, task_id, old, new, session, begun, {COMMITTED} FROM faults_change ORDER BY n
"""


def read_rows(execute: Callable[[str], list[Any]]) -> list[Row]:
    """Return all tasks as they are now.

    :param execute: runs a query and returns its rows.
    """
    rows = execute(ROWS)
    return [Row(task, processor, State(**state), first) for task, processor, state, first in rows]


def read(execute: Callable[[str], list[Any]]) -> list[Change]:
    """Return all changes that were committed, in the order in which they were made.

    :param execute: runs a query and returns its rows.
    """
    rows = execute(CHANGES)
    return [
        Change(n, at, task, old and State(**old), new and State(**new), *of_transaction)
        for n, at, task, old, new, *of_transaction in rows
    ]
