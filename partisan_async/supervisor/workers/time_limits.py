"""Finds runs that do not heed their time limit, so that their worker process is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from partisan_async.supervisor.workers.load import Run

GRACE_SECONDS = 5.0
"""Time that a run has to end after its time limit; then its worker is killed."""

STALE_SECONDS = 0.1
"""Time in which a supervisor that was held up reads what workers have sent."""


class TimeLimits:
    """The time limits of the runs in one process.

    :param on_overrun: called with a run that goes on ``GRACE_SECONDS`` after its limit.
    """

    def __init__(self, on_overrun: Callable[[Run], None]) -> None:
        self.overran: Run | None = None
        """The last run that did not heed its limit."""
        self._on_overrun = on_overrun
        self._timers: dict[Run, asyncio.TimerHandle] = {}

    def watch(self, run: Run, limit: float) -> None:
        """Watch a run that has started.

        :param limit: its time limit in seconds.
        """
        self._call_later(limit + GRACE_SECONDS, self._doubt, run)

    def forget(self, run: Run) -> None:
        """Stop watching a run: it is over."""
        if timer := self._timers.pop(run, None):
            timer.cancel()

    def end(self) -> None:
        """Stop watching all runs."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _doubt(self, run: Run) -> None:
        # If this process was held up, the end of the run may have arrived but is not read yet.
        self._call_later(STALE_SECONDS, self._note_overrun, run)

    def _note_overrun(self, run: Run) -> None:
        self._timers.pop(run, None)
        self.overran = run
        self._on_overrun(run)

    def _call_later(self, seconds: float, what: Callable[[Run], None], run: Run) -> None:
        self._timers[run] = asyncio.get_running_loop().call_later(seconds, what, run)
