"""Outcomes that the database did not take: those that are tried again, and those that are not."""

from __future__ import annotations

import time
from typing import Any

import psycopg

from partisan_async import logs
from partisan_async.claim import Claim, Settlement
from partisan_async.postgres.blame import Blame, whose
from partisan_async.supervisor.backoff import Backoff

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0

MOST = 20
"""After so many in a row it is none of the rows any more: nothing is given up, and no more tasks
are run that could not be written either."""

Key = tuple[int, int]


def key_of(claim: Claim) -> Key:
    """Return what names a claim."""
    return claim.id, claim.claim_seq


class Refused:
    """Keeps them, and their claims: nobody else is to run a task again that has run."""

    def __init__(self) -> None:
        # Each with the moment when its task was over.
        self._late: dict[Key, tuple[Settlement, float]] = {}
        self._due: dict[Key, float] = {}
        self._backoffs: dict[Key, Backoff] = {}
        self._left: dict[Key, Claim] = {}
        self._in_a_row = 0

    @property
    def waiting(self) -> int:
        """How many are to be tried again."""
        return len(self._late)

    @property
    def due_seconds(self) -> float:
        """In how many seconds the next one is to be tried; one has to wait."""
        return max(0.0, min(self._due.values()) - time.monotonic())

    def claims(self) -> list[Claim]:
        """Return the claims that are tried again, and those that are left as they are."""
        return [*(settlement.claim for settlement, _ in self._late.values()), *self._left.values()]

    def left(self) -> set[int]:
        """Return the ids of the rows that are left as they are."""
        return {pk for pk, _ in self._left}

    def attempts(self, claim: Claim) -> int:
        """Return how often this one was refused before."""
        backoff = self._backoffs.get(key_of(claim))
        return 0 if backoff is None else backoff.count

    def put(self, settlement: Settlement, since: float, error: psycopg.Error) -> bool:
        """Take one that was refused alone; return whether it is left as it is.

        One whose row is to blame is left in process, since to run it again would end the same way.

        :param since: when its task was over.
        """
        claim = settlement.claim
        key = key_of(claim)
        if whose(error) is Blame.ROW:
            self._in_a_row += 1
            if self._in_a_row <= MOST:
                self._backoffs.pop(key, None)
                self._left[key] = claim
                logs.outcomes.left(claim, error)
                return True
        backoff = self._backoffs.setdefault(
            key, Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        )
        self._late[key] = settlement, since
        self._due[key] = time.monotonic() + backoff.next()
        return False

    def take_due(self) -> list[tuple[Settlement, float]]:
        """Return those whose time has come, to be written or put here again."""
        now = time.monotonic()
        due = [key for key, at in self._due.items() if at <= now]
        for key in due:
            del self._due[key]
        return [self._late.pop(key) for key in due]

    def note_written(self, claims: list[Claim]) -> None:
        """Outcomes were written: so it is some rows that are to blame, and not all."""
        if claims:
            self._in_a_row = 0
        if self._backoffs:
            for claim in claims:
                self._backoffs.pop(key_of(claim), None)

    def drop(self, foreign: set[Key]) -> None:
        """Forget claims that are another's by now."""
        known: tuple[dict[Key, Any], ...] = (self._left, self._late, self._due, self._backoffs)
        for key in foreign:
            for each in known:
                each.pop(key, None)
