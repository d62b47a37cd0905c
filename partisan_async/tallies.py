"""What tasks did in the last hour, by minute and by processor, from what supervisors added up."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connections

from partisan_async import store
from partisan_async.overview import RECENT

NAMED = 8
"""So many processors are the slowest, or fail most."""


@dataclass(frozen=True)
class Counts:
    """What runs came to together.

    :param mean_run, longest_run: seconds; 0 where nothing ran.
    :param mean_wait, longest_wait: seconds from due to claimed.
    """

    finished: int
    failed: int
    retried: int
    postponed: int
    lost: int
    mean_run: float
    longest_run: float
    mean_wait: float
    longest_wait: float

    @property
    def runs(self) -> int:
        """How many runs there were."""
        return self.finished + self.failed + self.retried + self.postponed + self.lost

    @property
    def again(self) -> int:
        """How many of them did not go well, and were not the end."""
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
    """What all tasks did in the last hour.

    :param minutes: all sixty, the oldest first.
    :param processors: those that ran, by name.
    """

    minutes: list[Minute]
    processors: list[ProcessorState]

    @property
    def slowest(self) -> list[ProcessorState]:
        """The few that ran longest in the mean."""
        ran = [each for each in self.processors if each.counts.runs]
        return sorted(ran, key=lambda each: -each.counts.mean_run)[:NAMED]

    @property
    def failing(self) -> list[ProcessorState]:
        """The few that failed most, then those that had to be tried again most."""
        failed = [each for each in self.processors if each.counts.failed or each.counts.again]
        order = sorted(failed, key=lambda each: (each.counts.failed, each.counts.again))
        return order[: -NAMED - 1 : -1]


# One walk over the index on the minute, for both. 60 minutes are told where nothing ran too.
_LAST_HOUR = """
WITH recent AS (
    SELECT minute, processor_class, finished, failed, retried, postponed, lost,
        run_seconds, longest_run_seconds, wait_seconds, longest_wait_seconds
    FROM partisan_async_tally WHERE minute > statement_timestamp() - %(recent)s
        AND (%(queues)s::text[] IS NULL OR queue_name = ANY(%(queues)s))
        AND (%(processors)s::text[] IS NULL OR processor_class = ANY(%(processors)s))
    UNION ALL
    SELECT generate_series(
            date_trunc('minute', statement_timestamp() - %(recent)s) + interval '1 minute',
            statement_timestamp(), interval '1 minute'),
        NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0)
SELECT minute, processor_class, sum(finished), sum(failed), sum(retried), sum(postponed), sum(lost),
    COALESCE(sum(run_seconds) / NULLIF(sum(finished + failed + retried + postponed + lost), 0), 0),
    max(longest_run_seconds),
    COALESCE(sum(wait_seconds) / NULLIF(sum(finished + failed + retried + postponed + lost), 0), 0),
    max(longest_wait_seconds)
FROM recent GROUP BY GROUPING SETS ((minute), (processor_class))
ORDER BY minute, processor_class
"""


def last_hour(
    queues: Collection[str] | None = None, processors: Collection[str] | None = None
) -> LastHour:
    """Return what tasks did in the last hour.

    :param queues, processors: of these alone; ``None``: of all.
    """
    minutes: list[Minute] = []
    states: list[ProcessorState] = []
    params: dict[str, Any] = {"recent": RECENT}
    for name, wanted in (("queues", queues), ("processors", processors)):
        params[name] = None if wanted is None else list(wanted)
    with connections[store.database()].cursor() as cursor:
        cursor.execute(_LAST_HOUR, params)
        rows: list[Any] = cursor.fetchall()
    for minute, processor_class, *numbers in rows:
        counts = Counts(*numbers)
        if minute is not None:
            minutes.append(Minute(minute, counts))
        elif processor_class is not None:
            states.append(ProcessorState(processor_class, counts))
    return LastHour(minutes, states)
