"""Why a task waits: each thing that keeps it from being claimed."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.translation import gettext

from partisan_async import registry, store
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.models import PausedQueue, Task
from partisan_async.operate import overview
from partisan_async.operate.reasons.history import what_happened
from partisan_async.operate.reasons.limited import behind_limit
from partisan_async.operate.reasons.locked import locked
from partisan_async.operate.reasons.paused import paused_processor
from partisan_async.operate.reasons.serving import all_end, living, nobody
from partisan_async.operate.reasons.tried_again import next_try
from partisan_async.operate.reasons.turn import behind, busy
from partisan_async.operate.reasons.words import at, now
from partisan_async.operate.ways_out import WaysOut
from partisan_async.text import moments


def why_waiting(task: Task, ways: WaysOut) -> Iterator[str]:
    """Say each thing that a waiting task waits for."""
    supervisors = overview.supervisors()
    alive = living(task, supervisors)
    willing = [each for each in alive if each.starts]
    paused = PausedQueue.objects.using(store.database()).filter(queue_name=task.queue_name).first()
    due_in = (task.execute_after - now()).total_seconds()
    limited = task.status == Task.STATUS_LIMITED
    if limited:
        yield from behind_limit(task, ways)
    yield from (held_back := list(paused_processor(task, ways)))
    scheduled = task.status == Task.STATUS_SCHEDULED and due_in > 0
    if scheduled and not task.is_parked:
        moment = moments.told(task.execute_after, now())
        yield gettext("It is scheduled until %(moment)s.") % {"moment": moment}
    yield from next_try(task)
    if paused:
        about = {"queue": task.queue_name, "at": at(paused.paused_at)}
        said = gettext("Queue %(queue)r was paused %(at)s.") % about
        yield f"{said} {ways.resume(task.queue_name)}"
    if not alive:
        silent = [s for s in supervisors if s.queue_name == task.queue_name]
        yield from nobody(task, silent, ways)
    elif not willing:
        yield all_end(task, alive, ways)
    yield from _unknown_here(task)
    if not scheduled:
        yield from locked(task)
        if willing and not paused and not held_back:
            yield from (busy if limited else behind)(task, willing, ways)
    yield from what_happened(task, ways)


def _unknown_here(task: Task) -> Iterator[str]:
    try:
        registry.get(task.processor_class)
    except ProcessorClassNotFound as error:
        # The error's text again, to translate it: the error itself does not import Django.
        if error.is_a_class:
            said = gettext(
                "Processor class %(name)r is not registered. Decorate it with @registry.register"
                " in a partisan_tasks.py of an installed app, or import it there."
            )
        else:
            said = gettext(
                "Processor class %(name)r is not registered. If it is one of Django's own tasks,"
                " import its module in a tasks.py of an installed app, and have TASKS name"
                " PartisanBackend. If it was a processor's NAME, name it in ALSO_KNOWN_AS."
            )
        more = gettext("That is how this process sees it; supervisors may run other code.")
        yield f"{said % {'name': error.processor_name}} {more}"
