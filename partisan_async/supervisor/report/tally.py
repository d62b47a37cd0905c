"""Writes what tasks did, per processor, to the rows of the current minute, every few seconds.

Rows of tasks that ended may be deleted, and there may be millions of them: what is shown of the
last hour cannot be counted from them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta

import psycopg

from partisan_async import logs, store
from partisan_async.postgres.blame import Blame, whose
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.report.counts import Counts
from partisan_async.text.one_line import explain

WRITE_EVERY_SECONDS = 5.0

KEPT = timedelta(days=1)


class Tally:
    """Writes the counts of one supervisor."""

    def __init__(self, queue_name: str, connection: Connection, counts: Counts) -> None:
        self._queue_name = queue_name
        self._connection = connection
        self._counts = counts
        self._forgot_at: float | None = None
        self._told: str | None = None

    async def keep(self) -> None:
        """Write for ever what there is to write."""
        while True:
            await asyncio.sleep(WRITE_EVERY_SECONDS)
            await self.write()

    async def write(self) -> None:
        """Write what was counted since the last time, if there is anything."""
        if rows := self._counts.take():
            try:
                await self._write(rows)
            except psycopg.Error as error:
                # No task depends on it, so nothing waits for it: what was counted is lost.
                self._tell_of_loss(error)

    async def _write(self, rows: list[tuple[str | float, ...]]) -> None:
        await self._connection.execute(store.tally(self._queue_name, rows))
        now = time.monotonic()
        if self._forgot_at is None or now - self._forgot_at > KEPT.total_seconds() / 24:
            await self._connection.execute(store.forget_tallies(KEPT))
            self._forgot_at = now

    def _tell_of_loss(self, error: psycopg.Error) -> None:
        told = explain(error)
        passes = whose(error) in (Blame.CONNECTION, Blame.CONTENTION)
        # What does not pass is said once, and then by `doctor`: it would come every few seconds.
        level = logging.INFO if passes or told == self._told else logging.WARNING
        self._told = None if passes else told
        logs.queues.not_tallied(level, told)
