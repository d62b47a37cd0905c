"""Tells which runs of a worker go on, so that a connection can be attributed to runs.

Each run has a *number*, higher than that of any earlier run. A connection that was last used while
run 7 was the latest may belong to any unfinished run up to 7. When all of these have ended, it
belongs to none.
"""

from __future__ import annotations

import threading
from collections import deque

REMEMBERED = 100
"""Number of failed runs that are remembered."""

_lock = threading.Lock()
_going_on: set[int] = set()
_failed: deque[tuple[int, int]] = deque(maxlen=REMEMBERED)

latest = 0
"""The number of the run that began last."""


def begin() -> int:
    """Note that a run begins, and return its number."""
    global latest
    with _lock:
        latest += 1
        _going_on.add(latest)
        return latest


def end(number: int, *, failed: bool) -> None:
    """Note that a run has ended.

    :param failed: it raised an error.
    """
    with _lock:
        _going_on.discard(number)
        if failed:
            _failed.append((number, latest))


def goes_on(upto: int) -> bool:
    """Tell whether a run with this number or a lower one goes on."""
    with _lock:
        return any(number <= upto for number in _going_on)


def has_failed(number: int) -> bool:
    """Tell whether any run failed that was going on while this number was the latest."""
    with _lock:
        return any(first <= number <= last for first, last in _failed)
