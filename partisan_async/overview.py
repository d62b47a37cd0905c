"""What the tables tell an operator: of queues, of supervisors, and of one task. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connections
from django.utils.timesince import timesince

from partisan_async import registry, store
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.models import Supervisor, Task
from partisan_async.policy import MAX_UNRECOGNISED
from partisan_async.supervisor.supervisor import TTL_SECONDS

RECENT = timedelta(hours=1)
"""Ends within it are counted."""

NAMED = 5
"""So many of the tasks that others wait for are named."""


@dataclass(frozen=True)
class QueueState:
    """A queue at one moment; the ages are in seconds.

    :param oldest: how long the first of the ready ones has been ready; ``None``: there is none.
    :param finished, failed: ends of the last hour.
    :param supervisors: those that are alive.
    """

    name: str
    ready: int
    scheduled: int
    running: int
    oldest: float | None
    finished: int
    failed: int
    supervisors: int


@dataclass(frozen=True)
class SupervisorState:
    """A supervisor at one moment.

    :param silent: seconds since its last sign of life.
    """

    id: str
    process: str
    queue_name: str
    running: int
    up: float
    silent: float
    alive: bool


# Each count by the partial index of its status, however many rows have ended.
_QUEUES = """
WITH waiting AS (
    SELECT queue_name, count(*) AS ready, min(id) AS first
    FROM partisan_async_task WHERE status = 'new' GROUP BY queue_name),
later AS (
    SELECT queue_name, count(*) AS scheduled
    FROM partisan_async_task WHERE status = 'scheduled' GROUP BY queue_name),
held AS (
    SELECT queue_name, count(*) AS running
    FROM partisan_async_task WHERE status = 'in_process' GROUP BY queue_name),
ended AS (
    SELECT queue_name, count(*) FILTER (WHERE status = 'finished') AS finished,
        count(*) FILTER (WHERE status = 'error') AS failed
    FROM partisan_async_task
    WHERE status IN ('finished', 'error') AND finished_at > statement_timestamp() - %(recent)s
    GROUP BY queue_name),
alive AS (
    SELECT queue_name, count(*) AS supervisors FROM partisan_async_supervisor
    WHERE last_seen_at > statement_timestamp() - %(ttl)s GROUP BY queue_name)
SELECT queue_name, COALESCE(ready, 0), COALESCE(scheduled, 0), COALESCE(running, 0),
    (SELECT extract(epoch FROM statement_timestamp() - GREATEST(execute_after, created_at))::float8
     FROM partisan_async_task WHERE id = first),
    COALESCE(finished, 0), COALESCE(failed, 0), COALESCE(supervisors, 0)
FROM waiting FULL JOIN later USING (queue_name) FULL JOIN held USING (queue_name)
    FULL JOIN ended USING (queue_name) FULL JOIN alive USING (queue_name)
ORDER BY queue_name
"""

_SUPERVISORS = """
SELECT s.id::text, s.hostname || '/' || COALESCE(s.process->>'pid', '?'), s.queue_name,
    (SELECT count(*) FROM partisan_async_task t
     WHERE t.status = 'in_process' AND t.claimed_by = s.id),
    extract(epoch FROM statement_timestamp() - s.started_at)::float8,
    extract(epoch FROM statement_timestamp() - s.last_seen_at)::float8,
    s.last_seen_at > statement_timestamp() - %(ttl)s
FROM partisan_async_supervisor s ORDER BY s.queue_name, s.started_at
"""


def queues() -> list[QueueState]:
    """Return the queues that have rows or supervisors, by name."""
    return [QueueState(*row) for row in _fetch(_QUEUES)]


def supervisors() -> list[SupervisorState]:
    """Return the supervisors that have a row, by queue."""
    return [SupervisorState(*row) for row in _fetch(_SUPERVISORS)]


def why(task: Task) -> list[str]:
    """Return sentences that say why a task does not run, or what it does."""
    match task.status:
        case Task.STATUS_FINISHED:
            return [f"It has finished, {_ago(task.finished_at)}."]
        case Task.STATUS_ERROR:
            return list(_why_failed(task))
        case Task.STATUS_IN_PROCESS:
            return [_who_runs(task)]
    return [*_why_waiting(task), *_what_happened(task)]


def _why_failed(task: Task) -> Iterator[str]:
    yield f"It has ended in error, {_ago(task.finished_at)}, after {_times(task.tries, 'try')}."
    if task.errors:
        error = task.errors[-1]
        yield f"{error['exception_class']}: {error['message']}"
    yield f"To run it again: manage.py partisan retry {task.pk}"


def _who_runs(task: Task) -> str:
    held = Supervisor.objects.using(store.database()).filter(pk=str(task.claimed_by))
    holder = held.first()
    since = f"since {_ago(task.claimed_at)}".removesuffix(" ago")
    if holder is None:
        return f"It was claimed by a supervisor that is gone; another one takes it over {_soon()}."
    alive = {state.id: state.alive for state in supervisors()}
    name = f"{holder.hostname}/{holder.process.get('pid', '?')}"
    if not alive.get(str(holder.pk)):
        return (
            f"The supervisor {name} that claimed it is silent; another one takes it over {_soon()}."
        )
    return f"It runs, or is about to, on the supervisor {name}, {since}."


def _soon() -> str:
    return f"at the latest {TTL_SECONDS:g} seconds after its last sign of life"


def _why_waiting(task: Task) -> Iterator[str]:
    served = [state for state in supervisors() if state.queue_name == task.queue_name]
    alive = [state for state in served if state.alive]
    ((now,),) = _fetch("SELECT statement_timestamp()")
    if task.status == Task.STATUS_SCHEDULED and task.execute_after > now:
        at = task.execute_after.isoformat(timespec="seconds")
        yield f"It is scheduled until {at}, for another {timesince(now, task.execute_after)}."
    if not alive:
        yield (
            f"No supervisor serves queue {task.queue_name!r}"
            + ("; those that did are silent." if served else ".")
            + f" Start one: manage.py start_partisan --async --queue_name {task.queue_name}"
        )
    try:
        registry.get(task.processor_class)
    except ProcessorClassNotFound as error:
        yield f"{error} That is how this process sees it; supervisors may run other code."
    if not alive or task.status == Task.STATUS_SCHEDULED:
        return
    rows = Task.objects.using(store.database()).filter(queue_name=task.queue_name)
    running = rows.filter(status=Task.STATUS_IN_PROCESS).order_by("claimed_at")
    before = rows.filter(status=Task.STATUS_NEW, priority__lt=task.priority).count()
    before += rows.filter(status=Task.STATUS_NEW, priority=task.priority, pk__lt=task.pk).count()
    if before:
        yield f"{_times(before, 'task')} of queue {task.queue_name!r} are to be claimed before it."
    if busy := list(running[:NAMED]):
        names = ", ".join(f"{each.pk} {each.processor_class}" for each in busy)
        yield f"The workers are busy, the longest with: {names}."
    if not before and not busy:
        yield "It is next: nothing is before it, and the workers are free."


def _what_happened(task: Task) -> Iterator[str]:
    if task.unrecognised:
        yield (
            f"A supervisor that does not know {task.processor_class!r} put it off"
            f" {task.unrecognised} of {MAX_UNRECOGNISED} times: is its code deployed everywhere?"
        )
    if task.lost:
        yield (
            f"It took its worker process down {_times(task.lost, 'time')}, so it has to wait for a"
            " worker of its own."
        )
    elif task.suspect:
        yield "It was in a worker process that died, so it has to wait for a worker of its own."
    if task.postpones:
        yield f"It has postponed itself {_times(task.postpones, 'time')}."
    if task.errors:
        error = task.errors[-1]
        yield (
            f"It has failed {_times(task.tries, 'time')}, at last of {error['exception_class']}:"
            f" {error['message']}"
        )


def _ago(moment: datetime | None) -> str:
    if moment is None:
        return "at an unknown time"
    ((now,),) = _fetch("SELECT statement_timestamp()")
    return f"{timesince(moment, now)} ago"


def _times(count: int, noun: str) -> str:
    plural = "tries" if noun == "try" else f"{noun}s"
    return f"1 {noun}" if count == 1 else f"{count} {plural}"


def _fetch(sql: str) -> list[Any]:
    params: dict[str, Any] = {"ttl": timedelta(seconds=TTL_SECONDS), "recent": RECENT}
    with connections[store.database()].cursor() as cursor:
        cursor.execute(sql, params)
        return list(cursor.fetchall())
