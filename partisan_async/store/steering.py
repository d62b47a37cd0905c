"""What operators do to tasks: run them again, now, or not at all; and to supervisors: drain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from partisan_async.models.status import ENDED, ENDED_SQL, Status
from partisan_async.policy import Failure
from partisan_async.store.inserting import lock_of
from partisan_async.store.kept import encoded, kept
from partisan_async.store.statement import Statement, queue_names

UNENDED = (Status.NEW.value, Status.SCHEDULED.value, Status.IN_PROCESS.value)

# What another transaction has locked is left out: it may stay open for long. So may the caller's:
# then the digests are taken, or whoever enqueues an identical call would wait for its end.
_FREE = f"""
SELECT id FROM partisan_async_task
WHERE id = ANY(%(ids)s) AND status = ANY(%(statuses)s)
    AND (NOT %(takes)s OR digest IS NULL OR pg_try_advisory_xact_lock({lock_of("digest")}))
"""  # noqa: S608
_SELECTED = f"WHERE id = ANY (ARRAY({_FREE} ORDER BY id FOR UPDATE SKIP LOCKED))"

_ANEW = f"""
    status = '{Status.NEW}', execute_after = statement_timestamp(), finished_at = NULL,
    tries = 0, postpones = 0, lost = 0, suspect = false, unrecognised = 0, interrupted = 0,
    parked_from = NULL
"""


def locked(ids: Sequence[int], statuses: Sequence[str]) -> Statement:
    """Read which of these rows are passed over, being another transaction's. Rows: the ids."""
    sql = f"""
    WITH free AS MATERIALIZED ({_FREE} FOR UPDATE SKIP LOCKED)
    SELECT id FROM partisan_async_task
    WHERE id = ANY(%(ids)s) AND status = ANY(%(statuses)s) AND id NOT IN (SELECT id FROM free)
    """  # noqa: S608
    return _on(sql, ids, statuses, takes=False)


def again(ids: Sequence[int], *, takes: bool = False) -> Statement:
    """Run rows again that ended in error, as if for the first time. Rows: id and queue.

    :param takes: take their digests, and leave out rows whose digests another transaction took.
    """
    # Without its digest: an identical call may wait by now, or come.
    sql = f"""
    UPDATE partisan_async_task
    SET {_ANEW}, digest = NULL, unique_key = NULL
    {_SELECTED} RETURNING id, queue_name
    """  # noqa: S608
    return _on(sql, ids, [Status.ERROR.value], takes=takes)


def again_with(
    ids: Sequence[int],
    *,
    encoded: str,
    digest: bytes | None,
    unique_key: bytes | None,
    key: int | None,
) -> Statement:
    """Run a row again with other arguments; else as ``again``.

    The table refuses it where an identical call waits, or runs where there is a ``unique_key``.

    :param key: number of the advisory lock that stands for either; it is taken.
    """
    sql = f"""
    UPDATE partisan_async_task t
    SET {_ANEW}, digest = %(digest)s, unique_key = %(unique_key)s,
        arguments = CASE jsonb_typeof(t.arguments) WHEN 'object' THEN t.arguments ELSE '{{}}' END
            || %(encoded)s::jsonb
    {_SELECTED}
        AND (%(key)s::bigint IS NULL OR pg_try_advisory_xact_lock(%(key)s::bigint))
    RETURNING id, queue_name
    """  # noqa: S608
    params = {"encoded": encoded, "digest": digest, "unique_key": unique_key, "key": key}
    return _on(sql, ids, [Status.ERROR.value], takes=False, **params)


def run_now(ids: Sequence[int], *, takes: bool = False) -> Statement:
    """Make scheduled rows ready; else as ``again``."""
    # A `finished_at` that somebody wrote there by hand would have the table refuse it.
    sql = f"""
    UPDATE partisan_async_task
    SET status = '{Status.NEW}', execute_after = statement_timestamp(), parked_from = NULL,
        finished_at = NULL
    {_SELECTED} RETURNING id, queue_name
    """  # noqa: S608
    return _on(sql, ids, [Status.SCHEDULED.value], takes=takes)


def cancel(
    ids: Sequence[int],
    failure: Failure,
    *,
    by: str = "",
    reason: str = "",
    statuses: Sequence[str] = UNENDED,
    takes: bool = False,
) -> Statement:
    """End rows that wait or run; who runs one learns of it. Else as ``again``.

    :param failure: what the rows tell; ``by`` whom and for what ``reason`` stands beside it.
    :param statuses: those that are in one of these now: since somebody looked, one that waited may
        have been claimed.
    """
    sql = f"""
    UPDATE partisan_async_task t
    SET status = '{Status.ERROR}', claimed_by = NULL, claimed_at = NULL,
        finished_at = statement_timestamp(),
        errors = {kept("t.errors")} || (%(failure)s::jsonb || jsonb_build_object(
            'try', t.tries::bigint + 1, 'at', statement_timestamp()))
    {_SELECTED} RETURNING id, queue_name
    """  # noqa: S608
    return _on(sql, ids, statuses, takes=takes, failure=encoded(failure, by=by, reason=reason))


def delete(
    ids: Sequence[int], *, statuses: Sequence[str] = ENDED, takes: bool = False
) -> Statement:
    """Delete rows that have ended; else as ``cancel``."""
    sql = f"DELETE FROM partisan_async_task {_SELECTED} RETURNING id, queue_name"  # noqa: S608
    return _on(sql, ids, statuses, takes=takes)


def _on(
    sql: str, ids: Sequence[int], statuses: Sequence[str], *, takes: bool, **params: Any
) -> Statement:
    return Statement(sql, {"ids": list(ids), "statuses": list(statuses), "takes": takes, **params})


def ended_queues() -> Statement:
    """Read the names of the queues with rows that have ended, by leaps over their index."""
    names = queue_names("names", f"status IN {ENDED_SQL}")
    return Statement(f"WITH RECURSIVE {names} SELECT queue_name FROM names", {})  # noqa: S608


def drain(supervisor_id: UUID) -> Statement:
    """Have a supervisor start nothing more. Rows: its queue, if it has a row."""
    sql = """
    UPDATE partisan_async_supervisor SET draining = true WHERE id = %(id)s RETURNING queue_name
    """
    return Statement(sql, {"id": supervisor_id})
