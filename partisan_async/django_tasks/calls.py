"""Makes the calls of Django's own tasks.

A row has the task's dotted name, which no processor of ours can have. Its ``arguments`` have two
more keys: ``backend``, the alias of the backend that enqueued it, and ``run_after`` if one was
given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from partisan_async.claim import Call
from partisan_async.django_tasks import options
from partisan_async.django_tasks.chosen import as_json, chosen
from partisan_async.django_tasks.compat import InvalidTask, Task
from partisan_async.django_tasks.finding import find_task
from partisan_async.django_tasks.fits import refuse_wrong_call
from partisan_async.django_tasks.results import row_priority
from partisan_async.enqueue import arguments, keys, limits, subjects
from partisan_async.enqueue.on_error import call_without_id
from partisan_async.enqueue.turn import checked_time
from partisan_async.unique import Unique


def call_of(task: Task[Any, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
    """Return the call of a task.

    :raises TypeError, ValueError: the function does not take the arguments, or they are not JSON,
        or cannot be stored.
    :raises InvalidTask: its ``run_after`` is naive though USE_TZ is on, or is out of range.
    """
    call = _unidentified(task, args, kwargs)
    call = call._replace(subject=subject_of(task, args, kwargs))
    return _identified(_limited(call, task, args, kwargs), task, args, kwargs)


def subject_of(task: Task[Any, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """Return whose a call is, as the task's options say; ``None``: nobody's.

    :raises TypeError, ValueError: they cannot say it.
    """
    by = options.of_function(task.func).get(options.SUBJECT)
    if by is None:
        return None
    values = chosen(task, args, kwargs, options.names_asked_by(by))
    return subjects.asked(f"@options(subject=…) of {task.module_path}", lambda: by(**values))


def limit_key_of(
    task: Task[Any, Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> str | None:
    """Return the key of a call under the task's limit, as its options say; ``None``: it has none.

    :raises TypeError, ValueError: they cannot say it.
    """
    by = options.of_function(task.func).get(options.LIMIT_KEY)
    if by is None:
        return None
    values = chosen(task, args, kwargs, options.names_asked_by(by))
    return limits.asked(f"@options(limit_key=…) of {task.module_path}", lambda: by(**values))


def _unidentified(task: Task[Any, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
    """Return the call, without its key and its subject; errors as for ``call_of``."""
    try:
        execute_after = checked_time("run_after", task.run_after)
    except ValueError as error:
        raise InvalidTask(str(error)) from None
    refuse_wrong_call(task, args, kwargs)
    more = {"backend": task.backend}
    if task.run_after is not None:
        more["run_after"] = task.run_after.isoformat()
    encoded = arguments.encode(tuple(as_json(args)), as_json(kwargs), **more)
    arguments.require_size(encoded, task.queue_name)
    return Call(
        queue_name=task.queue_name,
        processor_class=task.module_path,
        arguments=encoded,
        priority=row_priority(task.priority),
        execute_after=execute_after,
        digest=None,
    )


def _limited(
    call: Call, task: Task[Any, Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Call:
    limit = options.of_function(task.func).get("LIMIT")
    if limit is None:
        return call
    name, declared = task.module_path, find_task(task.module_path)
    if declared is not None:
        way = f"declare it by @task({task.queue_name!r})"
        queues = task.queue_name, declared.queue_name
        limits.refuse_other_queue(limit, *queues, f"The limit of {name}", way)
    return limits.limited(call, limit, name, limit_key_of(task, args, kwargs))


def _identified(
    call: Call, task: Task[Any, Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Call:
    rule = options.of_function(task.func).get("UNIQUE")
    if rule is None:
        return call
    return keys.keyed(call, rule, _key(task, rule, args, kwargs, call.subject))


def _key(
    task: Task[Any, Any],
    rule: Unique,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    subject: str | None,
) -> bytes:
    """Return what the calls share that are the same: neither their time nor their backend count."""
    if rule.by is None:
        encoded = arguments.encode(tuple(as_json(args)), as_json(kwargs))
        return arguments.digest(task.module_path, encoded, subject)
    return keys.key_of_values(task.module_path, chosen(task, args, kwargs, rule.by), subject)


def call_by_schedule(
    task: Task[Any, Any], encoded: str, queue_name: str, subject: str | None
) -> Call:
    """Return the call of a task that a schedule enqueues.

    Without ``unique`` two calls of users are two tasks; but of a schedule's ticks one waits at
    most.

    :param encoded, subject: as a schedule's row stores them.
    :raises TypeError, ValueError: as for ``call_of``.
    """
    stored = json.loads(encoded)
    args, kwargs = stored["args"], stored["kwargs"]
    call = _unidentified(task, args, kwargs)._replace(queue_name=queue_name, subject=subject)
    call = _identified(call, task, args, kwargs)
    if call.key:
        return call
    return call._replace(digest=_key(task, Unique(), args, kwargs, subject))


def call_on_error(task: Task[Any, Any]) -> Call:
    """Return the call of a task as an ``ON_ERROR``, without the id.

    :raises ValueError: its queue's name or its priority cannot be.
    """
    encoded = arguments.encode((), {}, backend=task.backend)
    priority = row_priority(task.priority)
    return call_without_id(task.module_path, task.queue_name, priority, encoded)
