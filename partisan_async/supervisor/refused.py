"""Keeps outcomes that the database refused: those to try again, and those *left* as they are."""

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
"""Maximum number of consecutive refusals for which rows are blamed. After that the rows are not at
fault: no outcome is given up, and no task is started, since its outcome could not be written."""

Key = tuple[int, int]
"""``Claim.key``."""


class Refused:
    """Keeps refused outcomes with their claims, so that nobody runs those tasks a second time."""

    def __init__(self) -> None:
        # Each with the moment when its task was over.
        self._late: dict[Key, tuple[Settlement, float]] = {}
        self._due: dict[Key, float] = {}
        self._backoffs: dict[Key, Backoff] = {}
        self._left: dict[Key, Claim] = {}
        self._in_a_row = 0

    @property
    def waiting(self) -> int:
        """Number of outcomes to try again."""
        return len(self._late)

    @property
    def due_seconds(self) -> float:
        """Seconds until the next outcome is tried again; call it only while one waits."""
        return max(0.0, min(self._due.values()) - time.monotonic())

    def claims(self) -> list[Claim]:
        """Return the claims of all outcomes that are kept."""
        return [*(settlement.claim for settlement, _ in self._late.values()), *self._left.values()]

    def left(self) -> set[int]:
        """Return the ids of the rows that are left as they are."""
        return {pk for pk, _ in self._left}

    def attempts(self, claim: Claim) -> int:
        """Return how often this claim's outcome was refused before."""
        backoff = self._backoffs.get(claim.key)
        return 0 if backoff is None else backoff.count

    def put(self, settlement: Settlement, since: float, error: psycopg.Error) -> bool:
        """Keep an outcome that was refused by itself; return whether it is left as it is.

        A row that is to blame is left in process: another run would end the same way.

        :param since: when its task was over.
        """
        claim = settlement.claim
        key = claim.key
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
        """Remove and return the outcomes that are due for another attempt."""
        now = time.monotonic()
        due = [key for key, at in self._due.items() if at <= now]
        for key in due:
            del self._due[key]
        return [self._late.pop(key) for key in due]

    def note_written(self, claims: list[Claim], *, are_ends: bool) -> None:
        """Note that outcomes were written.

        :param are_ends: whether runs are among them, so that refusals are the fault of single rows.
        """
        if are_ends:
            self._in_a_row = 0
        if self._backoffs:
            for claim in claims:
                self._backoffs.pop(claim.key, None)

    def drop(self, foreign: set[Key]) -> None:
        """Forget claims that are another supervisor's by now."""
        known: tuple[dict[Key, Any], ...] = (self._left, self._late, self._due, self._backoffs)
        for key in foreign:
            for each in known:
                each.pop(key, None)
