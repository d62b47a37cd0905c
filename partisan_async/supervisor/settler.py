"""Writes what became of claims: in batches, and until the database has answered."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import psycopg

from partisan_async import logs, store
from partisan_async.policy import Failed, Failure, Finished
from partisan_async.store import Claim, Settlement, Statement
from partisan_async.supervisor.connection import TRANSIENT, Connection, explain

logger = logging.getLogger("partisan_async")


class Settler:
    """Settles what it is given, one statement after the other.

    :param delete_finished: delete the rows of tasks that finished.
    :param on_settled: called with each batch after it was written.
    """

    def __init__(
        self,
        me: UUID,
        connection: Connection,
        *,
        delete_finished: bool,
        on_settled: Callable[[list[Settlement]], None],
    ) -> None:
        self.all_settled = asyncio.Event()
        self.all_settled.set()
        self._me = me
        self._connection = connection
        self._delete_finished = delete_finished
        self._on_settled = on_settled
        self._waiting: list[tuple[Settlement, float]] = []
        self._writing: list[tuple[Settlement, float]] = []
        self._more = asyncio.Event()

    def add(self, settlement: Settlement) -> None:
        """Take one to be written."""
        self._waiting.append((settlement, time.monotonic()))
        self.all_settled.clear()
        self._more.set()

    def claims(self) -> list[Claim]:
        """Return the claims that are not written yet."""
        return [settlement.claim for settlement, _ in (*self._writing, *self._waiting)]

    async def keep(self) -> None:
        """Write for ever."""
        while True:
            await self._more.wait()
            self._more.clear()
            # What comes while one statement is under way makes the next batch; a lone one waits
            # for nothing.
            self._writing, self._waiting = self._waiting, []
            now = time.monotonic()
            batch = [_aged(settlement, now - since) for settlement, since in self._writing]
            await self._settle(batch)
            self._writing = []
            if not self._waiting:
                self.all_settled.set()
            self._on_settled(batch)

    async def _settle(self, batch: Sequence[Settlement]) -> None:
        kept: list[Settlement] = []
        deleted: list[Settlement] = []
        for settlement in batch:
            over = isinstance(settlement.decision, Finished)
            (deleted if over and self._delete_finished else kept).append(settlement)
        settled: set[int] = set()
        if kept:
            settled |= await self._write(kept)
        if deleted:
            claims = [settlement.claim for settlement in deleted]
            rows = await self._persist(store.delete_finished(self._me, claims))
            settled |= {row[0] for row in rows}
        for settlement in batch:
            if settlement.claim.id not in settled:
                logs.fenced(settlement.claim)

    async def _write(self, settlements: Sequence[Settlement]) -> set[int]:
        try:
            try:
                rows = await self._persist(store.settle(self._me, settlements))
            except psycopg.errors.UniqueViolation:
                statement = store.settle(self._me, settlements, drop_digests=True)
                rows = await self._persist(statement)
        except psycopg.DataError as error:
            if len(settlements) > 1:
                written = [await self._write([settlement]) for settlement in settlements]
                return set().union(*written)
            # No outcome may keep the others from being written, whatever is in it.
            logger.exception("task %s: its outcome cannot be stored", settlements[0].claim.id)
            failure = Failure(type(error).__name__, "The task's outcome could not be stored.")
            failed = settlements[0]._replace(decision=Failed(failure))
            rows = await self._persist(store.settle(self._me, [failed]))
        return {row[0] for row in rows}

    async def _persist(self, statement: Statement) -> list[Any]:
        """Execute a settle until the database has answered: the fence makes a repeat harmless."""
        pause = 0.1
        while True:
            try:
                return await self._connection.execute(statement)
            except TRANSIENT as error:
                logger.warning("settle failed, trying again: %s", explain(error))
                await asyncio.sleep(pause)
                pause = min(2 * pause, 5)


def _aged(settlement: Settlement, seconds: float) -> Settlement:
    """Return it with the time since it was over added to how long ago it started."""
    if settlement.ran is None:
        return settlement
    ran, worker_id = settlement.ran
    return settlement._replace(ran=(ran + seconds, worker_id))
