"""What became of a task that has ended."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.translation import gettext

from partisan_async.exceptions import TaskCancelled
from partisan_async.models import Task
from partisan_async.operate.reasons.errors import last_class, last_error
from partisan_async.operate.reasons.tried_again import given_up
from partisan_async.operate.reasons.words import TRIES, at, counted
from partisan_async.operate.ways_out import WaysOut
from partisan_async.policy import class_path
from partisan_async.text.durations import in_words

CANCELLED = class_path(TaskCancelled("", ""))


def why_finished(task: Task, ways: WaysOut) -> Iterator[str]:
    """Say when a task finished, and which error an earlier run had."""
    if took := _took(task):
        said = gettext("It has finished %(at)s, after %(tries)s; the last took %(took)s.")
    else:
        said = gettext("It has finished %(at)s, after %(tries)s.")
    tries = counted(TRIES, task.tries)
    yield said % {"at": at(task.finished_at), "tries": tries, "took": took}
    if failed := last_error(task, ways):
        yield gettext("A try before had failed: %(error)s") % {"error": failed}


def why_failed(task: Task, ways: WaysOut) -> Iterator[str]:
    """Say when a task failed, its last error, and how to run it again."""
    if took := _took(task):
        said = gettext("It has ended in error %(at)s, after %(tries)s; the last took %(took)s.")
    else:
        said = gettext("It has ended in error %(at)s, after %(tries)s.")
    tries = counted(TRIES, task.tries)
    yield said % {"at": at(task.finished_at), "tries": tries, "took": took}
    if failed := last_error(task, ways):
        yield failed
    yield from given_up(task)
    yield ways.retry(task.pk)


def _took(task: Task) -> str:
    """Return how long its last run took; ``""``: unknown."""
    if task.finished_at is None or task.last_attempted_at is None:
        return ""
    if last_class(task) == CANCELLED:  # the time since its last run includes a wait
        return ""
    return in_words((task.finished_at - task.last_attempted_at).total_seconds())
