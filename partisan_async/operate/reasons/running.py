"""Which supervisor runs a task, or takes it over."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.translation import gettext, gettext_lazy, ngettext

from partisan_async import store
from partisan_async.models import Task
from partisan_async.operate import overview
from partisan_async.operate.overview import SupervisorState
from partisan_async.operate.reasons.history import what_happened
from partisan_async.operate.reasons.paused import paused_processor
from partisan_async.operate.reasons.serving import living
from partisan_async.operate.reasons.turn import ODD_SECONDS
from partisan_async.operate.reasons.words import at, now
from partisan_async.operate.ways_out import WaysOut
from partisan_async.policy import MAX_INTERRUPTED
from partisan_async.text.durations import in_words

_ENDINGS = {
    "draining": gettext_lazy("it ends when this and all else that it runs has."),
    "stopping": gettext_lazy(
        "what has not ended within SHUTDOWN_GRACE_SECONDS is given back, and runs again."
    ),
}


def who_runs(task: Task, ways: WaysOut) -> Iterator[str]:
    """Say which supervisor runs a task, or which takes it over."""
    supervisors = overview.supervisors()
    pause = list(paused_processor(task, ways))
    holder = next((each for each in supervisors if each.id == str(task.claimed_by)), None)
    others = [each for each in living(task, supervisors) if each != holder]
    if (holder is None or not holder.alive) and task.interrupted >= MAX_INTERRUPTED:
        interrupted = ngettext(
            "It was cut short %(count)s time: its supervisor ended, or could not write its end, or"
            " its database session was lost. The logs of the supervisors say why, and none takes it"
            " over any more.",
            "It was cut short %(count)s times: its supervisor ended, or could not write its end, or"
            " its database session was lost. The logs of the supervisors say why, and none takes it"
            " over any more.",
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
    yield from what_happened(task, ways)


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
        "at": at(task.claimed_at),
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
    """Tell whether its supervisor holds it and does not run it.

    A task that only waits for a worker is given back before ``ODD_SECONDS``.
    """
    if task.claimed_at is None or any(worker.more for worker in holder.workers):
        return False  # the row names only the first of many tasks
    had: float = (now() - task.claimed_at).total_seconds() - holder.silent
    return had > ODD_SECONDS
