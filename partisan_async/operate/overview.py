"""What the tables tell an operator of queues and of supervisors. Changes nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import Error
from django.utils.translation import gettext

from partisan_async import store
from partisan_async.enqueue.run import fetch
from partisan_async.models import Task, readable
from partisan_async.models.readable import is_key, is_number, moment, seconds_since
from partisan_async.operate import to_copy
from partisan_async.store import NEVER, is_parked
from partisan_async.store.statement import is_alive, queue_names
from partisan_async.text.farewell import farewell

RECENT = timedelta(hours=1)
"""Ends within it are counted."""

COUNTED = 100_000
"""What waits is counted so far where it is looked at again and again."""


@dataclass(frozen=True)
class QueueState:
    """A queue at one moment; the ages are in seconds.

    :param ready, scheduled: as far as was counted.
    :param oldest: how long the first of the ready ones has been ready; ``None``: there is none;
        NaN: nobody can say.
    :param finished, failed: ends of the last hour.
    :param per_minute: ends of this minute and the last one, to the minute.
    :param supervisors: those that are alive.
    :param parked: those that wait for the end of their processors' pause.
    """

    name: str
    ready: int
    scheduled: int
    running: int
    oldest: float | None
    finished: int
    failed: int
    per_minute: float
    supervisors: int
    paused: bool
    parked: int = 0


@dataclass(frozen=True)
class PauseState:
    """A processor that is paused, or whose pause is ending.

    :param queue_name: empty: every queue.
    :param parked: how many of its tasks wait for the end of the pause, as far as was counted.
    """

    processor: str
    queue_name: str
    since: datetime
    ending: bool
    parked: int

    @property
    def where(self) -> str:
        """The queue, in words."""
        if not self.queue_name:
            return gettext("every queue")
        return gettext("queue %(queue)r") % {"queue": self.queue_name}

    @property
    def way_out(self) -> str:
        """The command that ends it."""
        return to_copy.resume_processor(self.processor, self.queue_name)

    def is_of(self, processor: str, queue_name: str) -> bool:
        """Tell whether it holds back such a task."""
        return (
            not self.ending and processor == self.processor and self.queue_name in ("", queue_name)
        )


@dataclass(frozen=True)
class RunState:
    """A task in a worker process, as of its supervisor's last sign of life.

    :param seconds: how long it has run for by now, if it still does.
    """

    id: int
    processor: str
    seconds: float


@dataclass(frozen=True)
class WorkerState:
    """A worker process at one moment.

    :param pid: ``None``, with no tasks: what its supervisor says of it cannot be read.
    :param tasks: the first of those that it runs.
    """

    pid: int | None
    running: int
    tasks: list[RunState]

    @property
    def more(self) -> int:
        """How many it runs besides."""
        return self.running - len(self.tasks)


@dataclass(frozen=True)
class SupervisorState:
    """A supervisor at one moment.

    :param up, silent: seconds since its start and its last sign of life; NaN: nobody can say.
    :param workers: as of that.
    :param stopping_since: since when it starts nothing more, and is about to end.
    """

    id: str
    process: str
    queue_name: str
    running: int
    up: float
    alive: bool
    draining: bool
    silent: float
    workers: list[WorkerState]
    stopping_since: datetime | None = None

    @property
    def starts(self) -> bool:
        """Whether it starts tasks: it lives, and is not about to end."""
        return self.alive and self.ending is None

    @property
    def ending(self) -> str | None:
        """How it is about to end, in a word; ``None``: it is not."""
        if self.draining:
            return "draining"
        return None if self.stopping_since is None else "stopping"

    @property
    def farewell(self) -> str:
        """How it ends, in words."""
        return farewell(self.ending, self.stopping_since, self.running)


@dataclass(frozen=True)
class FailedTask:
    """A task that ended in error.

    :param error: the class of its last error; empty: nobody can say.
    """

    id: int
    queue_name: str
    processor: str
    error: str
    at: datetime


# By the partial index of each status, and however many rows have ended or wait: names and first
# rows by leaps over the indexes, ends by what supervisors added up. The limits of the leaps keep
# thousands of priorities or queues, which nobody has, from being a way to stop the database.
_QUEUES = f"""
WITH RECURSIVE level AS (
    (SELECT queue_name, priority, id FROM partisan_async_task
     WHERE status = 'new' ORDER BY queue_name, priority, id LIMIT 1)
    UNION ALL
    SELECT next.* FROM level CROSS JOIN LATERAL (
        SELECT t.queue_name, t.priority, t.id FROM partisan_async_task t
        WHERE t.status = 'new' AND (t.queue_name, t.priority) > (level.queue_name, level.priority)
        ORDER BY t.queue_name, t.priority, t.id LIMIT 1) AS next),
first AS (
    SELECT t.queue_name, min(GREATEST(t.execute_after, t.created_at)) AS since
    FROM (SELECT id FROM level LIMIT 1000) AS l JOIN partisan_async_task t USING (id)
    GROUP BY t.queue_name),
waiting AS (
    SELECT first.*, counted.ready FROM first CROSS JOIN LATERAL (
        SELECT count(*) AS ready FROM (
            SELECT FROM partisan_async_task t
            WHERE t.status = 'new' AND t.queue_name = first.queue_name LIMIT %(at_most)s) AS c
        ) AS counted),
{queue_names("timetable", "status = 'scheduled'")},
later AS (
    SELECT l.queue_name, held_back.parked,
        LEAST(counted.scheduled + held_back.far, %(at_most)s) AS scheduled
    FROM (SELECT queue_name FROM timetable LIMIT 1000) AS l CROSS JOIN LATERAL (
        SELECT count(*) AS scheduled FROM (
            SELECT FROM partisan_async_task t
            WHERE t.status = 'scheduled' AND t.queue_name = l.queue_name
                AND t.execute_after < {NEVER}
            ORDER BY t.execute_after LIMIT %(at_most)s) AS c
        ) AS counted CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE c.is_parked) AS parked,
            count(*) FILTER (WHERE NOT c.is_parked) AS far
        FROM (
            SELECT {is_parked("t")} AS is_parked FROM partisan_async_task t
            WHERE t.status = 'scheduled' AND t.queue_name = l.queue_name
                AND t.execute_after >= {NEVER}
            ORDER BY t.execute_after LIMIT %(at_most)s) AS c
        ) AS held_back),
held AS (
    SELECT queue_name, count(*) AS running
    FROM partisan_async_task WHERE status = 'in_process' GROUP BY queue_name),
last AS (
    SELECT date_trunc('minute', statement_timestamp()) - interval '1 minute' AS minute),
ended AS (
    SELECT queue_name, sum(t.finished)::bigint AS finished, sum(t.failed)::bigint AS failed,
        COALESCE(sum(t.finished + t.failed) FILTER (WHERE t.minute >= last.minute), 0)::float8 * 60
            / extract(epoch FROM statement_timestamp() - last.minute)::float8 AS per_minute
    FROM last, (
        SELECT queue_name, minute, GREATEST(finished, 0)::bigint AS finished,
            GREATEST(failed, 0)::bigint AS failed
        FROM partisan_async_tally
        WHERE minute BETWEEN statement_timestamp() - %(recent)s AND statement_timestamp()) AS t
    GROUP BY queue_name, last.minute),
alive AS (
    SELECT queue_name, count(*) AS supervisors FROM partisan_async_supervisor
    WHERE {is_alive()} GROUP BY queue_name),
paused AS (SELECT queue_name, true AS paused FROM partisan_async_pausedqueue)
SELECT queue_name, COALESCE(ready, 0), COALESCE(scheduled, 0), COALESCE(running, 0),
    {seconds_since("since")},
    COALESCE(finished, 0), COALESCE(failed, 0), COALESCE(per_minute, 0), COALESCE(supervisors, 0),
    COALESCE(paused, false), COALESCE(parked, 0)
FROM waiting FULL JOIN later USING (queue_name) FULL JOIN held USING (queue_name)
    FULL JOIN ended USING (queue_name) FULL JOIN alive USING (queue_name)
    FULL JOIN paused USING (queue_name)
ORDER BY queue_name
"""  # noqa: S608

# The last of each queue, by the index of what has ended, and of these the last. A moment to come,
# which a hand wrote, would be the last for ever.
_FAILED = f"""
WITH RECURSIVE {queue_names("queue", "status IN ('finished', 'error')")},
last AS (
    SELECT t.* FROM (SELECT queue_name FROM queue LIMIT 1000) AS q CROSS JOIN LATERAL (
        SELECT id, finished_at FROM partisan_async_task t
        WHERE t.status = 'error' AND t.queue_name = q.queue_name
            AND t.finished_at <= statement_timestamp()
        ORDER BY t.finished_at DESC LIMIT %(at_most)s) AS t
    ORDER BY t.finished_at DESC, t.id DESC LIMIT %(at_most)s)
SELECT t.id, t.queue_name, t.processor_class,
    COALESCE(left(t.errors->-1->>'exception_class', 255), ''), {moment("t.finished_at")}
FROM last JOIN partisan_async_task t USING (id)
ORDER BY t.finished_at DESC, t.id DESC
"""  # noqa: S608

_SUPERVISORS = f"""
SELECT s.id::text, s.hostname || '/' || COALESCE(s.process->>'pid', '?'), s.queue_name,
    (SELECT count(*) FROM partisan_async_task t
     WHERE t.status = 'in_process' AND t.claimed_by = s.id),
    {seconds_since("s.started_at")},
    {is_alive("s")}, s.draining,
    {seconds_since("s.last_seen_at")}, s.workers::text, {moment("s.stopping_since")}
FROM partisan_async_supervisor s ORDER BY s.queue_name, s.started_at
"""  # noqa: S608


def queues(at_most: int | None = None) -> list[QueueState]:
    """Return the queues that have rows, supervisors, a pause or ends of the last hour, by name.

    :param at_most: count no further than to that, of what is ready and of what is scheduled; a
        million takes a quarter of a second.
    """
    return [QueueState(*row) for row in _fetch(_QUEUES, at_most=at_most)]


def pauses(at_most: int = COUNTED) -> list[PauseState]:
    """Return the processors that are paused, by name; see ``queues`` for ``at_most``."""
    statement = store.pauses(at_most)
    return [PauseState(*row) for row in _fetch(statement.sql, **statement.params)]


def failed_lately(at_most: int = 5) -> list[FailedTask]:
    """Return the tasks that ended in error last, the newest first; none, if that cannot be read.

    In a transaction such an error ends it: ask for this last.
    """
    try:
        return [FailedTask(*row) for row in _fetch(_FAILED, at_most=at_most)]
    except Error:
        return []


def supervisors() -> list[SupervisorState]:
    """Return the supervisors that have a row, by queue."""
    return [
        SupervisorState(*(*state, silent, _workers(told, silent), since))
        for *state, silent, told, since in _fetch(_SUPERVISORS)
    ]


def still_held(supervisors: Sequence[SupervisorState]) -> set[int]:
    """Return which of the tasks that workers ran at the last beat have not ended since."""
    told = [run.id for each in supervisors for worker in each.workers for run in worker.tasks]
    rows = Task.objects.using(store.database()).filter(pk__in=told, status=Task.STATUS_IN_PROCESS)
    return set(rows.values_list("pk", flat=True))


def _workers(told: str, silent: float) -> list[WorkerState]:
    # Another release may say it in another way, and a hand in any.
    workers = readable.load(told)
    if not isinstance(workers, list):
        return [_UNREADABLE] if workers else []
    return [_worker(each, silent) for each in workers]


_UNREADABLE = WorkerState(None, 0, [])


def _worker(told: Any, silent: float) -> WorkerState:
    match told:
        case {"pid": pid, "running": running, "tasks": list(tasks)} if is_key(pid):
            runs = [_run(each, silent) for each in tasks]
            known = [run for run in runs if run is not None]
            return WorkerState(pid, running if is_key(running) else len(known), known)
    return _UNREADABLE


def _run(told: Any, silent: float) -> RunState | None:
    match told:
        case {"id": pk, "processor": str(name), "seconds": seconds} if is_key(pk):
            return RunState(pk, name, seconds + silent if is_number(seconds) else math.nan)
    return None


def _fetch(sql: str, **params: Any) -> list[Any]:
    common = {"ttl": timedelta(seconds=store.TTL_SECONDS), "recent": RECENT}
    return fetch(sql, common | params)
