"""Asks the database how punctual the queue's schedules are: seldom, and where there are any."""

from __future__ import annotations

import time

import psycopg

from partisan_async import logs, store
from partisan_async.store import Punctuality
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.report.queue_depth import FRESH_SECONDS
from partisan_async.supervisor.ticker import Ticker
from partisan_async.supervisor.timetable import Timetable

SHOWN = 1_000
"""Maximum number of schedules that are told of, those that are overdue first."""


class Punctual:
    """The schedules of one queue: those that its code has, and those that were made at run time."""

    def __init__(
        self, queue_name: str, connection: Connection, ticker: Ticker, timetable: Timetable
    ) -> None:
        self._queue_name = queue_name
        self._connection = connection
        self._ticker = ticker
        self._timetable = timetable
        self._asked_at: float | None = None
        self._found: list[Punctuality] = []

    async def ask(self) -> list[Punctuality]:
        """Return how punctual they are, as of ``FRESH_SECONDS`` ago at most; none: nobody says."""
        keys = self._ticker.keys
        if not keys and not self._timetable.has_any:
            return []
        now = time.monotonic()
        if self._asked_at is not None and now - self._asked_at < FRESH_SECONDS:
            return self._found
        try:
            rows = await self._connection.execute(store.punctuality(keys, SHOWN, self._queue_name))
            self._found = [Punctuality(*row) for row in rows]
        except psycopg.Error as error:
            self._found = []
            logs.queues.not_counted(error)
        self._asked_at = time.monotonic()
        return self._found
