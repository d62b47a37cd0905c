"""What has happened to a task so far, which may be why it does not run now."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.translation import gettext

from partisan_async.exceptions import PostponeTask
from partisan_async.models import Task
from partisan_async.operate.reasons.errors import last_error
from partisan_async.operate.reasons.words import CLAIMS, TIMES, at, counted
from partisan_async.operate.ways_out import WaysOut
from partisan_async.policy import MAX_UNRECOGNISED, class_path


def what_happened(task: Task, ways: WaysOut) -> Iterator[str]:
    """Say how often it was put off, lost, interrupted, cut off or postponed, and how it failed."""
    if task.unrecognised:
        said = gettext(
            "A supervisor that does not know %(processor)r, or whose run() takes other arguments,"
            " put it off %(count)s of %(most)s times: is its code deployed everywhere?"
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
        yield said % {"times": counted(TIMES, task.lost)}
    elif task.suspect:
        yield gettext(
            "It was in a worker process that died, so it has to have a worker of its own."
        )
    if task.interrupted:
        said = gettext(
            "Its last %(claims)s ended without an outcome: the supervisor died, or the run's"
            " session with the database was ended."
        )
        yield said % {"claims": counted(CLAIMS, task.interrupted)}
    if task.stops_in_a_row:
        said = gettext(
            "A stop of its supervisor has cut it off %(times)s in a row, at last %(at)s. Let its"
            " run() look at self.stopping and make way in time, give it less to do, or raise"
            " SHUTDOWN_GRACE_SECONDS."
        )
        yield said % {"times": counted(TIMES, task.stops_in_a_row), "at": at(task.stopped_at)}
    if task.postpones:
        yield _postponed(task, ways)
    if failed := last_error(task, ways):
        yield gettext("It has failed before, at last of %(error)s") % {"error": failed}


def _postponed(task: Task, ways: WaysOut) -> str:
    why = last_error(task, ways, postponed=True)
    why = why.removeprefix(f"{class_path(PostponeTask())}: ")
    if why:
        said = gettext("It has postponed itself %(times)s, at last for: %(why)s")
    else:
        said = gettext("It has postponed itself %(times)s.")
    return said % {"times": counted(TIMES, task.postpones), "why": why}
