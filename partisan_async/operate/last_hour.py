"""What tasks did in the last hour, by minute and by processor, from the supervisors' tallies."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from partisan_async.enqueue.run import fetch
from partisan_async.operate.overview import RECENT

NAMED = 8
"""Maximum number of processors listed as the slowest, or as failing most."""

LEAST_SECONDS, MOST_SECONDS = 1e-9, 1e12
"""Bounds of what a processor's runs can take in a minute on all hosts. Sums of values beyond them
would overflow or underflow."""


@dataclass(frozen=True)
class Counts:
    """Totals of runs.

    :param mean_run, longest_run: seconds; 0 where nothing ran.
    :param mean_wait, longest_wait: seconds from due to claimed.
    """

    finished: int
    failed: int
    retried: int
    postponed: int
    lost: int
    cancelled: int
    mean_run: float
    longest_run: float
    mean_wait: float
    longest_wait: float

    @property
    def runs(self) -> int:
        """How many runs there were."""
        ended = self.finished + self.failed + self.cancelled
        return ended + self.retried + self.postponed + self.lost

    @property
    def again(self) -> int:
        """Number of runs that failed and were not their task's last."""
        return self.retried + self.lost


@dataclass(frozen=True)
class Minute:
    """What tasks did in one minute."""

    at: datetime
    counts: Counts


@dataclass(frozen=True)
class ProcessorState:
    """What the tasks of one processor did in the last hour."""

    name: str
    counts: Counts


@dataclass(frozen=True)
class LastHour:
    """What tasks did in the last hour.

    :param minutes: all sixty, the oldest first.
    :param processors: those that ran, by name.
    """

    minutes: list[Minute]
    processors: list[ProcessorState]

    @property
    def slowest(self) -> list[ProcessorState]:
        """The processors with the longest mean run."""
        ran = [each for each in self.processors if each.counts.runs]
        return sorted(ran, key=lambda each: -each.counts.mean_run)[:NAMED]

    @property
    def failing(self) -> list[ProcessorState]:
        """The processors that failed most, then those that were run again most."""
        failed = [each for each in self.processors if each.counts.failed or each.counts.again]
        order = sorted(failed, key=lambda each: (each.counts.failed, each.counts.again))
        return order[: -NAMED - 1 : -1]


_COUNTED = ("finished", "failed", "retried", "postponed", "lost", "cancelled")
_SPANS = ("run_seconds", "longest_run_seconds", "wait_seconds", "longest_wait_seconds")

# Only plausible values: a single NaN, written by hand, would turn each sum into NaN.
_READABLE = [f"GREATEST({name}, 0)::bigint AS {name}" for name in _COUNTED]
_READABLE += [
    f"CASE WHEN {name} BETWEEN {LEAST_SECONDS} AND {MOST_SECONDS} THEN {name} ELSE 0 END AS {name}"
    for name in _SPANS
]

_SUMS = [f"sum({name})::bigint AS {name}" for name in _COUNTED]

# One walk over the index on the minute serves both groupings. The series adds the minutes in which
# nothing ran.
_LAST_HOUR = f"""
WITH recent AS (
    SELECT date_trunc('minute', minute) AS minute, processor_class, {", ".join(_READABLE)}
    FROM partisan_async_tally
    WHERE minute BETWEEN statement_timestamp() - %(recent)s AND statement_timestamp()
        AND (%(queues)s::text[] IS NULL OR queue_name = ANY(%(queues)s))
        AND (%(processors)s::text[] IS NULL OR processor_class = ANY(%(processors)s))
    UNION ALL
    SELECT generate_series(
            date_trunc('minute', statement_timestamp() - %(recent)s) + interval '1 minute',
            statement_timestamp(), interval '1 minute'),
        NULL, {", ".join("0" * len(_READABLE))}),
added AS (
    SELECT minute, processor_class, {", ".join(_SUMS)},
        sum({" + ".join(_COUNTED)})::float8 AS runs, sum(run_seconds) AS run_seconds,
        max(longest_run_seconds) AS longest_run, sum(wait_seconds) AS wait_seconds,
        max(longest_wait_seconds) AS longest_wait
    FROM recent GROUP BY GROUPING SETS ((minute), (processor_class)))
SELECT minute, processor_class, {", ".join(_COUNTED)},
    COALESCE(run_seconds / NULLIF(runs, 0), 0), longest_run,
    COALESCE(wait_seconds / NULLIF(runs, 0), 0), longest_wait
FROM added ORDER BY minute, processor_class
"""  # noqa: S608


def last_hour(
    queues: Collection[str] | None = None, processors: Collection[str] | None = None
) -> LastHour:
    """Return what tasks did in the last hour.

    :param queues, processors: count only these; ``None``: all.
    """
    minutes: list[Minute] = []
    states: list[ProcessorState] = []
    params: dict[str, Any] = {"recent": RECENT}
    for name, wanted in (("queues", queues), ("processors", processors)):
        params[name] = None if wanted is None else list(wanted)
    for minute, processor_class, *numbers in fetch(_LAST_HOUR, params):
        counts = Counts(*numbers)
        if minute is not None:
            minutes.append(Minute(minute, counts))
        elif processor_class is not None:
            states.append(ProcessorState(processor_class, counts))
    return LastHour(minutes, states)
