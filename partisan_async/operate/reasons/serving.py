"""Which supervisors serve a task's queue, and what to say where none starts it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from django.utils.translation import gettext

from partisan_async.models import Task
from partisan_async.operate.overview import SupervisorState
from partisan_async.operate.reasons.words import listed
from partisan_async.operate.ways_out import WaysOut
from partisan_async.text.durations import in_words


def living(task: Task, supervisors: Sequence[SupervisorState]) -> list[SupervisorState]:
    """Return the live supervisors of a task's queue."""
    return [each for each in supervisors if each.alive and each.queue_name == task.queue_name]


def nobody(task: Task, silent: Sequence[SupervisorState], ways: WaysOut) -> Iterator[str]:
    """Say that no supervisor of the queue is alive."""
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


def all_end(task: Task, alive: Sequence[SupervisorState], ways: WaysOut) -> str:
    """Say that each live supervisor of the queue is about to end."""
    each_ends = gettext("%(supervisor)s is %(farewell)s")
    ends = (each_ends % {"supervisor": each.process, "farewell": each.farewell} for each in alive)
    said = gettext(
        "All supervisors of queue %(queue)r are about to end, and start nothing more: %(ends)s."
    )
    told = said % {"queue": task.queue_name, "ends": listed(ends)}
    return f"{told} {ways.start(task.queue_name)}"
