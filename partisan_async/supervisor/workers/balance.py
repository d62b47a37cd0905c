"""Asks workers to hand back tasks that wait too long in them, so that other workers start them.

``room`` decides what is too long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from partisan_async.supervisor.workers import room
from partisan_async.supervisor.workers.process import WorkerProcess


class Balance:
    """Looks at the processes repeatedly while a task waits in one of them.

    :param processes: returns the processes.
    :param on_capacity: called when a worker may have room again.
    """

    def __init__(
        self, processes: Callable[[], Iterable[WorkerProcess]], on_capacity: Callable[[], None]
    ) -> None:
        self._processes = processes
        self._on_capacity = on_capacity
        self._timer: asyncio.TimerHandle | None = None

    def look_later(self, seconds: float = room.OVERDUE_SECONDS) -> None:
        """Schedule a look, unless one is scheduled already."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def stop(self) -> None:
        """Cancel the scheduled look."""
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
