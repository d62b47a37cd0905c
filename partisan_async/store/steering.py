"""What operators do to rows: again, now, not at all; pause, drain, prune."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from partisan_async.models import ENDED, Task
from partisan_async.policy import Failure
from partisan_async.store.settling import encoded, kept
from partisan_async.store.statement import Statement

_SELECTED = "WHERE id = ANY(%(ids)s) AND status = ANY(%(statuses)s)"


def again(ids: Sequence[int]) -> Statement:
    """Run rows again that ended in error, as if for the first time. Rows: id and queue."""
    # Without its digest: an identical call may wait by now, or come.
    sql = f"""
    UPDATE partisan_async_task
    SET status = 'new', execute_after = statement_timestamp(), finished_at = NULL, digest = NULL,
        tries = 0, postpones = 0, lost = 0, suspect = false, unrecognised = 0,
        interrupted = 0
    {_SELECTED} RETURNING id, queue_name
    """  # noqa: S608
    return Statement(sql, {"ids": list(ids), "statuses": [Task.STATUS_ERROR]})


def run_now(ids: Sequence[int]) -> Statement:
    """Make scheduled rows ready. Rows: id and queue."""
    sql = f"""
    UPDATE partisan_async_task SET status = 'new', execute_after = statement_timestamp()
    {_SELECTED} RETURNING id, queue_name
    """  # noqa: S608
    return Statement(sql, {"ids": list(ids), "statuses": [Task.STATUS_SCHEDULED]})


def cancel(ids: Sequence[int], failure: Failure) -> Statement:
    """End rows that wait or run; who runs one learns of it. Rows: id and queue."""
    sql = f"""
    UPDATE partisan_async_task t
    SET status = 'error', claimed_by = NULL, claimed_at = NULL,
        finished_at = statement_timestamp(),
        errors = {kept("t.errors")} || (%(failure)s::jsonb || jsonb_build_object(
            'try', t.tries::bigint + 1, 'at', statement_timestamp()))
    {_SELECTED} RETURNING id, queue_name
    """  # noqa: S608
    statuses = [Task.STATUS_NEW, Task.STATUS_SCHEDULED, Task.STATUS_IN_PROCESS]
    return Statement(sql, {"ids": list(ids), "statuses": statuses, "failure": encoded(failure)})


def delete(ids: Sequence[int]) -> Statement:
    """Delete rows that have ended. Rows: id and queue."""
    sql = f"DELETE FROM partisan_async_task {_SELECTED} RETURNING id, queue_name"  # noqa: S608
    return Statement(sql, {"ids": list(ids), "statuses": list(ENDED)})


def ended_queues() -> Statement:
    """Read the names of the queues with rows that have ended, by leaps over their index."""
    sql = """
    WITH RECURSIVE names AS (
        (SELECT queue_name FROM partisan_async_task
         WHERE status IN ('finished', 'error') ORDER BY queue_name LIMIT 1)
        UNION ALL
        SELECT next.* FROM names CROSS JOIN LATERAL (
            SELECT t.queue_name FROM partisan_async_task t
            WHERE t.status IN ('finished', 'error') AND t.queue_name > names.queue_name
            ORDER BY t.queue_name LIMIT 1) AS next)
    SELECT queue_name FROM names
    """
    return Statement(sql, {})


def pause(queue_name: str) -> Statement:
    """Have nothing of a queue started. Rows: its name, if it was not paused before."""
    sql = """
    INSERT INTO partisan_async_pausedqueue (queue_name) VALUES (%(queue_name)s)
    ON CONFLICT DO NOTHING RETURNING queue_name
    """
    return Statement(sql, {"queue_name": queue_name})


def resume(queue_name: str) -> Statement:
    """End a queue's pause. Rows: its name, if it was paused."""
    sql = """
    DELETE FROM partisan_async_pausedqueue WHERE queue_name = %(queue_name)s RETURNING queue_name
    """
    return Statement(sql, {"queue_name": queue_name})


def drain(supervisor_id: UUID) -> Statement:
    """Have a supervisor start nothing more. Rows: its queue, if it has a row."""
    sql = """
    UPDATE partisan_async_supervisor SET draining = true WHERE id = %(id)s RETURNING queue_name
    """
    return Statement(sql, {"id": supervisor_id})
