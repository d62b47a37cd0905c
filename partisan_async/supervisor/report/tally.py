"""Adds the counts of each processor to the row of the current minute, every few seconds.

The dashboard cannot count task rows instead: ended ones may be deleted, or there may be millions.
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
"""Time after which tallies are deleted."""


class Tally:
    """Writes the counts of one supervisor."""

    def __init__(self, queue_name: str, connection: Connection, counts: Counts) -> None:
        self._queue_name = queue_name
        self._connection = connection
        self._counts = counts
        self._forgot_at: float | None = None
        self._told: str | None = None

    async def keep(self) -> None:
        """Write until cancelled."""
        while True:
            await asyncio.sleep(WRITE_EVERY_SECONDS)
            await self.write()

    async def write(self) -> None:
        """Write the counts since the last write, if there are any."""
        if rows := self._counts.take():
            try:
                await self._write(rows)
            except psycopg.Error as error:
                # Do not try again: no task depends on these counts, so they may be lost.
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
        # Warn once of an error that will not pass, else there would be a warning every few seconds.
        # `doctor` tells of it, too.
        level = logging.INFO if passes or told == self._told else logging.WARNING
        self._told = None if passes else told
        logs.queues.not_tallied(level, told)
