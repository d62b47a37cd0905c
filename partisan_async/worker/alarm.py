"""Ends a sync run at its time limit, by a signal that raises ``TaskTimeout`` in it."""

from __future__ import annotations

import signal
from typing import Any

from django.db import DatabaseError, InterfaceError, connections

from partisan_async.exceptions import TaskTimeout
from partisan_async.postgres import in_flight
from partisan_async.worker.limits import AGAIN_EVERY_SECONDS, timeout_from


class Alarm:
    """Raises ``TaskTimeout`` in the main thread if its block takes longer than ``seconds``.

    :param seconds: the time limit; ``None``: none.
    """

    def __init__(self, seconds: float | None) -> None:
        self.rang = False
        self._seconds = seconds
        self._armed = False

    def __enter__(self) -> None:
        if self._seconds is not None:
            # Set it for each run: an earlier task may have set another handler.
            signal.signal(signal.SIGALRM, self._ring)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
            self._armed = True
            signal.setitimer(signal.ITIMER_REAL, self._seconds, AGAIN_EVERY_SECONDS)

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the alarm, and any alarm that the task itself has set."""
        # Clear the flag first: a signal that is already on its way must do nothing.
        self._armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _ring(self, *_: Any) -> None:
        if self._armed:
            self.rang = True
            # End the query under way, else the run's next query fails: "another command is already
            # in progress".
            for wrapper in connections.all(initialized_only=True):
                in_flight.end_query(wrapper)
            assert self._seconds is not None
            raise TaskTimeout(self._seconds)

    def explain(self, error: BaseException) -> BaseException:
        """Return ``TaskTimeout`` for a database error that it caused, else the error itself."""
        if isinstance(error, DatabaseError | InterfaceError) and _comes_from_timeout(error):
            assert self._seconds is not None
            return timeout_from(self._seconds, error)
        return error


def forget_alarm() -> None:
    """In a child that a task forked: restore the default of SIGALRM, which ends the process."""
    handler = signal.getsignal(signal.SIGALRM)
    if isinstance(getattr(handler, "__self__", None), Alarm):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def _comes_from_timeout(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, TaskTimeout):
        error = error.__context__
    return error is not None
