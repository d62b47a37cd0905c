"""Whether the pause of its processor holds a task back."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.translation import gettext

from partisan_async.models import Task
from partisan_async.operate import overview
from partisan_async.operate.reasons.words import at
from partisan_async.operate.ways_out import WaysOut


def paused_processor(task: Task, ways: WaysOut) -> Iterator[str]:
    """Say that the processor is paused, or that its pause has just ended."""
    pauses = overview.pauses(1)
    for each in pauses:
        if each.is_of(task.processor_class, task.queue_name):
            said = gettext("Its processor was paused in %(where)s %(at)s.")
            about = {"where": each.where, "at": at(each.since)}
            yield f"{said % about} {ways.resume_processor(each)}"
            return
    if task.is_parked:
        yield gettext(
            "Its processor was paused, and is resumed: a supervisor makes it ready at its next"
            " heartbeat."
        )
