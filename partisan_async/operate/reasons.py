"""Says of one task why it does not run, or what became of it. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import cast

from partisan_async import registry, settings, store
from partisan_async.enqueue import arguments
from partisan_async.enqueue.run import fetch
from partisan_async.exceptions import PostponeTask, ProcessorClassNotFound, TaskCancelled
from partisan_async.models import ENDED, WAITING, PausedQueue, Task, readable
from partisan_async.operate import home, overview
from partisan_async.operate.overview import SupervisorState
from partisan_async.operate.ways_out import COMMANDS, WaysOut
from partisan_async.policy import MAX_INTERRUPTED, MAX_UNRECOGNISED, class_path
from partisan_async.text import moments
from partisan_async.text.durations import in_words
from partisan_async.text.innermost import innermost

NAMED = 5
"""So many of the tasks that keep workers busy are named."""

COUNTED = 1000
"""So many of those that are to be claimed before it are counted."""

ODD_SECONDS = 60.0
"""Who is next, with a worker free for it, should have started by then."""


CANCELLED = class_path(TaskCancelled("", ""))

_ENDINGS = {
    "draining": "it ends when this and all else that it runs has.",
    "stopping": "what has not ended within SHUTDOWN_GRACE_SECONDS is given back, and runs again.",
}


def why(task: Task, ways: WaysOut = COMMANDS) -> list[str]:
    """Return sentences that say why a task does not run, or what it does.

    :param ways: what their reader can do about it, and may see.
    """
    match task.status:
        case Task.STATUS_FINISHED:
            said = _why_finished(task, ways)
        case Task.STATUS_ERROR:
            said = _why_failed(task, ways)
        case Task.STATUS_IN_PROCESS:
            said = _who_runs(task, ways)
        case _:
            said = _why_waiting(task, ways)
    return [*_not_at_home(task), *said, *_twin(task)]


def _not_at_home(task: Task) -> Iterator[str]:
    """On a copy no supervisor starts, and all else that is said is of little use."""
    kept = None if task.status in ENDED else home.kept()
    if kept is not None and (told := home.refusal(home.here(), kept)):
        yield told


def why_missing(pk: int) -> list[str]:
    """Return sentences that say why there is no task of this number."""
    ((last,),) = fetch(
        """
        SELECT CASE WHEN has_sequence_privilege(s.name, 'USAGE, SELECT')
            THEN pg_sequence_last_value(s.name::regclass)
            ELSE (SELECT max(id) FROM partisan_async_task) END
        FROM pg_get_serial_sequence('partisan_async_task', 'id') AS s (name)
        """
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


def _why_finished(task: Task, ways: WaysOut) -> Iterator[str]:
    tries = _times(task.tries, "try")
    yield f"It has finished {_at(task.finished_at)}, after {tries}{_took(task)}."
    if failed := _last_error(task, ways):
        yield f"A try before had failed: {failed}"


def _why_failed(task: Task, ways: WaysOut) -> Iterator[str]:
    yield (
        f"It has ended in error {_at(task.finished_at)},"
        f" after {_times(task.tries, 'try')}{_took(task)}."
    )
    if failed := _last_error(task, ways):
        yield failed
    yield ways.retry(task.pk)


def _took(task: Task) -> str:
    if task.finished_at is None or task.last_attempted_at is None:
        return ""
    if _last_class(task) == CANCELLED:  # it may have waited for long in between
        return ""
    took = (task.finished_at - task.last_attempted_at).total_seconds()
    return f"; the last took {in_words(took)}"


def _last_class(task: Task) -> object:
    last = task.errors[-1] if isinstance(task.errors, list) and task.errors else None
    return last.get("exception_class") if isinstance(last, dict) else None


def _last_error(task: Task, ways: WaysOut, *, postponed: bool = False) -> str:
    """Return what the last error was, or why it postponed itself last; ``""``: there is none."""
    # A row may have been changed by hand.
    if not isinstance(task.errors, list):
        return "" if postponed or not task.errors else ways.text(readable.text(task.errors))
    for error in reversed(task.errors):
        if not isinstance(error, dict):
            return "" if postponed else ways.text(readable.text(error))
        if ("postponed" in error) is postponed:
            name, message = (
                readable.text(error.get(key)) for key in ("exception_class", "message")
            )
            place = "" if postponed else innermost(error.get("traceback"))
            return ways.error(name, message, place)
    return ""


# In process


def _who_runs(task: Task, ways: WaysOut) -> Iterator[str]:
    supervisors = overview.supervisors()
    pause = list(_paused_processor(task, ways))
    holder = next((each for each in supervisors if each.id == str(task.claimed_by)), None)
    others = [each for each in _alive(task, supervisors) if each != holder]
    if (holder is None or not holder.alive) and task.interrupted >= MAX_INTERRUPTED:
        yield (
            f"Supervisors ended under it {task.interrupted} times, or could not write how it ended,"
            " so that none takes it over any more: their logs say why."
            f" {ways.cancel_and_retry(task.pk)}"
        )
    elif (holder is None or not holder.alive) and pause:
        yield f"The supervisor that claimed it is gone. {pause[0]}"
    elif holder is None or not holder.alive:
        yield (
            "It was claimed by a supervisor that is gone"
            if holder is None
            else f"The supervisor {holder.process} that claimed it has been silent for"
            f" {in_words(holder.silent)}"
        ) + (
            f"; another one takes it over, {store.TTL_SECONDS:g} seconds after the last sign of"
            " life, as soon as it has a worker free."
            if others
            else f", and no other serves queue {task.queue_name!r}. {ways.start(task.queue_name)}"
        )
    else:
        yield _how_it_runs(task, holder, ways)
        if holder.ending:
            yield f"{holder.process} is {holder.farewell}: {_ENDINGS[holder.ending]}"
    yield from _what_happened(task, ways)


def _how_it_runs(task: Task, holder: SupervisorState, ways: WaysOut) -> str:
    for worker in holder.workers:
        for run in worker.tasks:
            if run.id == task.pk:
                return (
                    f"It runs on {holder.process}, in worker process {worker.pid},"
                    f" for {in_words(run.seconds)}."
                )
    claimed = f"It was claimed by {holder.process} {_at(task.claimed_at)}"
    if _is_left(task, holder):
        return (
            f"{claimed}, and none of its workers runs it: how it ended could not be written, and so"
            f" it is not run again. The supervisor's log says why, at left {task.pk} or locked"
            f" {task.pk}. {ways.cancel_and_retry(task.pk)}"
        )
    return (
        f"{claimed}, and is about to run there, or does since its last sign of life,"
        f" {in_words(holder.silent)} ago."
    )


def _is_left(task: Task, holder: SupervisorState) -> bool:
    """Tell whether a supervisor has it that does not run it: what waits is given back sooner."""
    if task.claimed_at is None or any(worker.more for worker in holder.workers):
        return False  # of many not all are told of
    had: float = (_now() - task.claimed_at).total_seconds() - holder.silent
    return had > ODD_SECONDS


# Waiting


def _why_waiting(task: Task, ways: WaysOut) -> Iterator[str]:
    supervisors = overview.supervisors()
    alive = _alive(task, supervisors)
    willing = [each for each in alive if each.starts]
    paused = PausedQueue.objects.using(store.database()).filter(queue_name=task.queue_name).first()
    due_in = (task.execute_after - _now()).total_seconds()
    yield from (held_back := list(_paused_processor(task, ways)))
    scheduled = task.status == Task.STATUS_SCHEDULED and due_in > 0
    if scheduled and not task.is_parked:
        yield f"It is scheduled until {moments.told(task.execute_after, _now())}."
    if paused:
        yield (
            f"Queue {task.queue_name!r} was paused {_at(paused.paused_at)}."
            f" {ways.resume(task.queue_name)}"
        )
    if not alive:
        silent = [s for s in supervisors if s.queue_name == task.queue_name]
        yield from _nobody(task, silent, ways)
    elif not willing:
        ends = _listed(f"{each.process} is {each.farewell}" for each in alive)
        yield (
            f"All supervisors of queue {task.queue_name!r} are about to end, and start nothing"
            f" more: {ends}. {ways.start(task.queue_name)}"
        )
    try:
        registry.get(task.processor_class)
    except ProcessorClassNotFound as error:
        yield f"{error} That is how this process sees it; supervisors may run other code."
    if not scheduled:
        yield from _locked(task)
        if willing and not paused and not held_back:
            yield from _behind(task, willing, ways)
    yield from _what_happened(task, ways)


def _paused_processor(task: Task, ways: WaysOut) -> Iterator[str]:
    pauses = overview.pauses(1)
    for each in pauses:
        if each.is_of(task.processor_class, task.queue_name):
            yield (
                f"Its processor was paused in {each.where} {_at(each.since)}."
                f" {ways.resume_processor(each)}"
            )
            return
    if task.is_parked:
        yield (
            "Its processor was paused, and is resumed: a supervisor makes it ready at its next"
            " heartbeat."
        )


def _nobody(task: Task, silent: Sequence[SupervisorState], ways: WaysOut) -> Iterator[str]:
    if not silent:
        yield f"Nobody serves queue {task.queue_name!r}. {ways.start(task.queue_name)}"
        return
    last = min(silent, key=lambda each: each.silent)
    yield (
        f"No supervisor of queue {task.queue_name!r} is alive: the last sign of life was of"
        f" {last.process}, {in_words(last.silent)} ago. {ways.start(task.queue_name)}"
    )


def _locked(task: Task) -> Iterator[str]:
    """Claims pass over rows that somebody has locked, and there is nothing else to see of it.

    For the blink of an eye it locks the row itself.
    """
    sql = "SELECT 1 FROM partisan_async_task WHERE id = %(id)s FOR UPDATE SKIP LOCKED"
    if fetch(sql, {"id": task.pk}):
        return
    # Of several holders xmax is the number of a group, and not of a transaction.
    holders = fetch(
        """
        SELECT a.pid, a.application_name, a.state,
            extract(epoch FROM clock_timestamp() - a.xact_start)::float8
        FROM partisan_async_task t JOIN pg_locks l ON l.transactionid = t.xmax AND l.granted
            JOIN pg_stat_activity a USING (pid) WHERE t.id = %(id)s
        """,
        {"id": task.pk},
    )
    who = "An open transaction"
    for pid, name, state, seconds in holders:
        who += f" of server process {pid} ({name or 'unnamed'}, {state}, {in_words(seconds or 0)})"
    yield (
        f"{who} has locked its row, and it is claimed when that ends: so does one that made an"
        " identical call, which was ignored."
    )


def _behind(task: Task, willing: Sequence[SupervisorState], ways: WaysOut) -> Iterator[str]:
    before = _count_before(task)
    workers = [(each, worker) for each in willing for worker in each.workers]
    held = overview.still_held(willing)
    runs = [run for _, worker in workers for run in worker.tasks if run.id in held]
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
            + _listed(
                f"{ways.task(r.id, r.processor)} for {in_words(r.seconds)}" for r in longest[:NAMED]
            )
            + "."
        )
    elif not before:
        yield from _next(task, free, ways)


def _next(task: Task, free: int, ways: WaysOut) -> Iterator[str]:
    ready = (_now() - max(task.execute_after, task.created_at)).total_seconds()
    if not free:
        yield "It is next, as soon as a worker is up."
        return
    yield f"It is next: nothing is before it, and {_times(free, 'worker')} had nothing to do."
    if ready > ODD_SECONDS and not task.suspect and not task.lost:
        yield (f"That it has been ready for {in_words(ready)} is odd: {ways.look_further()}")


def _count_before(task: Task) -> int:
    # As a row: so the index is read up to this one, and not over those behind it.
    ((count,),) = fetch(
        """
        SELECT count(*) FROM (
            SELECT FROM partisan_async_task
            WHERE status = 'new' AND queue_name = %(queue_name)s
                AND (priority, id) < (%(priority)s, %(id)s)
            ORDER BY queue_name, priority, id LIMIT %(limit)s) AS before
        """,
        {
            "queue_name": task.queue_name,
            "priority": task.priority,
            "id": task.pk,
            "limit": COUNTED + 1,
        },
    )
    return cast("int", count)


def _what_happened(task: Task, ways: WaysOut) -> Iterator[str]:
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
        why = _last_error(task, ways, postponed=True)
        why = why.removeprefix(f"{class_path(PostponeTask())}: ")
        at_last = f", at last for: {why}" if why else "."
        yield f"It has postponed itself {_times(task.postpones, 'time')}{at_last}"
    if failed := _last_error(task, ways):
        yield f"It has failed before, at last of {failed}"


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


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _at(moment: datetime | None) -> str:
    return "at an unknown time" if moment is None else f"at {moments.told(moment, _now())}"


def _times(count: int, noun: str) -> str:
    plural = "tries" if noun == "try" else f"{noun}s"
    return f"1 {noun}" if count == 1 else f"{count:,} {plural}"


def _now() -> datetime:
    ((now,),) = fetch("SELECT statement_timestamp()")
    return cast("datetime", now)
