"""The pauses between attempts: each twice the one before, up to a cap."""

from __future__ import annotations


class Backoff:
    """The pauses between the attempts of one thing that fails repeatedly.

    :param first: seconds before the second attempt.
    :param cap: maximum seconds of a pause.
    """

    __slots__ = ("_cap", "_first", "_seconds", "count")

    def __init__(self, first: float, cap: float) -> None:
        self.count = 0
        """Number of pauses since the last ``reset()``."""
        self._first = first
        self._cap = cap
        self._seconds = first

    def next(self) -> float:
        """Return the seconds to wait before the next attempt."""
        self.count += 1
        seconds = min(self._seconds, self._cap)
        self._seconds = 2 * seconds
        return seconds

    def reset(self) -> None:
        """Note that an attempt succeeded: the next pause is the first one again."""
        self.count = 0
        self._seconds = self._first
