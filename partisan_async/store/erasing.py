"""Erases what is of one subject: its schedules, its tasks in whatever state, and its windows.

A task that runs is deleted, too. Its supervisor sees that it holds the row no more, and kills the
run; no settle and no rescue brings a row back.
"""

from __future__ import annotations

from collections.abc import Sequence

from partisan_async.models.status import ENDED_SQL, Status
from partisan_async.policy import Failure
from partisan_async.store.inserting import lock_of
from partisan_async.store.kept import encoded
from partisan_async.store.statement import Statement

ERASED_AT_ONCE = 1000
"""Maximum number of rows that one statement erases."""

_IDS = f"""
SELECT id FROM partisan_async_task WHERE subject = %(subject)s AND id > %(behind)s
ORDER BY id LIMIT {ERASED_AT_ONCE}
"""  # noqa: S608

# As an operator's other statements do: what others have locked is left out, and digests and keys
# are taken in a transaction of the caller's.
_FREE = f"""
SELECT id FROM partisan_async_task
WHERE id = ANY(%(ids)s) AND subject = %(subject)s
    AND (NOT %(takes)s OR COALESCE(digest, unique_key) IS NULL
        OR pg_try_advisory_xact_lock({lock_of("COALESCE(digest, unique_key)")}))
ORDER BY id FOR UPDATE SKIP LOCKED
"""  # noqa: S608

_ERASE = f"""
DELETE FROM partisan_async_task WHERE id = ANY (ARRAY({_FREE})) RETURNING id, queue_name, status
"""  # noqa: S608

# Arguments that are no call: one that is run again by hand, as all that failed may be, does
# nothing but fail.
_EMPTY = f"""
WITH free AS MATERIALIZED (
    SELECT id, status FROM partisan_async_task WHERE id = ANY (ARRAY({_FREE})))
UPDATE partisan_async_task t
SET subject = NULL, arguments = '{{}}', result = NULL, digest = NULL, unique_key = NULL,
    traceparent = NULL, worker_ids = '[]', parked_from = NULL,
    claimed_by = NULL, claimed_at = NULL,
    finished_at = COALESCE(t.finished_at, statement_timestamp()),
    status = CASE WHEN t.status IN {ENDED_SQL} THEN t.status ELSE '{Status.ERROR}' END,
    errors = CASE WHEN t.status = '{Status.FINISHED}' THEN '[]'::jsonb
        ELSE jsonb_build_array(%(failure)s::jsonb || jsonb_build_object(
            'try', t.tries::bigint + 1, 'at', statement_timestamp())) END
FROM free WHERE t.id = ANY (ARRAY[free.id])
RETURNING t.id, t.queue_name, free.status
"""  # noqa: S608

_SCHEDULES = f"""
DELETE FROM partisan_async_schedule WHERE processor_class = ANY (ARRAY(
    SELECT processor_class FROM partisan_async_schedule WHERE subject = %(subject)s
    ORDER BY processor_class LIMIT {ERASED_AT_ONCE} FOR UPDATE SKIP LOCKED))
RETURNING processor_class, queue_name
"""  # noqa: S608

_WINDOWS = f"""
DELETE FROM partisan_async_uniquewindow WHERE key = ANY (ARRAY(
    SELECT key FROM partisan_async_uniquewindow WHERE subject = %(subject)s
    LIMIT {ERASED_AT_ONCE} FOR UPDATE SKIP LOCKED))
RETURNING 1
"""  # noqa: S608

_COUNTS = """
SELECT (SELECT count(*) FROM partisan_async_task WHERE subject = %(subject)s),
    (SELECT count(*) FROM partisan_async_schedule WHERE subject = %(subject)s),
    (SELECT count(*) FROM partisan_async_uniquewindow WHERE subject = %(subject)s)
"""


def ids_of(subject: str, behind: int) -> Statement:
    """Read the ids of the next tasks of a subject.

    :param behind: only ids greater than this one.
    """
    return Statement(_IDS, {"subject": subject, "behind": behind})


def erase_tasks(ids: Sequence[int], subject: str, *, takes: bool) -> Statement:
    """Delete tasks of a subject. Rows: id, queue, and the status that each had.

    :param takes: take their digests, and leave out those whose digest another transaction has.
    """
    return Statement(_ERASE, {"ids": list(ids), "subject": subject, "takes": takes})


def empty_tasks(ids: Sequence[int], subject: str, failure: Failure) -> Statement:
    """End tasks of a subject, and take from their rows all that is of anybody; else as
    ``erase_tasks``.

    :param failure: what the rows of those that have not finished keep as their error.
    """
    told = encoded(failure, cancelled=True, by="", reason="")
    params = {"ids": list(ids), "subject": subject, "takes": False, "failure": told}
    return Statement(_EMPTY, params)


def erase_schedules(subject: str) -> Statement:
    """Delete schedules of a subject. Rows: key and queue of each."""
    return Statement(_SCHEDULES, {"subject": subject})


def erase_windows(subject: str) -> Statement:
    """Delete windows of a subject. Rows: one for each."""
    return Statement(_WINDOWS, {"subject": subject})


def counts_of(subject: str) -> Statement:
    """Read how many tasks, schedules and windows of a subject there are. One row."""
    return Statement(_COUNTS, {"subject": subject})
