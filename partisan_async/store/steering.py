"""What operators do: retry, run now, cancel and delete tasks; drain supervisors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from partisan_async.models.status import ENDED, ENDED_SQL, WAITING, Status
from partisan_async.policy import Failure
from partisan_async.store.inserting import lock_of
from partisan_async.store.kept import encoded, kept
from partisan_async.store.statement import Statement, queue_names, rank, waiting

UNENDED = (*WAITING, Status.IN_PROCESS.value)

# Rows that another transaction has locked are left out: it may stay open for long. The caller's
# transaction may, too: then `takes` takes the digests, or a delay() of an identical call would wait
# for its end.
_FREE = f"""
SELECT id FROM partisan_async_task
WHERE id = ANY(%(ids)s) AND status = ANY(%(statuses)s)
    AND (NOT %(takes)s OR digest IS NULL OR pg_try_advisory_xact_lock({lock_of("digest")}))
"""  # noqa: S608
_SELECTED = f"WHERE id = ANY (ARRAY({_FREE} ORDER BY id FOR UPDATE SKIP LOCKED))"

_ANEW = """
    status = {status}, execute_after = statement_timestamp(), finished_at = NULL,
    tries = 0, postpones = 0, lost = 0, suspect = false, unrecognised = 0, interrupted = 0,
    parked_from = NULL, stops = NULL, stopped_at = NULL
"""


def locked(ids: Sequence[int], statuses: Sequence[str]) -> Statement:
    """Read which of these rows another transaction has locked. Rows: the ids."""
    sql = f"""
    WITH free AS MATERIALIZED ({_FREE} FOR UPDATE SKIP LOCKED)
    SELECT id FROM partisan_async_task
    WHERE id = ANY(%(ids)s) AND status = ANY(%(statuses)s) AND id NOT IN (SELECT id FROM free)
    """  # noqa: S608
    return _on(sql, ids, statuses, takes=False)


def again(ids: Sequence[int], *, takes: bool = False) -> Statement:
    """Reset rows that ended in error, to run as if for the first time. Rows: id, queue, status.

    :param takes: take the rows' digests, and leave out rows whose digest another transaction has.
    """
    # Without the digest: an identical call may wait by now, or be enqueued before this one starts.
    sql = f"""
    UPDATE partisan_async_task t
    SET {_ANEW.format(status=waiting("t"))}, digest = NULL, unique_key = NULL
    {_SELECTED} RETURNING id, queue_name, status
    """  # noqa: S608
    return _on(sql, ids, [Status.ERROR.value], takes=takes)


def again_with(
    ids: Sequence[int],
    *,
    encoded: str,
    digest: bytes | None,
    unique_key: bytes | None,
    subject: str | None,
    limit: tuple[str | None, str | None, int | None],
    key: int | None,
) -> Statement:
    """Reset a row with other arguments; else as ``again``.

    Raises a unique violation if an identical call waits, or, with a ``unique_key``, runs.

    :param encoded: JSON to merge into the row's arguments.
    :param limit: the values of ``LIMIT_COLUMNS``.
    :param key: number of the advisory lock of the digest or key, which is taken; ``None``: none.
    """
    status = (Status.NEW if limit[0] is None else Status.LIMITED).value
    sql = f"""
    UPDATE partisan_async_task t
    SET {_ANEW.format(status="%(status)s")}, digest = %(digest)s, unique_key = %(unique_key)s,
        subject = %(subject)s, limit_name = %(limit_name)s, limit_key = %(limit_key)s,
        limit_rank = %(limit_rank)s,
        arguments = CASE jsonb_typeof(t.arguments) WHEN 'object' THEN t.arguments ELSE '{{}}' END
            || %(encoded)s::jsonb
    {_SELECTED}
        AND (%(key)s::bigint IS NULL OR pg_try_advisory_xact_lock(%(key)s::bigint))
    RETURNING id, queue_name, status
    """  # noqa: S608
    params = {"encoded": encoded, "digest": digest, "unique_key": unique_key, "subject": subject}
    name, limit_key, rank = limit
    under = {"status": status, "limit_name": name, "limit_key": limit_key, "limit_rank": rank}
    return _on(sql, ids, [Status.ERROR.value], takes=False, key=key, **params, **under)


def run_now(ids: Sequence[int], *, takes: bool = False) -> Statement:
    """Make scheduled rows ready; else as ``again``."""
    # Clear a `finished_at` that was set by hand: the table's constraint would refuse it.
    sql = f"""
    UPDATE partisan_async_task t
    SET status = {waiting("t")}, execute_after = statement_timestamp(), parked_from = NULL,
        finished_at = NULL
    {_SELECTED} RETURNING id, queue_name, status
    """  # noqa: S608
    return _on(sql, ids, [Status.SCHEDULED.value], takes=takes)


def rerank(ids: Sequence[int]) -> Statement:
    """Give rows that wait for limits the ranks that these have now, which may be in order by now.

    It is a statement of its own, so that a role needs no right on limits where nothing has one.
    """
    sql = f"""
    UPDATE partisan_async_task t SET limit_rank = {rank("t")}
    WHERE id = ANY(%(ids)s) AND status = '{Status.LIMITED}'
    """  # noqa: S608
    return Statement(sql, {"ids": list(ids)})


def cancel(
    ids: Sequence[int],
    failure: Failure,
    *,
    by: str = "",
    reason: str = "",
    statuses: Sequence[str] = UNENDED,
    takes: bool = False,
) -> Statement:
    """End rows that wait or run; the supervisor that runs one learns of it. Else as ``again``.

    :param failure: what the rows keep as their error, with ``by`` and ``reason`` beside it.
    :param statuses: only rows that are in one of these now: a row that waited when it was chosen
        may have been claimed since.
    """
    sql = f"""
    UPDATE partisan_async_task t
    SET status = '{Status.ERROR}', claimed_by = NULL, claimed_at = NULL,
        finished_at = statement_timestamp(), unique_key = NULL,
        errors = {kept("t.errors")} || (%(failure)s::jsonb || jsonb_build_object(
            'try', t.tries::bigint + 1, 'at', statement_timestamp()))
    {_SELECTED} RETURNING id, queue_name
    """  # noqa: S608
    told = encoded(failure, cancelled=True, by=by, reason=reason)
    return _on(sql, ids, statuses, takes=takes, failure=told)


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
    """Read the names of the queues that have ended rows, by one index lookup for each queue."""
    names = queue_names("names", f"status IN {ENDED_SQL}")
    return Statement(f"WITH RECURSIVE {names} SELECT queue_name FROM names", {})  # noqa: S608


def drain(supervisor_id: UUID) -> Statement:
    """Make a supervisor start nothing more. Rows: its queue, if the supervisor has a row."""
    sql = """
    UPDATE partisan_async_supervisor SET draining = true WHERE id = %(id)s RETURNING queue_name
    """
    return Statement(sql, {"id": supervisor_id})
