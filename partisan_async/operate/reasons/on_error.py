"""What is called when a task ends in error, and whose end a task tells of: see ``ON_ERROR``."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.translation import gettext

from partisan_async import registry, store
from partisan_async.declared import on_error_of
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.models import Task
from partisan_async.naming import name_of
from partisan_async.operate.reasons.ended import CANCELLED
from partisan_async.operate.reasons.errors import last_class
from partisan_async.processor import BaseTaskProcessor


def on_error(task: Task) -> Iterator[str]:
    """Say what is called on a task's end, or was; and whose end it tells of itself."""
    called = _called_by(task.processor_class)
    if called is not None and task.status != Task.STATUS_FINISHED:
        yield _called(task) % {"name": name_of(called)}
    yield from _tells_of(task)


def _called(task: Task) -> str:
    if task.status != Task.STATUS_ERROR:
        return gettext("If it ends in error, its ON_ERROR is enqueued with its number: %(name)s.")
    if last_class(task) == CANCELLED:
        return gettext("It was cancelled, so its ON_ERROR was not enqueued: %(name)s.")
    return gettext(
        "Its ON_ERROR was enqueued with its number, if the code that ended it had one: %(name)s."
    )


def _tells_of(task: Task) -> Iterator[str]:
    number = _number(task) if _is_called(task) else None
    if number is None:
        return
    failed = Task.objects.using(store.database()).filter(pk=number).first()
    if failed is None or not _is_of(task, _called_by(failed.processor_class)):
        return
    # One statement ends a task and enqueues what tells of it. The testing kit has it another time
    # than the row's default.
    if failed.finished_at in (task.created_at, task.execute_after):
        yield gettext("It tells of the end of task %(task)s.") % {"task": number}
    else:
        said = gettext("It tells of an earlier end of task %(task)s, which was run again since.")
        yield said % {"task": number}


def _number(task: Task) -> int | None:
    """Return the number that it is called with, as an ``ON_ERROR`` is; ``None``: it is none."""
    if task.digest is not None or task.unique_key is not None:
        return None  # somebody's own call
    try:
        args, kwargs = task.args, task.kwargs
    except ValueError:  # changed by hand
        return None
    is_one = len(args) == 1 and not kwargs and type(args[0]) is int
    return args[0] if is_one else None


def _is_called(task: Task) -> bool:
    """Tell whether its processor is the ``ON_ERROR`` of any: without, nothing is read."""
    known = registry.processors_and_tasks()
    return any(_is_of(task, _called_by(name_of(each))) for each in known)


def _called_by(name: str) -> type[BaseTaskProcessor] | None:
    """Return the processor that is called on the end of another's tasks, if this process knows."""
    try:
        return on_error_of(registry.get(name))
    except (ProcessorClassNotFound, TypeError):
        return None


def _is_of(task: Task, processor: type[BaseTaskProcessor] | None) -> bool:
    if processor is None:
        return False
    try:
        return registry.get(task.processor_class) is processor
    except ProcessorClassNotFound:
        return False
