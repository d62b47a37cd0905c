"""The *lease*: how long this supervisor may take the rows that it claimed for its own.

A supervisor *holds* its lease while its last beat is younger than the TTL. Its clock is the
monotonic one, read before the beat was sent, so that it never believes to hold what the database
takes for lapsed. The heartbeat renews it.
"""

from __future__ import annotations

import asyncio
import math
import time
from datetime import timedelta

from partisan_async import logs


class Lease:
    """The lease of one supervisor.

    :param ttl: how long after a beat it holds.
    """

    def __init__(self, ttl: timedelta) -> None:
        self.ttl = ttl
        self.wanted = asyncio.Event()
        """A beat is wanted now, and not at its time."""
        self._ttl_seconds = ttl.total_seconds()
        self._sent: float | None = None
        self._steady_since = 0.0
        self._ahead: tuple[float, float] | None = None
        self._jumped_at = -math.inf

    @property
    def held(self) -> bool:
        """Whether my last beat is younger than the TTL."""
        return self._sent is not None and time.monotonic() - self._sent < self._ttl_seconds

    @property
    def steady(self) -> bool:
        """Whether I have beaten for a TTL without a break, and so may judge others by the clock.

        Without it, everybody would rescue everybody after an outage of the database.
        """
        return self.held and time.monotonic() - self._steady_since >= self._ttl_seconds

    @property
    def trusts_clock(self) -> bool:
        """Whether the database's clock has not been set for a TTL."""
        return time.monotonic() - self._jumped_at >= self._ttl_seconds

    def hurry(self) -> None:
        """Have the next beat sent now."""
        self.wanted.set()

    def renew(self, sent: float, database_time: float) -> bool:
        """Count from a beat that was answered just now; return whether the lease had lapsed before.

        :param sent: when the beat was sent, by the monotonic clock.
        :param database_time: when it was answered, by the database's.
        """
        self._compare_clocks(database_time - time.monotonic(), database_time - sent)
        regained = self._sent is not None and not self.held
        if self._sent is None or regained:
            self._steady_since = sent
        self._sent = sent
        return regained

    def _compare_clocks(self, least: float, most: float) -> None:
        """See whether the database's clock was set: all who have not beaten since seem silent then.

        Whoever judged them by that clock would take over what they run.

        :param least, most: the bounds of how far it is ahead of mine.
        """
        before, self._ahead = self._ahead, (least, most)
        jump = 0.0 if before is None else max(0.0, least - before[1]) + min(0.0, most - before[0])
        if abs(jump) < self._ttl_seconds / 2:
            return
        self._steady_since = self._jumped_at = time.monotonic()
        logs.supervisor.clock_jumped(jump, self._ttl_seconds)
