"""Has one part of a supervisor take turns: each says when the next one is, and others may hurry it.

While the database is away it waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import psycopg

from partisan_async.supervisor.backoff import Backoff


class Turns:
    """The turns of one part.

    :param turn: does what there is to do; returns in how many seconds to do so again, ``None``:
        when it is hurried.
    :param tell_failed: logs that the database has failed a turn.
    """

    def __init__(
        self,
        turn: Callable[[], Awaitable[float | None]],
        *,
        tell_failed: Callable[[BaseException], None],
    ) -> None:
        self.at: float | None = None
        """When the next one is, by the monotonic clock; ``None``: when it is hurried."""
        self.has_taken_one = False
        """Whether a turn was taken, or tried."""
        self._turn = turn
        self._tell_failed = tell_failed
        self._hurry = asyncio.Event()

    def hurry(self) -> None:
        """Have the next turn come at once."""
        self._hurry.set()

    async def take(self) -> None:
        """Take turns until cancelled."""
        backoff = Backoff(0.1, 5.0)
        while True:
            self._hurry.clear()
            try:
                seconds = await self._turn()
                backoff.reset()
            except psycopg.Error as error:
                self._tell_failed(error)
                seconds = backoff.next()
            if seconds is None or seconds > 0:
                self.has_taken_one = True
                self.at = None if seconds is None else time.monotonic() + seconds
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._hurry.wait(), seconds)
