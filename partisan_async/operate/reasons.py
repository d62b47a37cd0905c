"""Says of one task why it does not run, or what became of it. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, cast

from django.utils.translation import gettext, gettext_lazy, ngettext, ngettext_lazy

from partisan_async import registry, settings, store
from partisan_async.enqueue import arguments
from partisan_async.enqueue.run import fetch
from partisan_async.exceptions import PostponeTask, ProcessorClassNotFound, TaskCancelled
from partisan_async.models import ENDED, WAITING, PausedQueue, Task, readable
from partisan_async.operate import home, overview
from partisan_async.operate.overview import RunState, SupervisorState
from partisan_async.operate.ways_out import COMMANDS, WaysOut
from partisan_async.policy import MAX_INTERRUPTED, MAX_UNRECOGNISED, class_path
from partisan_async.text import moments
from partisan_async.text.durations import in_words
from partisan_async.text.innermost import innermost

if TYPE_CHECKING:
    from django_stubs_ext import StrPromise

NAMED = 5
"""So many of the tasks that keep workers busy are named."""

COUNTED = 1000
"""So many of those that are to be claimed before it are counted."""

ODD_SECONDS = 60.0
"""Who is next, with a worker free for it, should have started by then."""


CANCELLED = class_path(TaskCancelled("", ""))

_ENDINGS = {
    "draining": gettext_lazy("it ends when this and all else that it runs has."),
    "stopping": gettext_lazy(
        "what has not ended within SHUTDOWN_GRACE_SECONDS is given back, and runs again."
    ),
}

# "number" says which of the two; "count" is it, as it is written.
_TRIES = ngettext_lazy("%(count)s try", "%(count)s tries", "number")
_TIMES = ngettext_lazy("%(count)s time", "%(count)s times", "number")
_CLAIMS = ngettext_lazy("%(count)s claim", "%(count)s claims", "number")
_WORKERS = ngettext_lazy("%(count)s worker", "%(count)s workers", "number")


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
    if took := _took(task):
        said = gettext("It has finished %(at)s, after %(tries)s; the last took %(took)s.")
    else:
        said = gettext("It has finished %(at)s, after %(tries)s.")
    tries = _counted(_TRIES, task.tries)
    yield said % {"at": _at(task.finished_at), "tries": tries, "took": took}
    if failed := _last_error(task, ways):
        yield gettext("A try before had failed: %(error)s") % {"error": failed}


def _why_failed(task: Task, ways: WaysOut) -> Iterator[str]:
    if took := _took(task):
        said = gettext("It has ended in error %(at)s, after %(tries)s; the last took %(took)s.")
    else:
        said = gettext("It has ended in error %(at)s, after %(tries)s.")
    tries = _counted(_TRIES, task.tries)
    yield said % {"at": _at(task.finished_at), "tries": tries, "took": took}
    if failed := _last_error(task, ways):
        yield failed
    yield ways.retry(task.pk)


def _took(task: Task) -> str:
    """Return how long its last run took; ``""``: nobody can say."""
    if task.finished_at is None or task.last_attempted_at is None:
        return ""
    if _last_class(task) == CANCELLED:  # it may have waited for long in between
        return ""
    return in_words((task.finished_at - task.last_attempted_at).total_seconds())


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
        interrupted = ngettext(
            "Supervisors ended under it %(count)s time, or could not write how it ended, so that"
            " none takes it over any more: their logs say why.",
            "Supervisors ended under it %(count)s times, or could not write how it ended, so that"
            " none takes it over any more: their logs say why.",
            task.interrupted,
        )
        way_out = ways.cancel_and_retry(task.pk)
        yield f"{interrupted % {'count': task.interrupted}} {way_out}"
    elif (holder is None or not holder.alive) and pause:
        yield f"{gettext('The supervisor that claimed it is gone.')} {pause[0]}"
    elif holder is None or not holder.alive:
        yield _who_takes_over(task, holder, bool(others), ways)
    else:
        yield _how_it_runs(task, holder, ways)
        if holder.ending:
            yield gettext("%(supervisor)s is %(farewell)s: %(ending)s") % {
                "supervisor": holder.process,
                "farewell": holder.farewell,
                "ending": _ENDINGS[holder.ending],
            }
    yield from _what_happened(task, ways)


def _who_takes_over(
    task: Task, holder: SupervisorState | None, has_others: bool, ways: WaysOut
) -> str:
    about = {"ttl": f"{store.TTL_SECONDS:g}", "queue": task.queue_name}
    if holder is not None:
        about |= {"supervisor": holder.process, "silent": in_words(holder.silent)}
    match holder is None, has_others:
        case True, True:
            said = gettext(
                "It was claimed by a supervisor that is gone; another one takes it over, %(ttl)s"
                " seconds after the last sign of life, as soon as it has a worker free."
            )
        case True, False:
            said = gettext(
                "It was claimed by a supervisor that is gone, and no other serves queue %(queue)r."
            )
        case False, True:
            said = gettext(
                "The supervisor %(supervisor)s that claimed it has been silent for %(silent)s;"
                " another one takes it over, %(ttl)s seconds after the last sign of life, as soon"
                " as it has a worker free."
            )
        case _:
            said = gettext(
                "The supervisor %(supervisor)s that claimed it has been silent for %(silent)s, and"
                " no other serves queue %(queue)r."
            )
    return said % about if has_others else f"{said % about} {ways.start(task.queue_name)}"


def _how_it_runs(task: Task, holder: SupervisorState, ways: WaysOut) -> str:
    for worker in holder.workers:
        for run in worker.tasks:
            if run.id == task.pk:
                return gettext(
                    "It runs on %(supervisor)s, in worker process %(pid)s, for %(time)s."
                ) % {
                    "supervisor": holder.process,
                    "pid": worker.pid,
                    "time": in_words(run.seconds),
                }
    about = {
        "supervisor": holder.process,
        "at": _at(task.claimed_at),
        "silent": in_words(holder.silent),
        "left": f"left {task.pk}",
        "locked": f"locked {task.pk}",
    }
    if _is_left(task, holder):
        said = gettext(
            "It was claimed by %(supervisor)s %(at)s, and none of its workers runs it: how it ended"
            " could not be written, and so it is not run again. The supervisor's log says why, at"
            " %(left)s or %(locked)s."
        )
        return f"{said % about} {ways.cancel_and_retry(task.pk)}"
    said = gettext(
        "It was claimed by %(supervisor)s %(at)s, and is about to run there, or does since its last"
        " sign of life, %(silent)s ago."
    )
    return said % about


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
        moment = moments.told(task.execute_after, _now())
        yield gettext("It is scheduled until %(moment)s.") % {"moment": moment}
    if paused:
        about = {"queue": task.queue_name, "at": _at(paused.paused_at)}
        said = gettext("Queue %(queue)r was paused %(at)s.") % about
        yield f"{said} {ways.resume(task.queue_name)}"
    if not alive:
        silent = [s for s in supervisors if s.queue_name == task.queue_name]
        yield from _nobody(task, silent, ways)
    elif not willing:
        yield _all_end(task, alive, ways)
    yield from _unknown_here(task)
    if not scheduled:
        yield from _locked(task)
        if willing and not paused and not held_back:
            yield from _behind(task, willing, ways)
    yield from _what_happened(task, ways)


def _all_end(task: Task, alive: Sequence[SupervisorState], ways: WaysOut) -> str:
    each_ends = gettext("%(supervisor)s is %(farewell)s")
    ends = (each_ends % {"supervisor": each.process, "farewell": each.farewell} for each in alive)
    said = gettext(
        "All supervisors of queue %(queue)r are about to end, and start nothing more: %(ends)s."
    )
    told = said % {"queue": task.queue_name, "ends": _listed(ends)}
    return f"{told} {ways.start(task.queue_name)}"


def _unknown_here(task: Task) -> Iterator[str]:
    try:
        registry.get(task.processor_class)
    except ProcessorClassNotFound as error:
        # As the error says it, which knows no Django and so no languages.
        if error.is_a_class:
            said = gettext(
                "Processor class %(name)r is not registered. Decorate it with @registry.register"
                " in a partisan_tasks.py of an installed app, or import it there."
            )
        else:
            said = gettext(
                "Processor class %(name)r is not registered. If it is one of Django's own tasks,"
                " import its module in a tasks.py of an installed app, and have TASKS name"
                " PartisanBackend."
            )
        more = gettext("That is how this process sees it; supervisors may run other code.")
        yield f"{said % {'name': error.processor_name}} {more}"


def _paused_processor(task: Task, ways: WaysOut) -> Iterator[str]:
    pauses = overview.pauses(1)
    for each in pauses:
        if each.is_of(task.processor_class, task.queue_name):
            said = gettext("Its processor was paused in %(where)s %(at)s.")
            about = {"where": each.where, "at": _at(each.since)}
            yield f"{said % about} {ways.resume_processor(each)}"
            return
    if task.is_parked:
        yield gettext(
            "Its processor was paused, and is resumed: a supervisor makes it ready at its next"
            " heartbeat."
        )


def _nobody(task: Task, silent: Sequence[SupervisorState], ways: WaysOut) -> Iterator[str]:
    about = {"queue": task.queue_name}
    if silent:
        last = min(silent, key=lambda each: each.silent)
        about |= {"supervisor": last.process, "silent": in_words(last.silent)}
        said = gettext(
            "No supervisor of queue %(queue)r is alive: the last sign of life was of"
            " %(supervisor)s, %(silent)s ago."
        )
    else:
        said = gettext("Nobody serves queue %(queue)r.")
    yield f"{said % about} {ways.start(task.queue_name)}"


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
    who = "".join(_holder(*holder) for holder in holders)
    yield gettext(
        "An open transaction%(whose)s has locked its row, and it is claimed when that ends: so does"
        " one that made an identical call, which was ignored."
    ) % {"whose": who}


def _holder(pid: int, name: str, state: str, seconds: float | None) -> str:
    return gettext(" of server process %(pid)s (%(name)s, %(state)s, %(time)s)") % {
        "pid": pid,
        "name": name or gettext("unnamed"),
        "state": state,
        "time": in_words(seconds or 0),
    }


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
        yield _told_before(before)
    if runs and not free:
        yield _told_busy(task, len(workers), runs, ways)
    elif not before:
        yield from _next(task, free, ways)


def _told_before(count: int) -> str:
    if count > COUNTED:
        said = gettext(
            "It waits behind others: more than %(count)s tasks are to be claimed before it."
        )
        return said % {"count": f"{COUNTED:,}"}
    return ngettext(
        "It waits behind others: %(count)s task is to be claimed before it.",
        "It waits behind others: %(count)s tasks are to be claimed before it.",
        count,
    ) % {"count": f"{count:,}"}


def _told_busy(task: Task, workers: int, runs: Sequence[RunState], ways: WaysOut) -> str:
    longest = sorted(runs, key=lambda run: -run.seconds)[:NAMED]
    each = gettext("%(task)s for %(time)s")
    return ngettext(
        "The only worker of queue %(queue)r is busy, the longest with: %(tasks)s.",
        "All %(count)s workers of queue %(queue)r are busy, the longest with: %(tasks)s.",
        workers,
    ) % {
        "count": f"{workers:,}",
        "queue": task.queue_name,
        "tasks": _listed(
            each % {"task": ways.task(run.id, run.processor), "time": in_words(run.seconds)}
            for run in longest
        ),
    }


def _next(task: Task, free: int, ways: WaysOut) -> Iterator[str]:
    ready = (_now() - max(task.execute_after, task.created_at)).total_seconds()
    if not free:
        yield gettext("It is next, as soon as a worker is up.")
        return
    said = gettext("It is next: nothing is before it, and %(workers)s had nothing to do.")
    yield said % {"workers": _counted(_WORKERS, free)}
    if ready > ODD_SECONDS and not task.suspect and not task.lost:
        said = gettext("That it has been ready for %(time)s is odd: %(way)s")
        yield said % {"time": in_words(ready), "way": ways.look_further()}


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
        said = gettext(
            "A supervisor that does not know %(processor)r put it off %(count)s of %(most)s times:"
            " is its code deployed everywhere?"
        )
        yield said % {
            "processor": task.processor_class,
            "count": task.unrecognised,
            "most": MAX_UNRECOGNISED,
        }
    if task.lost:
        said = gettext(
            "It took its worker process down %(times)s, so it has to have a worker of its own."
        )
        yield said % {"times": _counted(_TIMES, task.lost)}
    elif task.suspect:
        yield gettext(
            "It was in a worker process that died, so it has to have a worker of its own."
        )
    if task.interrupted:
        said = gettext(
            "Its last %(claims)s ended without an outcome: the supervisor died, or the run's"
            " session with the database was ended."
        )
        yield said % {"claims": _counted(_CLAIMS, task.interrupted)}
    if task.postpones:
        yield _postponed(task, ways)
    if failed := _last_error(task, ways):
        yield gettext("It has failed before, at last of %(error)s") % {"error": failed}


def _postponed(task: Task, ways: WaysOut) -> str:
    why = _last_error(task, ways, postponed=True)
    why = why.removeprefix(f"{class_path(PostponeTask())}: ")
    if why:
        said = gettext("It has postponed itself %(times)s, at last for: %(why)s")
    else:
        said = gettext("It has postponed itself %(times)s.")
    return said % {"times": _counted(_TIMES, task.postpones), "why": why}


def _twin(task: Task) -> Iterator[str]:
    digest = task.digest or _digest(task)
    if digest is None:
        return
    rows = Task.objects.using(store.database()).filter(digest=digest, status__in=WAITING)
    for pk in rows.exclude(pk=task.pk).values_list("pk", flat=True):
        yield gettext("An identical call waits: %(task)s.") % {"task": pk}
    if task.status in WAITING and task.digest:
        yield gettext(
            "Identical calls that are made while it waits are not added: it stands for them."
        )


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
    if moment is None:
        return gettext("at an unknown time")
    return gettext("at %(moment)s") % {"moment": moments.told(moment, _now())}


def _counted(noun: StrPromise, count: int) -> str:
    return noun % {"count": f"{count:,}", "number": count}


def _now() -> datetime:
    ((now,),) = fetch("SELECT statement_timestamp()")
    return cast("datetime", now)
