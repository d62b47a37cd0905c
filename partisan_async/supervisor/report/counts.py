"""Counts what becomes of each task, for the tally tables and for the metrics.

The counts of a processor since the *tally* last took them are *recent*. Its *figures* are the sums
since the supervisor's start. A task is counted once, in the recent ones; they are added to the
figures when the tally takes them, or when somebody reads the metrics. Histograms are in the figures
alone.
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
"""The inclusive upper bounds of the histograms' buckets, in seconds."""

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
"""The decisions that the tables count, in the order of their columns; others count as no run."""

UNKNOWN = "(unknown)"
"""The name under which tasks of unknown processors are counted."""


@dataclass(slots=True)
class Spread:
    """A histogram of seconds: a count per bucket, and last a count of those above all bounds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        """Count a time."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


def _none_yet() -> dict[type, int]:
    return dict.fromkeys(OUTCOMES, 0)


@dataclass(slots=True)
class Figures:
    """The counts of one processor since the supervisor's start.

    :param ran: how long the runs took.
    :param waited: how long the tasks had been due when they were claimed.
    """

    outcomes: dict[type, int] = field(default_factory=_none_yet)
    ran: Spread = field(default_factory=Spread)
    waited: Spread = field(default_factory=Spread)


@dataclass(slots=True)
class _Recent:
    """The counts of one processor since the tally last took them.

    :param spreads: the figures with the histograms; ``None``: no histograms are kept.
    :param unrun: number of decisions about tasks that did not run.
    """

    spreads: Figures | None
    runs: dict[type, int] = field(default_factory=_none_yet)
    unrun: dict[type, int] = field(default_factory=_none_yet)
    run_seconds: float = 0.0
    wait_seconds: float = 0.0
    longest_run_seconds: float = 0.0
    longest_wait_seconds: float = 0.0


class Counts:
    """The counts of one supervisor.

    :param with_spreads: keep histograms, too; they take about as long as all other counts.
    """

    def __init__(self, *, with_spreads: bool) -> None:
        self._with_spreads = with_spreads
        self._recent: dict[str, _Recent] = {}
        self._figures: dict[str, Figures] = {}

    def count(self, claim: Claim, decision: Decision, attempt: Attempt | None) -> None:
        """Count a decision about a task.

        :param attempt: the run; ``None``: the task did not run.
        """
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
        """Return the recent counts as rows for ``store.tally``, and reset them."""
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
            # Rows may name any number of unknown processors, and each would stay a time series.
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
