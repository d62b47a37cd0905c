"""Adds up what tasks did, per processor, and writes it down every few seconds.

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
from partisan_async.claim import Claim
from partisan_async.policy import Decision, Failed, Finished, Postponed, Retried, Suspected
from partisan_async.postgres.blame import Blame, explain, whose
from partisan_async.supervisor.connection import Connection

WRITE_EVERY_SECONDS = 5.0

KEPT = timedelta(days=1)

_PLACES = {Finished: 0, Failed: 1, Retried: 2, Postponed: 3, Suspected: 4}
"""Where in a row each decision is counted; the others are no runs."""

_RUN, _WAIT, _LONGEST_RUN, _LONGEST_WAIT = range(5, 9)


class Tally:
    """Counts the runs of one supervisor."""

    def __init__(self, queue_name: str, connection: Connection) -> None:
        self._queue_name = queue_name
        self._connection = connection
        # Per processor, in the order of store.TALLY_COLUMNS.
        self._rows: dict[str, list[float]] = {}
        self._forgot_at: float | None = None
        self._told: str | None = None

    def add(self, claim: Claim, decision: Decision, seconds: float) -> None:
        """Count a run.

        :param seconds: how long it took.
        """
        place = _PLACES.get(type(decision))
        if place is None:
            return
        row = self._rows.get(claim.processor_class)
        if row is None:
            row = self._rows[claim.processor_class] = [0.0] * 9
        waited = claim.waited_seconds
        row[place] += 1
        row[_RUN] += seconds
        row[_WAIT] += waited
        if seconds > row[_LONGEST_RUN]:
            row[_LONGEST_RUN] = seconds
        if waited > row[_LONGEST_WAIT]:
            row[_LONGEST_WAIT] = waited

    async def keep(self) -> None:
        """Write for ever what there is to write."""
        while True:
            await asyncio.sleep(WRITE_EVERY_SECONDS)
            await self.write()

    async def write(self) -> None:
        """Write what was counted since the last time, if there is anything."""
        if self._rows:
            try:
                await self._write()
            except psycopg.Error as error:
                # Nobody's task depends on it, and so nobody waits: it is lost.
                self._tell_of_loss(error)

    def _tell_of_loss(self, error: psycopg.Error) -> None:
        told = explain(error)
        passes = whose(error) in (Blame.CONNECTION, Blame.CONTENTION)
        # What does not pass is said once, and then by `doctor`: it would come every few seconds.
        level = logging.INFO if passes or told == self._told else logging.WARNING
        self._told = None if passes else told
        logs.queues.not_tallied(level, told)

    async def _write(self) -> None:
        rows, self._rows = self._rows, {}
        counted = [(name, *numbers) for name, numbers in rows.items()]
        await self._connection.execute(store.tally(self._queue_name, counted))
        now = time.monotonic()
        if self._forgot_at is None or now - self._forgot_at > KEPT.total_seconds() / 24:
            await self._connection.execute(store.forget_tallies(KEPT))
            self._forgot_at = now
