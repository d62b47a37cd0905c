"""Runs that do not heed their time limit: their worker process is to be killed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from partisan_async.supervisor.workers.load import Run

GRACE_SECONDS = 5.0
"""Time that a task may take to heed its time limit, before its worker is killed."""

STALE_SECONDS = 0.1
"""Within this, what a worker had sent while the supervisor was held up has been read."""


class TimeLimits:
    """The limits of the runs in one process.

    :param on_overrun: called with a run that is not over ``GRACE_SECONDS`` after its limit.
    """

    def __init__(self, on_overrun: Callable[[Run], None]) -> None:
        self.overran: Run | None = None
        """The last such run."""
        self._on_overrun = on_overrun
        self._timers: dict[Run, asyncio.TimerHandle] = {}

    def watch(self, run: Run, limit: float) -> None:
        """It has started, and may take so many seconds."""
        self._call_later(limit + GRACE_SECONDS, self._doubt, run)

    def forget(self, run: Run) -> None:
        """It is over."""
        if timer := self._timers.pop(run, None):
            timer.cancel()

    def end(self) -> None:
        """All of them are over."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _doubt(self, run: Run) -> None:
        # Where this process was held up, the run's end may have been sent and not been read yet.
        self._call_later(STALE_SECONDS, self._note_overrun, run)

    def _note_overrun(self, run: Run) -> None:
        self._timers.pop(run, None)
        self.overran = run
        self._on_overrun(run)

    def _call_later(self, seconds: float, what: Callable[[Run], None], run: Run) -> None:
        self._timers[run] = asyncio.get_running_loop().call_later(seconds, what, run)
