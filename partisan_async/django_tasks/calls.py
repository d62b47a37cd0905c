"""Makes rows of calls of Django's own tasks.

A row names the task by its dotted name, which no processor of ours can have, and ``arguments`` has
two keys more: ``backend``, the alias that it was enqueued by, and ``run_after`` where one was
given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from partisan_async.claim import Call
from partisan_async.django_tasks.compat import InvalidTask, Task, normalize_json
from partisan_async.django_tasks.fits import refuse_misfit
from partisan_async.django_tasks.results import row_priority
from partisan_async.enqueue import arguments
from partisan_async.enqueue.on_error import call_without_id
from partisan_async.enqueue.turn import checked_time


def call_of(task: Task[Any, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
    """Return the call of a task.

    :raises TypeError, ValueError: the function does not take the arguments, or they are not JSON,
        or cannot be stored.
    :raises InvalidTask: its time is out of reach.
    """
    try:
        execute_after = checked_time("run_after", task.run_after)
    except ValueError as error:
        raise InvalidTask(str(error)) from None
    context = 1 if task.takes_context else 0
    refuse_misfit(task.func, args, kwargs, f"Task {task.module_path}", given=context)
    more = {"backend": task.backend}
    if task.run_after is not None:
        more["run_after"] = task.run_after.isoformat()
    encoded = arguments.encode(tuple(_json(args)), _json(kwargs), **more)
    arguments.require_size(encoded, task.queue_name)
    return Call(
        queue_name=task.queue_name,
        processor_class=task.module_path,
        arguments=encoded,
        priority=row_priority(task.priority),
        execute_after=execute_after,
        digest=None,
    )


def call_on_error(task: Task[Any, Any]) -> Call:
    """Return the call of a task as an ``ON_ERROR``, without the id.

    :raises ValueError: its queue's name or its priority cannot be.
    """
    encoded = arguments.encode((), {}, backend=task.backend)
    priority = row_priority(task.priority)
    return call_without_id(task.module_path, task.queue_name, priority, encoded)


def _json(value: Any) -> Any:
    try:
        return normalize_json(value)
    except RecursionError:
        raise ValueError(arguments.TOO_DEEP) from None
