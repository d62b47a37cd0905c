"""How long processors take, as measured; ``ahead`` says what follows from it."""

from __future__ import annotations

from collections.abc import Iterable

SHORT_SECONDS = 0.005
"""Tasks of a processor whose runs take less than this on average are sent in batches."""

BATCH_SECONDS = 0.025
"""Time that the tasks of a batch take together."""

BATCH_LENGTH = 100
"""Maximum number of tasks in a batch."""

AHEAD_SECONDS = 1.0
"""Rows that will start within this time are claimed ahead; the others are left to others."""

LEAST_SECONDS = 0.0001
"""Time of a run at the least: what is around it takes as long, and no measure has that."""

_WEIGHT = 0.2


class Pace:
    """Moving averages of the seconds that each processor's runs take."""

    def __init__(self) -> None:
        self._averages: dict[str, float] = {}

    def measure(self, processor_class: str, seconds: float) -> None:
        """Take a run into account."""
        known = self._averages.get(processor_class, seconds)
        self._averages[processor_class] = known + _WEIGHT * (seconds - known)

    def batch_length(self, processor_class: str) -> int:
        """Return how many tasks of a processor may be sent together; 1 if it has no measure yet."""
        average = self._averages.get(processor_class)
        if average is None or average >= SHORT_SECONDS:
            return 1
        return min(BATCH_LENGTH, int(BATCH_SECONDS / max(average, 1e-6)))

    def starts_within(self, seconds: float, processor_classes: Iterable[str], workers: int) -> int:
        """Return how many tasks of these processors would start within so many seconds."""
        averages = [self._averages.get(name) for name in processor_classes]
        if not averages or None in averages:
            return 0
        slowest = max(average for average in averages if average is not None)
        return int(workers * seconds / max(slowest, LEAST_SECONDS))
