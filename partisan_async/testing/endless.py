"""Tells whether tasks that enqueue tasks come to an end."""

from __future__ import annotations

import datetime

from partisan_async.claim import Claim
from partisan_async.models import Task


class Growth:
    """Counts the runs at one moment that follow from other runs: only these can go on for ever.

    The tasks that wait at the beginning are finite, however many they are.

    :param newest: the greatest id of a row at the beginning.
    :param most: maximum number of such runs.
    """

    def __init__(self, newest: int, most: int) -> None:
        self._newest = newest
        self._most = most
        self._more = 0
        self._seen: set[int] = set()
        self._moment: datetime.datetime | None = None

    def is_too_much(self, claim: Claim, moment: datetime.datetime | None) -> bool:
        """Count a run, and tell whether there are too many now."""
        if moment != self._moment:
            self._moment, self._more = moment, 0
        self._more += claim.id > self._newest or claim.id in self._seen
        self._seen.add(claim.id)
        return self._more > self._most

    def message(self, last: Task) -> str:
        """Return the message for too many runs."""
        return (
            f"run_pending() has run more than {self._most:,} tasks that others enqueued, or that"
            f" ran before, and there is no end: the last was {last}. Does it enqueue itself, or"
            " postpone itself by 0 seconds? If there is an end, pass a larger most_more."
        )
