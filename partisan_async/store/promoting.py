"""Makes scheduled rows ready when they are due."""

from __future__ import annotations

import datetime

from partisan_async.models.status import Status
from partisan_async.store.among import ALL, Among
from partisan_async.store.statement import DUE_SECONDS, Statement, rank, waiting

PROMOTED_AT_ONCE = 1000
"""Maximum number of due rows that one statement makes ready."""

_DUE = f"""
SELECT id FROM partisan_async_task
WHERE status = '{Status.SCHEDULED}' AND queue_name = %(queue_name)s
    AND execute_after <= statement_timestamp() {{others}}
ORDER BY execute_after
"""  # noqa: S608

_PROMOTE = f"""
WITH due AS MATERIALIZED (
    {_DUE} LIMIT {PROMOTED_AT_ONCE} FOR UPDATE SKIP LOCKED),
promoted AS (
    UPDATE partisan_async_task t SET status = {waiting("t")}, limit_rank = {rank("t")}
    FROM due WHERE t.id = ANY (ARRAY[due.id]) RETURNING t.id, t.limit_name)
SELECT (SELECT count(*) FROM promoted),
    (SELECT {DUE_SECONDS}
     FROM partisan_async_task
     WHERE status = '{Status.SCHEDULED}' AND queue_name = %(queue_name)s
         AND execute_after > statement_timestamp()
     ORDER BY execute_after LIMIT 1),
    ARRAY(SELECT id FROM promoted WHERE limit_name IS NOT NULL)
"""  # noqa: S608


def promote(queue_name: str, among: Among = ALL) -> Statement:
    """Make due rows ready, or have them wait for their limits.

    One row: how many, the seconds until the next one is due, and the ids of those with limits.
    """
    return among.narrow(Statement(_PROMOTE, {"queue_name": queue_name}))


def due(queue_name: str, among: Among = ALL) -> Statement:
    """Read the ids of the rows that would be made ready."""
    sql = f"{_DUE} LIMIT {PROMOTED_AT_ONCE}"
    return among.narrow(Statement(sql, {"queue_name": queue_name}))


def advance(queue_name: str | None, until: datetime.datetime) -> Statement:
    """Promote the next scheduled row, if it is due by a time. Rows: its time, or none.

    :param queue_name: ``None``: all queues.
    """
    sql = f"""
    UPDATE partisan_async_task t SET status = {waiting("t")} WHERE id = (
        SELECT id FROM partisan_async_task
        WHERE status = '{Status.SCHEDULED}' AND execute_after <= %(until)s
            AND (%(queue_name)s::text IS NULL OR queue_name = %(queue_name)s)
        ORDER BY execute_after, priority, id LIMIT 1)
    RETURNING execute_after
    """  # noqa: S608
    return Statement(sql, {"queue_name": queue_name, "until": until})
