"""Keeps the outcomes that a settle did not write, and says what to do about each.

There are four cases. The outcome was written before, and the answer was lost. Another transaction
has *locked* the row: the outcome is tried again every second. The claim is another supervisor's by
now: the outcome is *fenced*, and dropped. Or the database has *refused* it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from uuid import UUID

import psycopg

from partisan_async import logs, store
from partisan_async.claim import Claim, Settlement
from partisan_async.policy import Interrupted
from partisan_async.postgres.blame import Blame, whose
from partisan_async.supervisor.left_out import Why, judge
from partisan_async.supervisor.refused import Refused
from partisan_async.supervisor.trouble import Trouble
from partisan_async.supervisor.writer import Writer
from partisan_async.text.one_line import explain

LOCKED_EVERY_SECONDS = 1.0
"""Interval at which a row that another transaction has locked is tried again."""

WHOLE_ATTEMPTS = 3
"""Number of attempts after which an outcome that takes the server too long loses its text."""

Timed = tuple[Settlement, float]
"""A settlement, and the moment when its task was over."""


class Unwritten:
    """The outcomes that one settler tried to write, and could not yet."""

    def __init__(self, me: UUID, writer: Writer, role: str) -> None:
        self.fenced = 0
        """Number of outcomes that were dropped because the claims are not ours any more."""
        self.refused = Refused()
        self.locked: list[Timed] = []
        self._locked_due = 0.0
        self._me = me
        self._writer = writer
        self._trouble = Trouble("settle", role)

    def __bool__(self) -> bool:
        return bool(self.locked or self.refused.waiting)

    def claims(self) -> list[Claim]:
        """Return the claims of these outcomes."""
        return [*(settlement.claim for settlement, _ in self.locked), *self.refused.claims()]

    def patience(self) -> float | None:
        """Return the seconds until the next outcome is to be tried again; ``None``: none is."""
        limits = [LOCKED_EVERY_SECONDS] if self.locked else []
        if self.refused.waiting:
            limits.append(self.refused.due_seconds)
        return min(limits, default=None)

    def take_locked(self) -> list[Timed]:
        """Remove and return the outcomes of locked rows, if it is time to try them again."""
        if time.monotonic() < self._locked_due:
            return []
        locked, self.locked = self.locked, []
        return locked

    def put_locked_off(self) -> None:
        """Have the outcomes of locked rows tried again a second from now."""
        self._locked_due = time.monotonic() + LOCKED_EVERY_SECONDS

    def note_written(self, settled: Sequence[Settlement]) -> None:
        """Note that outcomes were written.

        What has not begun, and was given back, says nothing of those that the database refuses.
        """
        are_ends = any(each.attempt for each in settled)
        self.refused.note_written([each.claim for each in settled], are_ends=are_ends)
        if are_ends and not self.refused.waiting:
            self._trouble.end()

    def put_failed(self, writing: Iterable[Timed]) -> set[int]:
        """Keep the outcomes that the database refused; return the ids of their tasks.

        :param writing: all outcomes that were to be written.
        """
        originals = {each.claim.key: (each, since) for each, since in writing}
        refused: set[int] = set()
        told: set[str] = set()
        while self._writer.failed:
            failed, error = self._writer.failed.pop()
            settlement, since = originals[failed.claim.key]
            blame = whose(error)
            if blame is Blame.AMOUNT and self.refused.attempts(failed.claim) == WHOLE_ATTEMPTS - 1:
                settlement = self._writer.bare(settlement)
                logs.outcomes.unstorable(failed.claim, error)
            is_left = self.refused.put(settlement, since, error)
            if not is_left and explain(error) not in told:
                told.add(explain(error))
                self._trouble.meet(error)
            refused.add(failed.claim.id)
        return refused

    async def find_out_about(self, left: Sequence[Timed], *, warn: bool) -> set[int]:
        """Return the ids of the tasks whose outcomes an earlier settle wrote, without an answer.

        An outcome whose claim is still ours was only locked, and is kept for later.
        """
        try:
            rows = await self._writer.persist(store.look([each.claim for each, _ in left]))
        except psycopg.Error as error:
            for settlement, since in left:
                self.refused.put(settlement, since, error)
            self._trouble.meet(error)
            return set()
        found = {row[0]: (row[1], row[2]) for row in rows}
        written = set()
        for settlement, since in left:
            claim = settlement.claim
            may_be_gone = self._may_be_gone(settlement)
            match judge(claim, found.get(claim.id), self._me, may_be_gone=may_be_gone):
                case Why.WRITTEN:
                    written.add(claim.id)
                case Why.LOCKED:
                    self.locked.append((settlement, since))
                    if warn:
                        logs.outcomes.locked(claim)
                case Why.FENCED:
                    self.fenced += 1
                    logs.outcomes.fenced(claim)
        return written

    def _may_be_gone(self, settlement: Settlement) -> bool:
        """Tell whether the row may have been deleted: by this settle, or by an atomic run."""
        if self._writer.deletes(settlement):
            return True
        # An atomic run that was cut off may have committed without hearing so.
        return self._writer.delete_finished and isinstance(settlement.decision, Interrupted)
