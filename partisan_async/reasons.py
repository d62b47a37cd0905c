"""Says of one task why it does not run, or what became of it. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, cast

from django.db import connections

from partisan_async import arguments, overview, readable, registry, settings, store
from partisan_async.durations import in_words
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.models import WAITING, PausedQueue, Task
from partisan_async.overview import RunState, SupervisorState
from partisan_async.policy import MAX_INTERRUPTED, MAX_UNRECOGNISED
from partisan_async.supervisor.supervisor import TTL_SECONDS

NAMED = 5
"""So many of the tasks that keep workers busy are named."""

COUNTED = 1000
"""So many of those that are to be claimed before it are counted."""

ODD_SECONDS = 60.0
"""Who is next, with a worker free for it, should have started by then."""


def why(task: Task) -> list[str]:
    """Return sentences that say why a task does not run, or what it does."""
    match task.status:
        case Task.STATUS_FINISHED:
            said = _why_finished(task)
        case Task.STATUS_ERROR:
            said = _why_failed(task)
        case Task.STATUS_IN_PROCESS:
            said = _who_runs(task)
        case _:
            said = _why_waiting(task)
    return [*said, *_twin(task)]


def why_missing(pk: int) -> list[str]:
    """Return sentences that say why there is no task of this number."""
    ((last,),) = _fetch(
        "SELECT pg_sequence_last_value(pg_get_serial_sequence('partisan_async_task', 'id'))"
    )
    if last is None or pk > last:
        known = "no task has had one" if last is None else f"the last one is {last}"
        return [f"No task has had the number {pk} yet: {known}."]
    return [
        f"There is no task {pk} any more: it finished and its row was deleted, or was pruned.",
        "Or there never was one: what enqueued it was rolled back, or is not committed yet.",
        "Or its number was meant for a call that was ignored, since an identical one waited.",
        *_deletions(),
    ]


def _deletions() -> Iterator[str]:
    for name in settings.configured_queues():
        queue = settings.queue_settings(name)
        if queue.DELETE_TASKS_ON_COMPLETE:
            yield f"Rows of queue {name!r} are deleted when they finish: DELETE_TASKS_ON_COMPLETE."
        elif (kept := queue.KEEP_FINISHED_SECONDS) is not None:
            yield (
                f"Rows of queue {name!r} are deleted {in_words(kept)} after they finished:"
                " KEEP_FINISHED_SECONDS."
            )


# Ended


def _why_finished(task: Task) -> Iterator[str]:
    tries = _times(task.tries, "try")
    yield f"It has finished, {_ago(task.finished_at)}, after {tries}{_took(task)}."
    if task.errors:
        yield f"A try before had failed: {_last_error(task)}"


def _why_failed(task: Task) -> Iterator[str]:
    yield (
        f"It has ended in error, {_ago(task.finished_at)},"
        f" after {_times(task.tries, 'try')}{_took(task)}."
    )
    if task.errors:
        yield _last_error(task)
    yield f"To run it again: manage.py partisan retry {task.pk}"


def _took(task: Task) -> str:
    if task.finished_at is None or task.last_attempted_at is None:
        return ""
    took = (task.finished_at - task.last_attempted_at).total_seconds()
    return f"; the last took {in_words(took)}"


def _last_error(task: Task) -> str:
    # A row may have been changed by hand.
    error = task.errors[-1] if isinstance(task.errors, list) else task.errors
    if not isinstance(error, dict):
        return readable.text(error)
    name, message = (readable.text(error.get(key)) for key in ("exception_class", "message"))
    return f"{name}: {message}".removesuffix(": ")


# In process


def _who_runs(task: Task) -> Iterator[str]:
    supervisors = overview.supervisors()
    holder = next((each for each in supervisors if each.id == str(task.claimed_by)), None)
    others = [each for each in _alive(task, supervisors) if each != holder]
    if (holder is None or not holder.alive) and task.interrupted >= MAX_INTERRUPTED:
        yield (
            f"Supervisors ended under it {task.interrupted} times, or could not write how it ended,"
            " so that none takes it over any more: their logs say why. When that is mended:"
            f" manage.py partisan cancel {task.pk}, and to run it again, manage.py partisan retry"
            f" {task.pk}"
        )
    elif holder is None or not holder.alive:
        yield (
            "It was claimed by a supervisor that is gone"
            if holder is None
            else f"The supervisor {holder.process} that claimed it has been silent for"
            f" {in_words(holder.silent)}"
        ) + (
            f"; another one takes it over, {TTL_SECONDS:g} seconds after the last sign of life,"
            " as soon as it has a worker free."
            if others
            else f", and no other serves queue {task.queue_name!r}. {_start(task)}"
        )
    else:
        yield _how_it_runs(task, holder)
        if holder.draining:
            yield f"{holder.process} is draining: it ends when this and all else that it runs has."
    yield from _what_happened(task)


def _how_it_runs(task: Task, holder: SupervisorState) -> str:
    for worker in holder.workers:
        for run in worker.tasks:
            if run.id == task.pk:
                return (
                    f"It runs on {holder.process}, in worker process {worker.pid},"
                    f" for {in_words(run.seconds + holder.silent)}."
                )
    return (
        f"It was claimed by {holder.process} {_ago(task.claimed_at)}, and is about to run there, or"
        f" does since its last sign of life, {in_words(holder.silent)} ago."
    )


# Waiting


def _why_waiting(task: Task) -> Iterator[str]:
    supervisors = overview.supervisors()
    alive = _alive(task, supervisors)
    willing = [each for each in alive if not each.draining]
    paused = PausedQueue.objects.using(store.database()).filter(queue_name=task.queue_name).first()
    due_in = (task.execute_after - _now()).total_seconds()
    if scheduled := task.status == Task.STATUS_SCHEDULED and due_in > 0:
        at = task.execute_after.isoformat(timespec="seconds")
        yield f"It is scheduled until {at}, for another {in_words(due_in)}."
    if paused:
        yield (
            f"Queue {task.queue_name!r} was paused {_ago(paused.paused_at)}."
            f" To resume it: manage.py partisan resume {task.queue_name}"
        )
    if not alive:
        yield from _nobody(task, [s for s in supervisors if s.queue_name == task.queue_name])
    elif not willing:
        yield (
            f"All supervisors of queue {task.queue_name!r} are draining, and start nothing more:"
            f" {_listed(each.process for each in alive)}. {_start(task)}"
        )
    try:
        registry.get(task.processor_class)
    except ProcessorClassNotFound as error:
        yield f"{error} That is how this process sees it; supervisors may run other code."
    if not scheduled:
        yield from _locked(task)
        if willing and not paused:
            yield from _behind(task, willing)
    yield from _what_happened(task)


def _nobody(task: Task, silent: Sequence[SupervisorState]) -> Iterator[str]:
    if not silent:
        yield f"Nobody serves queue {task.queue_name!r}. {_start(task)}"
        return
    last = min(silent, key=lambda each: each.silent)
    yield (
        f"No supervisor of queue {task.queue_name!r} is alive: the last sign of life was of"
        f" {last.process}, {in_words(last.silent)} ago. {_start(task)}"
    )


def _locked(task: Task) -> Iterator[str]:
    """Claims pass over rows that somebody has locked, and there is nothing else to see of it.

    For the blink of an eye it locks the row itself.
    """
    sql = "SELECT 1 FROM partisan_async_task WHERE id = %(id)s FOR UPDATE SKIP LOCKED"
    if _fetch(sql, id=task.pk):
        return
    # Of several holders xmax is the number of a group, and not of a transaction.
    holders = _fetch(
        """
        SELECT a.pid, a.application_name, a.state,
            extract(epoch FROM clock_timestamp() - a.xact_start)::float8
        FROM partisan_async_task t JOIN pg_locks l ON l.transactionid = t.xmax AND l.granted
            JOIN pg_stat_activity a USING (pid) WHERE t.id = %(id)s
        """,
        id=task.pk,
    )
    who = "An open transaction"
    for pid, name, state, seconds in holders:
        who += f" of server process {pid} ({name or 'unnamed'}, {state}, {in_words(seconds or 0)})"
    yield (
        f"{who} has locked its row, and it is claimed when that ends: so does one that made an"
        " identical call, which was ignored."
    )


def _behind(task: Task, willing: Sequence[SupervisorState]) -> Iterator[str]:
    before = _count_before(task)
    workers = [(each, worker) for each in willing for worker in each.workers]
    held = overview.still_held(willing)
    runs = [
        RunState(run.id, run.processor, run.seconds + each.silent)
        for each, worker in workers
        for run in worker.tasks
        if run.id in held
    ]
    # What more there is beside those that are named may have ended too, but not all at once.
    free = sum(
        1
        for _, worker in workers
        if worker.running <= len(worker.tasks) and not any(run.id in held for run in worker.tasks)
    )
    if before:
        many = f"more than {COUNTED:,}" if before > COUNTED else f"{before:,}"
        are = "tasks are" if before > 1 else "task is"
        yield f"It waits behind others: {many} {are} to be claimed before it."
    if runs and not free:
        longest = sorted(runs, key=lambda run: -run.seconds)
        whole = "The only worker" if len(workers) == 1 else f"All {len(workers):,} workers"
        yield (
            f"{whole} of queue {task.queue_name!r} {'is' if len(workers) == 1 else 'are'} busy, the"
            " longest with: "
            + _listed(f"{r.id} {r.processor} for {in_words(r.seconds)}" for r in longest[:NAMED])
            + "."
        )
    elif not before:
        yield from _next(task, free)


def _next(task: Task, free: int) -> Iterator[str]:
    ready = (_now() - max(task.execute_after, task.created_at)).total_seconds()
    if not free:
        yield "It is next, as soon as a worker is up."
        return
    yield f"It is next: nothing is before it, and {_times(free, 'worker')} had nothing to do."
    if ready > ODD_SECONDS and not task.suspect and not task.lost:
        yield (
            f"That it has been ready for {in_words(ready)} is odd: look at the log of the"
            " supervisors, and at manage.py partisan doctor"
        )


def _count_before(task: Task) -> int:
    # As a row: so the index is read up to this one, and not over those behind it.
    ((count,),) = _fetch(
        """
        SELECT count(*) FROM (
            SELECT FROM partisan_async_task
            WHERE status = 'new' AND queue_name = %(queue_name)s
                AND (priority, id) < (%(priority)s, %(id)s)
            ORDER BY queue_name, priority, id LIMIT %(limit)s) AS before
        """,
        queue_name=task.queue_name,
        priority=task.priority,
        id=task.pk,
        limit=COUNTED + 1,
    )
    return cast("int", count)


def _what_happened(task: Task) -> Iterator[str]:
    if task.unrecognised:
        yield (
            f"A supervisor that does not know {task.processor_class!r} put it off"
            f" {task.unrecognised} of {MAX_UNRECOGNISED} times: is its code deployed everywhere?"
        )
    if task.lost:
        yield (
            f"It took its worker process down {_times(task.lost, 'time')}, so it has to have a"
            " worker of its own."
        )
    elif task.suspect:
        yield "It was in a worker process that died, so it has to have a worker of its own."
    if task.interrupted:
        yield (
            f"Its last {_times(task.interrupted, 'claim')} ended without an outcome: the supervisor"
            " died, or the run's session with the database was ended."
        )
    if task.postpones:
        yield f"It has postponed itself {_times(task.postpones, 'time')}."
    if task.errors:
        yield f"It has failed before, at last of {_last_error(task)}"


def _twin(task: Task) -> Iterator[str]:
    digest = task.digest or _digest(task)
    if digest is None:
        return
    rows = Task.objects.using(store.database()).filter(digest=digest, status__in=WAITING)
    for pk in rows.exclude(pk=task.pk).values_list("pk", flat=True):
        yield f"An identical call waits: {pk}."
    if task.status in WAITING and task.digest:
        yield "Identical calls that are made while it waits are not added: it stands for them."


def _digest(task: Task) -> bytes | None:
    """Return what it would have, had it not been given up for a twin's or a retry's sake."""
    try:
        processor = registry.get(task.processor_class)
        if not processor.UNIQUE_FOR_PARAMS or task.status not in WAITING:
            return None
        encoded = arguments.encode(tuple(task.args), task.kwargs)
    except (ProcessorClassNotFound, TypeError, ValueError):
        return None
    return arguments.digest(task.processor_class, encoded)


# Words


def _alive(task: Task, supervisors: Sequence[SupervisorState]) -> list[SupervisorState]:
    return [each for each in supervisors if each.alive and each.queue_name == task.queue_name]


def _start(task: Task) -> str:
    return f"Start one: manage.py start_partisan --async --queue_name {task.queue_name}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _ago(moment: datetime | None) -> str:
    if moment is None:
        return "at an unknown time"
    return f"{in_words((_now() - moment).total_seconds())} ago"


def _times(count: int, noun: str) -> str:
    plural = "tries" if noun == "try" else f"{noun}s"
    return f"1 {noun}" if count == 1 else f"{count:,} {plural}"


def _now() -> datetime:
    ((now,),) = _fetch("SELECT statement_timestamp()")
    return cast("datetime", now)


def _fetch(sql: str, **params: Any) -> list[Any]:
    with connections[store.database()].cursor() as cursor:
        cursor.execute(sql, params)
        return list(cursor.fetchall())
