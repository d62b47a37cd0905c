"""Inserts the rows of Django's tasks, and finds them by their ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from partisan_async import registry, store
from partisan_async.django_tasks.calls import call_of
from partisan_async.django_tasks.compat import Task, TaskResult
from partisan_async.django_tasks.finding import find_task
from partisan_async.django_tasks.results import result_of
from partisan_async.enqueue import insert
from partisan_async.models import Task as Row


def enqueue(
    task: Task[Any, Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> TaskResult[Any, Any]:
    """Insert the row of a task, in the caller's transaction."""
    return result_of(insert.enqueue(call_of(task, args, kwargs)), task)


def find(result_id: str) -> TaskResult[Any, Any] | None:
    """Return the result with this id; ``None`` if no row of Django's tasks has it."""
    if not (isinstance(result_id, str) and result_id.isdecimal() and len(result_id) < 19):
        return None
    row = Row.objects.using(store.database()).filter(pk=int(result_id)).first()
    if row is None or "." not in row.processor_class:
        return None
    if not (isinstance(row.arguments, dict) and "backend" in row.arguments):
        return None  # somebody wrote it by hand
    if find_task(row.processor_class) is None:
        registry.autodiscover()  # another process may have enqueued it
    return result_of(row)
