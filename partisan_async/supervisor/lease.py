"""The *lease*: the time for which the supervisors of this process may rely on their claims.

They *hold* it while the last beat is younger than the TTL. The age is measured by the monotonic
clock from before the beat was sent: so none believes that it holds a lease that has expired for the
database. The heartbeat renews the lease. A supervisor that has joined since has no row yet, and
claims nothing before it has one.
"""

from __future__ import annotations

import asyncio
import math
import time
from datetime import timedelta

from partisan_async import logs


class Lease:
    """The lease of the supervisors of one process.

    :param ttl: time for which a beat renews it.
    """

    def __init__(self, ttl: timedelta) -> None:
        self.ttl = ttl
        self.wanted = asyncio.Event()
        """Set when a beat is to be sent at once."""
        self._ttl_seconds = ttl.total_seconds()
        self._sent: float | None = None
        self._steady_since = 0.0
        self._ahead: tuple[float, float] | None = None
        self._jumped_at = -math.inf

    @property
    def held(self) -> bool:
        """Whether the last beat is younger than the TTL."""
        return self._sent is not None and time.monotonic() - self._sent < self._ttl_seconds

    @property
    def steady(self) -> bool:
        """Whether it has been held for a TTL without a break, so that others can be judged by the
        clock.

        Otherwise all supervisors would rescue each other's tasks after an outage of the database.
        """
        return self.held and time.monotonic() - self._steady_since >= self._ttl_seconds

    @property
    def trusts_clock(self) -> bool:
        """Whether the database's clock has not jumped for a TTL."""
        return time.monotonic() - self._jumped_at >= self._ttl_seconds

    def hurry(self) -> None:
        """Have the next beat sent now."""
        self.wanted.set()

    def renew(self, sent: float, database_time: float) -> bool:
        """Renew it by a beat that was just answered; return whether the lease had expired.

        :param sent: when the beat was sent, by the monotonic clock.
        :param database_time: when the beat was answered, by the database's clock.
        """
        self._compare_clocks(database_time - time.monotonic(), database_time - sent)
        regained = self._sent is not None and not self.held
        if self._sent is None or regained:
            self._steady_since = sent
        self._sent = sent
        return regained

    def _compare_clocks(self, least: float, most: float) -> None:
        """Notice whether the database's clock has jumped.

        After a jump all supervisors that have not beaten since seem to be silent. Whoever judged
        them by the clock would take over the tasks that they run.

        :param least, most: bounds of how far the database's clock is ahead of the monotonic one.
        """
        before, self._ahead = self._ahead, (least, most)
        jump = 0.0 if before is None else max(0.0, least - before[1]) + min(0.0, most - before[0])
        if abs(jump) < self._ttl_seconds / 2:
            return
        self._steady_since = self._jumped_at = time.monotonic()
        logs.supervisor.clock_jumped(jump, self._ttl_seconds)
