"""Counts what becomes of each task, once: for the tables and for whoever scrapes this supervisor.

Per processor, what happened since the *tally* last took it is *recent*; what it has taken is added
up in the *figures*, which reach back to the supervisor's start. So a task is counted in one place,
and the sums are made when somebody reads them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

from partisan_async import registry
from partisan_async.claim import Attempt, Claim
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.policy import (
    Cancelled,
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
"""The bounds of the histograms, in seconds; each is part of what it bounds."""

OUTCOMES: dict[type, str] = {
    Finished: "finished",
    Failed: "failed",
    Retried: "retried",
    Postponed: "postponed",
    Suspected: "lost",
    Cancelled: "cancelled",
    Deferred: "deferred",
    Interrupted: "interrupted",
}

TALLIED = (Finished, Failed, Retried, Postponed, Suspected, Cancelled)
"""The decisions that the tables count, in the order of their columns; the others are no runs."""

UNKNOWN = "(unknown)"
"""The name under which tasks are counted whose processor is not known here."""


@dataclass(slots=True)
class Spread:
    """A histogram of seconds: how many lie within each bound, and last how many beyond."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


def _none_yet() -> dict[type, int]:
    return dict.fromkeys(OUTCOMES, 0)


@dataclass(slots=True)
class Figures:
    """What the tasks of one processor did since the supervisor's start.

    :param ran: how long they took.
    :param waited: how long they had been due when they were claimed.
    """

    outcomes: dict[type, int] = field(default_factory=_none_yet)
    ran: Spread = field(default_factory=Spread)
    waited: Spread = field(default_factory=Spread)


@dataclass(slots=True)
class _Recent:
    """What the tasks of one processor did since the tally last took it.

    :param unrun: the decisions on tasks that did not run.
    :param spreads: those of the figures, where somebody may ask for them.
    """

    spreads: Figures | None
    runs: dict[type, int] = field(default_factory=_none_yet)
    unrun: dict[type, int] = field(default_factory=_none_yet)
    run_seconds: float = 0.0
    wait_seconds: float = 0.0
    longest_run_seconds: float = 0.0
    longest_wait_seconds: float = 0.0


class Counts:
    """One supervisor's.

    :param with_spreads: count times by ``BOUNDS`` too; it takes about as long as all the rest.
    """

    def __init__(self, *, with_spreads: bool) -> None:
        self._with_spreads = with_spreads
        self._recent: dict[str, _Recent] = {}
        self._figures: dict[str, Figures] = {}

    def count(self, claim: Claim, decision: Decision, attempt: Attempt | None) -> None:
        """Count what became of a task; ``attempt``: ``None`` if it did not run."""
        recent = self._recent.get(claim.processor_class)
        if recent is None:
            recent = self._begin(claim.processor_class)
        kind = type(decision)
        if attempt is None:
            recent.unrun[kind] += 1
            return
        seconds, waited = attempt[0], claim.waited_seconds
        recent.runs[kind] += 1
        if recent.spreads is not None:
            recent.spreads.ran.add(seconds)
            recent.spreads.waited.add(waited)
        if kind is Interrupted or kind is Deferred:
            return
        recent.run_seconds += seconds
        recent.wait_seconds += waited
        if seconds > recent.longest_run_seconds:
            recent.longest_run_seconds = seconds
        if waited > recent.longest_wait_seconds:
            recent.longest_wait_seconds = waited

    def take(self) -> list[tuple[str | float, ...]]:
        """Return the tally's rows of what is recent, and begin anew; see ``store.tally``."""
        recent, self._recent = self._recent, {}
        rows: list[tuple[str | float, ...]] = []
        for name, each in recent.items():
            self._add_up(self._figures[name].outcomes, each)
            runs = [float(each.runs[kind]) for kind in TALLIED]
            if any(runs):
                times = (each.run_seconds, each.wait_seconds)
                longest = (each.longest_run_seconds, each.longest_wait_seconds)
                rows.append((name, *runs, *times, *longest))
        return rows

    def figures(self) -> Iterator[tuple[str, Figures]]:
        """Yield each processor's name, and its figures up to now."""
        for name, figures in self._figures.items():
            outcomes = dict(figures.outcomes)
            if recent := self._recent.get(name):
                self._add_up(outcomes, recent)
            yield name, Figures(outcomes, figures.ran, figures.waited)

    def _begin(self, name: str) -> _Recent:
        try:
            registry.get(name)
            name = registry.names(name)[0]
        except ProcessorClassNotFound:
            # Rows may name processors without number, and each would be a series for ever.
            name = UNKNOWN
        figures = self._figures.setdefault(name, Figures())
        recent = self._recent.get(name)
        if recent is None:
            spreads = figures if self._with_spreads else None
            recent = self._recent[name] = _Recent(spreads)
        return recent

    @staticmethod
    def _add_up(outcomes: dict[type, int], recent: _Recent) -> None:
        for kind in OUTCOMES:
            outcomes[kind] += recent.runs[kind] + recent.unrun[kind]
