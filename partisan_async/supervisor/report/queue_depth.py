"""Asks the database for the depth of the queue: rarely, on a connection of its own, with a limit.

So no beat and no claim waits for a count, however often clients ask.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import psycopg

from partisan_async import logs
from partisan_async.store import NEVER, Statement, is_parked
from partisan_async.supervisor.connection import Connection

FRESH_SECONDS = 5.0
"""Time for which an answer is reused."""

COUNTED = 10_000
"""Maximum number of tasks that are counted: counting millions would cost more than it tells."""

# In the index, each priority's oldest task comes first, so one index probe per priority finds it.
_QUEUE = f"""
WITH RECURSIVE first AS (
    (SELECT priority, GREATEST(execute_after, created_at) AS due, 1 AS n
     FROM partisan_async_task WHERE status = 'new' AND queue_name = %(queue_name)s
     ORDER BY priority, id LIMIT 1)
    UNION ALL
    SELECT next.priority, next.due, n + 1 FROM first, LATERAL (
        SELECT priority, GREATEST(execute_after, created_at) AS due
        FROM partisan_async_task WHERE status = 'new' AND queue_name = %(queue_name)s
            AND priority > first.priority
        ORDER BY priority, id LIMIT 1) AS next
    WHERE n < 100)
SELECT
    (SELECT count(*) FROM (SELECT 1 FROM partisan_async_task
        WHERE status = 'new' AND queue_name = %(queue_name)s LIMIT {COUNTED}) AS counted),
    LEAST(far.scheduled, {COUNTED}), far.parked,
    (SELECT count(*) FROM (SELECT 1 FROM partisan_async_task
        WHERE status = 'limited' AND queue_name = %(queue_name)s
        ORDER BY limit_name LIMIT {COUNTED}) AS counted),
    (SELECT count(*) FROM (SELECT 1 FROM partisan_async_task
        WHERE status = 'in_process' AND queue_name = %(queue_name)s LIMIT {COUNTED}) AS counted),
    (SELECT CASE WHEN count(*) > 0 THEN extract(epoch FROM statement_timestamp() - LEAST(
            statement_timestamp(), GREATEST(min(due), statement_timestamp() - interval '10 years')))
        END::float8 FROM first)
FROM (
    SELECT count(*) FILTER (WHERE c.is_parked) AS parked,
        count(*) FILTER (WHERE NOT c.is_parked) AS scheduled
    FROM (
        (SELECT false AS is_parked FROM partisan_async_task
         WHERE status = 'scheduled' AND queue_name = %(queue_name)s
             AND execute_after < {NEVER} LIMIT {COUNTED})
        UNION ALL
        (SELECT {is_parked("t")} FROM partisan_async_task t
         WHERE t.status = 'scheduled' AND t.queue_name = %(queue_name)s
             AND t.execute_after >= {NEVER} LIMIT {COUNTED})) AS c) AS far
"""  # noqa: S608


class Depth(NamedTuple):
    """Numbers of tasks in the queue, and the seconds that the oldest ready one has been due."""

    ready: int
    scheduled: int | None
    parked: int | None
    limited: int
    running: int
    oldest_seconds: float | None


class QueueDepth:
    """The depth of one queue."""

    def __init__(self, queue_name: str, connection: Connection) -> None:
        self._queue_name = queue_name
        self._connection = connection
        self._asked_at: float | None = None
        self._depth: Depth | None = None

    async def ask(self) -> Depth | None:
        """Return the depth, at most ``FRESH_SECONDS`` old; ``None``: the query failed."""
        now = time.monotonic()
        if self._asked_at is not None and now - self._asked_at < FRESH_SECONDS:
            return self._depth
        statement = Statement(_QUEUE, {"queue_name": self._queue_name})
        try:
            (row,) = await self._connection.execute(statement)
            self._depth = Depth(*row)
        except psycopg.Error as error:
            # Show no depth rather than an outdated one.
            self._depth = None
            logs.queues.not_counted(error)
        self._asked_at = time.monotonic()
        return self._depth
