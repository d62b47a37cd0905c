"""The error that a run gets at its time limit, and the interval at which it is raised again.

The supervisor kills runs that do not heed it.
"""

from __future__ import annotations

from partisan_async.exceptions import TaskTimeout

AGAIN_EVERY_SECONDS = 1.0
"""Interval at which the error is raised again: code that the run calls may swallow it, as
``__del__`` methods and asgiref's ``sync_to_async`` do."""


def timeout_from(seconds: float, cause: BaseException | None) -> TaskTimeout:
    """Return the error of a run that exceeded its time limit.

    :param seconds: the time limit.
    :param cause: what the run raised after that.
    """
    timeout = TaskTimeout(seconds)
    timeout.__cause__ = cause
    return timeout
