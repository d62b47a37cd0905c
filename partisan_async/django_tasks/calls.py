"""Makes the calls of Django's own tasks.

A row has the task's dotted name, which no processor of ours can have. Its ``arguments`` have two
more keys: ``backend``, the alias of the backend that enqueued it, and ``run_after`` if one was
given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from partisan_async.claim import Call
from partisan_async.django_tasks.compat import InvalidTask, Task, normalize_json
from partisan_async.django_tasks.fits import refuse_wrong_call
from partisan_async.django_tasks.results import row_priority
from partisan_async.enqueue import arguments
from partisan_async.enqueue.turn import checked_time


def call_of(task: Task[Any, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
    """Return the call of a task.

    :raises TypeError, ValueError: the function does not take the arguments, or they are not JSON,
        or cannot be stored.
    :raises InvalidTask: its ``run_after`` is naive though USE_TZ is on, or is out of range.
    """
    try:
        execute_after = checked_time("run_after", task.run_after)
    except ValueError as error:
        raise InvalidTask(str(error)) from None
    refuse_wrong_call(task, args, kwargs)
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


def _json(value: Any) -> Any:
    try:
        return normalize_json(value)
    except RecursionError:
        raise ValueError(arguments.TOO_DEEP) from None
