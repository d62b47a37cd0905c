"""Asks workers to hand back what waits in them for too long, so that others start it.

What is too long is the rule of ``room``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from partisan_async.supervisor.workers import room
from partisan_async.supervisor.workers.process import WorkerProcess


class Balance:
    """Looks at the processes from time to time, while anything waits in one of them.

    :param processes: returns them.
    :param on_capacity: called when a worker may take more than a moment ago.
    """

    def __init__(
        self, processes: Callable[[], Iterable[WorkerProcess]], on_capacity: Callable[[], None]
    ) -> None:
        self._processes = processes
        self._on_capacity = on_capacity
        self._timer: asyncio.TimerHandle | None = None

    def look_later(self, seconds: float = room.OVERDUE_SECONDS) -> None:
        """Look after this time, unless a look is due already."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        waiting = [process for process in self._processes() if process.load.has_unstarted]
        for process in waiting:
            now, load = loop.time(), process.load
            if room.waits_behind_overdue(load, now):
                process.ask_back()
            if room.waits_for_blocked_loop(load, now):
                load.loop_blocked_until = now + room.BLOCKED_SECONDS
                process.ask_back()
                loop.call_later(room.BLOCKED_SECONDS, self._on_capacity)
        if waiting:
            self.look_later(room.LOOK_AGAIN_SECONDS)
