"""Writes what became of claims: in batches, and until the database has answered.

Nothing holds a batch up: rows that another transaction has locked are left out, and tried again; an
outcome that the database refuses is tried again, or given up, by itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from uuid import UUID

import psycopg

from partisan_async import logs, store
from partisan_async.claim import Attempt, Claim, Settlement
from partisan_async.policy import Finished, Interrupted
from partisan_async.postgres.blame import Blame, explain, whose
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.left_out import Why, judge
from partisan_async.supervisor.refused import MOST, Refused, key_of
from partisan_async.supervisor.trouble import Trouble
from partisan_async.supervisor.writer import Writer

LOCKED_EVERY_SECONDS = 1.0
"""How often a row is tried again that another transaction has locked."""


WHOLE_ATTEMPTS = 3
"""After so many, one that takes the server too long is written without its text."""


class Settler:
    """Settles what it is given, one statement after the other.

    :param delete_finished: delete the rows of tasks that finished.
    :param on_settled: called with what was written, after each batch.
    :param on_room: called when more tasks may be run than a moment ago.
    """

    def __init__(
        self,
        me: UUID,
        connection: Connection,
        *,
        delete_finished: bool,
        on_settled: Callable[[list[Settlement]], None],
        on_room: Callable[[], None],
    ) -> None:
        self.all_settled = asyncio.Event()
        self.all_settled.set()
        self.fenced = 0
        """How many outcomes were not written, since the claims were not ours any more."""
        self._me = me
        self._connection = connection
        self._writer = Writer(me, connection)
        self._refused = Refused()
        self._trouble = Trouble("settle", connection.role)
        self._delete_finished = delete_finished
        self._on_settled = on_settled
        self._on_room = on_room
        self._had_room = True
        self._tried_again = 0
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
        return [*(settlement.claim for settlement, _ in unwritten), *self._refused.claims()]

    def has_room(self) -> bool:
        """Tell whether more tasks are to be run: not while so many outcomes are refused.

        Whoever hears that it has none hears by ``on_room`` when it has.
        """
        refused = self._refused.waiting + max(self._tried_again, len(self._writer.failed))
        self._had_room = refused < MOST
        return self._had_room

    @property
    def retries(self) -> int:
        """How often a statement had to be sent again."""
        return self._writer.retries

    def left(self) -> set[int]:
        """Return the ids of rows whose outcomes were refused for good: they stay in process."""
        return self._refused.left()

    def disown(self, foreign: set[tuple[int, int]]) -> None:
        """Forget what is left of claims that are another's by now."""
        self._refused.drop(foreign)
        self._tell_of_room()

    async def keep(self) -> None:
        """Write for ever."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._more.wait(), self._patience())
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
            if self._refused.waiting and (due := self._refused.take_due()):
                # They are refused until they are written: nothing is to be run meanwhile.
                self._writing, self._tried_again = due, len(due)
                await self._settle(gently=True)
            if not (self._waiting or self._locked or self._refused.waiting):
                self.all_settled.set()

    def _patience(self) -> float | None:
        """Return in how many seconds to look without being asked; ``None``: never."""
        limits = [LOCKED_EVERY_SECONDS] if self._locked else []
        if self._refused.waiting:
            limits.append(self._refused.due_seconds)
        return min(limits, default=None)

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
        written |= await self._writer.write(store.settle, kept, gently=gently)
        written |= await self._writer.write(store.delete_finished, deleted, gently=gently)
        refused = self._put_refused() if self._writer.failed else set()
        self._tried_again = 0
        if len(written) + len(refused) < len(self._writing):
            others = [each for each in self._writing if each[0].claim.id not in written | refused]
            written |= await self._find_out_about(others, warn=not gently)
        settled = [each for each, _ in self._writing if each.claim.id in written]
        self._writing = []
        self._refused.note_written([each.claim for each in settled])
        if settled and not self._refused.waiting:
            self._trouble.end()
        self._on_settled(settled)
        self._tell_of_room()
        await self._announce([each.claim.id for each in settled if each.stores_result])

    def _tell_of_room(self) -> None:
        if not self._had_room and self.has_room():
            self._on_room()

    def _put_refused(self) -> set[int]:
        """Put what failed aside, to be tried again or not; return the ids of those."""
        originals = {key_of(each.claim): (each, since) for each, since in self._writing}
        refused: set[int] = set()
        told: set[str] = set()
        while self._writer.failed:
            failed, error = self._writer.failed.pop()
            settlement, since = originals[key_of(failed.claim)]
            blame = whose(error)
            if blame is Blame.AMOUNT and self._refused.attempts(failed.claim) == WHOLE_ATTEMPTS - 1:
                settlement = self._writer.bare(settlement)
                logs.outcomes.unstorable(failed.claim, error)
            is_left = self._refused.put(settlement, since, error)
            if not is_left and explain(error) not in told:
                told.add(explain(error))
                self._trouble.meet(error)
            refused.add(failed.claim.id)
        return refused

    async def _announce(self, ids: Sequence[int]) -> None:
        # Also of those that wait again: who waits for the end looks, and goes on waiting.
        if ids:
            try:
                await self._connection.execute(store.announce(ids))
            except psycopg.Error as error:
                # Those who wait look again by themselves.
                logs.outcomes.not_announced(len(ids), error)

    def _may_have_committed(self, settlement: Settlement) -> bool:
        """Tell whether it is of an atomic run that may have deleted its row, and never heard so."""
        return self._delete_finished and isinstance(settlement.decision, Interrupted)

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
        try:
            rows = await self._writer.persist(store.look([each.claim for each, _ in left]))
        except psycopg.Error as error:
            for settlement, since in left:
                self._refused.put(settlement, since, error)
            self._trouble.meet(error)
            return set()
        found = {row[0]: (row[1], row[2]) for row in rows}
        written = set()
        for settlement, since in left:
            claim = settlement.claim
            may_be_gone = self._is_deleted(settlement) or self._may_have_committed(settlement)
            match judge(claim, found.get(claim.id), self._me, may_be_gone=may_be_gone):
                case Why.WRITTEN:
                    written.add(claim.id)
                case Why.LOCKED:
                    self._locked.append((settlement, since))
                    if warn:
                        logs.outcomes.locked(claim)
                case Why.FENCED:
                    self.fenced += 1
                    logs.outcomes.fenced(claim)
        return written


def _aged(settlement: Settlement, seconds: float) -> Settlement:
    """Return it with the time since it was over added to how long ago it started."""
    claim, decision, attempt, stores_result = settlement
    if attempt is None:
        return settlement
    attempt = Attempt(attempt[0] + seconds, attempt[1])
    return Settlement(claim, decision, attempt, stores_result)
