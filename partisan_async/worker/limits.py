"""What a run gets whose time is over, and how often. What heeds it never is the supervisor's to
kill."""

from __future__ import annotations

from partisan_async.exceptions import TaskTimeout

AGAIN_EVERY_SECONDS = 1.0
"""Seconds after which a run is told once more that its time is over: what it calls may swallow
that, as ``__del__`` methods and asgiref's ``sync_to_async`` do."""


def timeout_from(seconds: float, cause: BaseException | None) -> TaskTimeout:
    """Return the error of a run that was cut off.

    :param seconds: its time limit.
    :param cause: what it raised when that was over.
    """
    timeout = TaskTimeout(seconds)
    timeout.__cause__ = cause
    return timeout
