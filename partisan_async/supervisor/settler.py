"""Writes what became of claims: in batches, and until the database has answered.

Nobody else's transaction holds a batch up: rows that one has locked are left out, and tried again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import psycopg

from partisan_async import logs, store
from partisan_async.policy import Failed, Failure, Finished
from partisan_async.store import Claim, Settlement, Statement
from partisan_async.supervisor.connection import TRANSIENT, Connection, explain

logger = logging.getLogger("partisan_async")

LOCKED_EVERY_SECONDS = 1.0
"""How often a row is tried again that another transaction has locked."""

CONFLICTS = (psycopg.errors.UniqueViolation, psycopg.errors.LockNotAvailable)
"""Another row or another transaction is in the way, and a gentle attempt goes around it."""


class Settler:
    """Settles what it is given, one statement after the other.

    :param delete_finished: delete the rows of tasks that finished.
    :param on_settled: called with what was written, after each batch.
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
        self.retries = 0
        """How often a statement had to be sent again."""
        self.fenced = 0
        """How many outcomes were not written, since the claims were not ours any more."""
        self._me = me
        self._connection = connection
        self._delete_finished = delete_finished
        self._on_settled = on_settled
        # Each with the moment when its task was over.
        self._waiting: list[tuple[Settlement, float]] = []
        self._writing: list[tuple[Settlement, float]] = []
        self._locked: list[tuple[Settlement, float]] = []
        self._locked_due = 0.0
        self._more = asyncio.Event()

    def add(self, settlement: Settlement) -> None:
        """Take one to be written."""
        self._waiting.append((settlement, time.monotonic()))
        self.all_settled.clear()
        self._more.set()

    def claims(self) -> list[Claim]:
        """Return the claims that are not written yet."""
        unwritten = (*self._writing, *self._waiting, *self._locked)
        return [settlement.claim for settlement, _ in unwritten]

    async def keep(self) -> None:
        """Write for ever."""
        while True:
            with suppress(TimeoutError):
                patience = LOCKED_EVERY_SECONDS if self._locked else None
                await asyncio.wait_for(self._more.wait(), patience)
            # What comes while one statement is under way makes the next batch; a lone one waits
            # for nothing.
            self._more.clear()
            if self._waiting:
                self._writing, self._waiting = self._waiting, []
                await self._settle()
            if self._locked and time.monotonic() >= self._locked_due:
                self._writing, self._locked = self._locked, []
                await self._settle(gently=True)
                self._locked_due = time.monotonic() + LOCKED_EVERY_SECONDS
            if not self._waiting and not self._locked:
                self.all_settled.set()

    async def _settle(self, *, gently: bool = False) -> None:
        now = time.monotonic()
        kept: list[Settlement] = []
        deleted: list[Settlement] = []
        written: set[int] = set()
        for settlement, since in self._writing:
            each = _aged(settlement, now - since)
            if isinstance(each.decision, Finished) and each.decision.settled:
                written.add(each.claim.id)
            elif self._is_deleted(each):
                deleted.append(each)
            else:
                kept.append(each)
        written |= await self._write(store.settle, kept, gently=gently)
        written |= await self._write(store.delete_finished, deleted, gently=gently)
        if len(written) < len(self._writing):
            left = [each for each in self._writing if each[0].claim.id not in written]
            written |= await self._find_out_about(left, warn=not gently)
        settled = [each for each, _ in self._writing if each.claim.id in written]
        self._writing = []
        self._on_settled(settled)
        await self._announce([each.claim.id for each in settled if each.stores_result])

    async def _write(
        self,
        statement: Callable[..., Statement],
        batch: Sequence[Settlement],
        *,
        gently: bool,
    ) -> set[int]:
        """Return the ids of those that were written."""
        if not batch:
            return set()
        try:
            try:
                rows = await self._persist(statement(self._me, batch, gently=gently))
            except CONFLICTS:
                rows = await self._persist(statement(self._me, batch, gently=True))
        except psycopg.errors.LockNotAvailable:
            # It is not these rows: the table is locked, or a row that refers to one of them.
            if statement is store.settle or len(batch) == 1:
                return set()
            return await self._write_one_by_one(statement, batch, gently=True)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            if len(batch) > 1:
                return await self._write_one_by_one(statement, batch, gently=gently)
            (settlement,) = batch
            if statement is store.delete_finished:
                # Something of the site's refers to the row: it stays.
                return await self._write(store.settle, batch, gently=gently)
            # No outcome may keep the others from being written, whatever is in it.
            logs.unstorable(settlement.claim, error)
            failure = Failure(type(error).__name__, "The task's outcome could not be stored.")
            failed = settlement._replace(decision=Failed(failure))
            rows = await self._persist(store.settle(self._me, [failed], gently=True))
        return {row[0] for row in rows}

    async def _write_one_by_one(
        self, statement: Callable[..., Statement], batch: Sequence[Settlement], *, gently: bool
    ) -> set[int]:
        parts = [await self._write(statement, [each], gently=gently) for each in batch]
        return set().union(*parts)

    async def _persist(self, statement: Statement) -> list[Any]:
        """Execute a settle until the database has answered: the fence makes a repeat harmless."""
        pause = 0.1
        while True:
            try:
                return await self._connection.execute(statement)
            except psycopg.errors.LockNotAvailable:
                raise
            except TRANSIENT as error:
                self.retries += 1
                logger.warning("settle failed, trying again: %s", explain(error))
                await asyncio.sleep(pause)
                pause = min(2 * pause, 5)

    async def _announce(self, ids: Sequence[int]) -> None:
        # Also of those that wait again: who waits for the end looks, and goes on waiting.
        if ids:
            try:
                await self._connection.execute(store.announce(ids))
            except psycopg.Error as error:
                # Those who wait look again by themselves.
                logger.warning("the end of %d task(s) was not told: %s", len(ids), explain(error))

    def _is_deleted(self, settlement: Settlement) -> bool:
        if not self._delete_finished or settlement.stores_result:
            return False
        return isinstance(settlement.decision, Finished)

    async def _find_out_about(
        self, left: Sequence[tuple[Settlement, float]], *, warn: bool
    ) -> set[int]:
        """Return which of these had been written before: the answer to that was lost.

        Those that are ours still, and so only locked, are kept for later.
        """
        rows = await self._persist(store.look([settlement.claim for settlement, _ in left]))
        found = {row[0]: (row[1], row[2]) for row in rows}
        written = set()
        for settlement, since in left:
            claim = settlement.claim
            match found.get(claim.id):
                case (claim.claim_seq, self._me):
                    self._locked.append((settlement, since))
                    if warn:
                        logs.locked(claim)
                case (claim.claim_seq, None):
                    written.add(claim.id)
                case (seq, self._me) if seq == claim.claim_seq + 1:
                    # I have it again, and nobody had it in between: I gave it back.
                    written.add(claim.id)
                case None if self._is_deleted(settlement):
                    written.add(claim.id)
                case _:
                    self.fenced += 1
                    logs.fenced(claim)
        return written


def _aged(settlement: Settlement, seconds: float) -> Settlement:
    """Return it with the time since it was over added to how long ago it started."""
    claim, decision, ran, stores_result = settlement
    if ran is None:
        return settlement
    ran_seconds, worker_id = ran
    return Settlement(claim, decision, (ran_seconds + seconds, worker_id), stores_result)
