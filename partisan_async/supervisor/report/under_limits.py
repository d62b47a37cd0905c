"""Asks the database how many tasks of the queue wait and run under each limit, where there are any.

As of the queue's depth: seldom, and with a limit of its own. Keys are not told: there may be many,
and one may be a person's name.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import psycopg

from partisan_async import logs
from partisan_async.store import Statement
from partisan_async.supervisor.agenda import Agenda
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.report.queue_depth import COUNTED, FRESH_SECONDS

SHOWN = 100
"""Maximum number of limits with tasks that wait that are told of."""

# From limit to limit by the index, however many tasks each has.
_LIMITS = f"""
WITH RECURSIVE waited (name, n) AS (
    (SELECT limit_name, 1 FROM partisan_async_task
     WHERE status = 'limited' AND queue_name = %(queue_name)s AND limit_name IS NOT NULL
     ORDER BY limit_name LIMIT 1)
    UNION ALL
    SELECT next.limit_name, n + 1 FROM waited CROSS JOIN LATERAL (
        SELECT t.limit_name FROM partisan_async_task t
        WHERE t.status = 'limited' AND t.queue_name = %(queue_name)s
            AND t.limit_name > waited.name
        ORDER BY t.limit_name LIMIT 1) AS next
    WHERE n < {SHOWN}),
running AS (
    SELECT limit_name AS name, count(*) AS n FROM partisan_async_task
    WHERE status = 'in_process' AND limit_name IS NOT NULL AND queue_name = %(queue_name)s
    GROUP BY limit_name)
SELECT name, (SELECT count(*) FROM (
        SELECT FROM partisan_async_task t
        WHERE t.status = 'limited' AND t.queue_name = %(queue_name)s AND t.limit_name = known.name
        ORDER BY t.limit_key LIMIT {COUNTED}) AS counted),
    LEAST({COUNTED}, COALESCE((SELECT n FROM running WHERE running.name = known.name), 0))
FROM (SELECT name FROM waited UNION SELECT name FROM running
      UNION SELECT unnest(%(names)s::text[])) AS known
ORDER BY name
"""  # noqa: S608


class UnderLimit(NamedTuple):
    """A limit, and how many tasks of the queue wait and run under it."""

    name: str
    waiting: int
    running: int


class UnderLimits:
    """The tasks of one queue under each limit."""

    def __init__(self, queue_name: str, connection: Connection, agenda: Agenda) -> None:
        self._queue_name = queue_name
        self._connection = connection
        self._agenda = agenda
        self._asked_at: float | None = None
        self._found: list[UnderLimit] = []

    async def ask(self) -> list[UnderLimit]:
        """Return them, as of ``FRESH_SECONDS`` ago at most; none: nobody says."""
        if not self._agenda.has_limits:
            return []
        now = time.monotonic()
        if self._asked_at is not None and now - self._asked_at < FRESH_SECONDS:
            return self._found
        # Whoever was told of stays, at 0: a gauge that goes away looks like a fault.
        names = [each.name for each in self._found]
        params = {"queue_name": self._queue_name, "names": names}
        try:
            rows = await self._connection.execute(Statement(_LIMITS, params))
            self._found = [UnderLimit(*row) for row in rows]
        except psycopg.Error as error:
            self._asked_at = time.monotonic()
            logs.queues.not_counted(error)
            return []
        self._asked_at = time.monotonic()
        return self._found
