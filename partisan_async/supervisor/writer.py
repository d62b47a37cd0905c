"""Writes outcomes, so that one that the database refuses does not keep others from being written.

A batch that fails is written in halves, and those in halves, down to the outcome that is to blame.
If the database refuses its text, that one is written with other text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import psycopg

from partisan_async import logs, store
from partisan_async.claim import Call, Claim, Settlement
from partisan_async.policy import Finished, Postponed
from partisan_async.postgres.blame import Blame, NoAnswer, whose
from partisan_async.store import Statement
from partisan_async.supervisor.backoff import Backoff
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.storable import reduced

CONFLICTS = (psycopg.errors.UniqueViolation, psycopg.errors.LockNotAvailable)
"""Another row or another transaction is in the way; a gentle attempt leaves such rows out."""

REFUSALS = (Blame.ROW, Blame.RIGHT, Blame.STATEMENT)
"""What no second attempt mends."""

LONGEST_PAUSE_SECONDS = 1.0
"""Maximum pause between two attempts. A stop waits a few seconds for outcomes; if the database is
back in that time, they are written, and no task runs again."""

Way = Callable[..., Statement]
"""``store.settle``, ``store.delete_finished`` or ``store.put_under_limits``."""


class Writer:
    """Writes for one supervisor; waits while the connection fails.

    :param delete_finished: delete the rows of tasks that finished.
    """

    def __init__(self, me: UUID, connection: Connection, *, delete_finished: bool) -> None:
        self.failed: list[tuple[Settlement, psycopg.Error]] = []
        """Settlements that could not be written, and why; the caller empties it."""
        self.told: list[tuple[Claim, Call, int]] = []
        """Claims with the calls of ``ON_ERROR`` that their ends enqueued, and the ids of these; the
        caller empties it."""
        self.retries = 0
        """Number of times that a statement was sent again."""
        self.delete_finished = delete_finished
        self._me = me
        self._connection = connection

    def deletes(self, settlement: Settlement) -> bool:
        """Tell whether this settlement is written by deleting the row."""
        if not self.delete_finished or settlement.stores_result:
            return False
        return isinstance(settlement.decision, Finished)

    async def write(self, way: Way, batch: Sequence[Settlement], *, gently: bool) -> set[int]:
        """Write a batch; return the ids of the rows that were written.

        The others are in ``failed``, or were left out: locked, or not our claims any more.
        """
        if not batch:
            return set()
        try:
            return await self._try(way, batch, gently=gently)
        except psycopg.errors.LockNotAvailable:
            # These rows are not to blame: the table is locked, or a row that refers to one of them.
            if way is store.settle or len(batch) == 1:
                return set()
            return await self._write_halves(way, batch, gently=True)
        except psycopg.Error as error:
            if len(batch) > 1:
                return await self._write_halves(way, batch, gently=gently)
            if way is store.delete_finished:
                # For example, a row of the site refers to this one: keep it, and settle it instead.
                return await self.write(store.settle, batch, gently=gently)
            return await self._write_in_other_words(batch[0], error)

    async def pause_keys(self, batch: Sequence[Settlement]) -> None:
        """Pause the keys of those that ask for it, before any of these rows waits again."""
        pauses: dict[store.Key, float] = {}
        for claim, decision, *_ in batch:
            if isinstance(decision, Postponed) and decision.whole_key and claim.limit_name:
                key, seconds = (claim.limit_name, claim.limit_key), decision.pause.total_seconds()
                pauses[key] = max(seconds, pauses.get(key, 0.0))
        if pauses:
            try:
                await self.persist(store.pause_keys(pauses))
            except psycopg.Error as error:
                logs.outcomes.keys_not_paused(len(pauses), error)

    def bare(self, settlement: Settlement) -> Settlement:
        """Return a settlement without its texts, which may be too large."""
        *_, bare = (settlement, *reduced(settlement, self._connection.encoding))
        return bare

    async def persist(self, statement: Statement) -> list[Any]:
        """Execute a statement until the database answers: the fence makes a repeat harmless.

        :raises psycopg.Error: the database has answered, and the statement is to blame.
        """
        backoff, unanswered = Backoff(0.1, LONGEST_PAUSE_SECONDS), False
        while True:
            try:
                return await self._connection.execute(statement)
            except psycopg.errors.LockNotAvailable:
                raise
            except psycopg.Error as error:
                is_ours = whose(error) in (Blame.CONNECTION, Blame.CONTENTION)
                if not is_ours and (unanswered or not isinstance(error, NoAnswer)):
                    raise
                unanswered = isinstance(error, NoAnswer)
                self.retries += 1
                logs.outcomes.settle_failed(error)
                await asyncio.sleep(backoff.next())

    async def _try(self, way: Way, batch: Sequence[Settlement], *, gently: bool) -> set[int]:
        try:
            rows = await self.persist(way(self._me, batch, gently=gently))
        except CONFLICTS:
            rows = await self.persist(way(self._me, batch, gently=True))
        if rows and len(rows[0]) > 1:
            ids = dict(rows)
            for each in batch:
                if (call := each.told_by) and (pk := ids.get(each.claim.id)):
                    self.told.append((each.claim, call, pk))
        return {row[0] for row in rows}

    async def _write_halves(
        self, way: Way, batch: Sequence[Settlement], *, gently: bool
    ) -> set[int]:
        middle = len(batch) // 2
        written = await self.write(way, batch[:middle], gently=gently)
        return written | await self.write(way, batch[middle:], gently=gently)

    async def _write_in_other_words(self, settlement: Settlement, error: psycopg.Error) -> set[int]:
        if whose(error) is Blame.ROW:
            for other in reduced(settlement, self._connection.encoding):
                try:
                    written = await self._try(store.settle, [other], gently=True)
                except psycopg.errors.LockNotAvailable:
                    return set()
                except psycopg.Error:
                    continue
                logs.outcomes.unstorable(settlement.claim, error)
                return written
        if settlement.on_error and whose(error) in REFUSALS:
            return await self._write_untold(settlement, error)
        self.failed.append((settlement, error))
        return set()

    async def _write_untold(self, settlement: Settlement, error: psycopg.Error) -> set[int]:
        """Write an end without the call that tells of it: that may be what is refused."""
        written = await self.write(store.settle, [settlement._replace(on_error=None)], gently=True)
        if written:
            logs.outcomes.no_on_error(settlement.claim, error)
        return written
