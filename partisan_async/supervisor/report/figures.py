"""Adds up what a supervisor's tasks did since its start, for whoever scrapes it.

For the tables it is added up too, by the *tally*: there for all supervisors together, and by the
minute. Here is what has to cost nothing: it is counted for each task, and read seldom.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from partisan_async import registry
from partisan_async.claim import Claim
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.policy import (
    Decision,
    Deferred,
    Failed,
    Finished,
    Interrupted,
    Postponed,
    Retried,
    Suspected,
)

BOUNDS = (0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0)
"""What took up to so many seconds is counted together."""

OUTCOMES: dict[type, str] = {
    Finished: "finished",
    Failed: "failed",
    Retried: "retried",
    Postponed: "postponed",
    Suspected: "lost",
    Deferred: "deferred",
    Interrupted: "interrupted",
}

UNKNOWN = "(unknown)"
"""What tasks are counted as whose processor is not known here."""


@dataclass(slots=True)
class Spread:
    """How many took how long: of each bound, and last of those beyond."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


@dataclass(slots=True)
class Row:
    """What the tasks of one processor did.

    :param ran: how long they took.
    :param waited: how long they had been due when they were claimed.
    """

    outcomes: dict[type, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    ran: Spread = field(default_factory=Spread)
    waited: Spread = field(default_factory=Spread)


class Figures:
    """Counts what becomes of tasks; ``rows`` has it by processor."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def count(self, claim: Claim, decision: Decision, seconds: float | None) -> None:
        """Count what became of a task.

        :param seconds: how long it ran; ``None``: it did not.
        """
        row = self.rows.get(claim.processor_class) or self._row(claim.processor_class)
        row.outcomes[type(decision)] += 1
        if seconds is not None:
            row.ran.add(seconds)
            row.waited.add(claim.waited_seconds)

    def _row(self, name: str) -> Row:
        try:
            registry.get(name)
        except ProcessorClassNotFound:
            # Rows may name processors without number, and each would be a series for ever.
            name = UNKNOWN
        return self.rows.setdefault(name, Row())
