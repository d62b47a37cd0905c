"""Assertions about what is enqueued."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from asgiref.sync import sync_to_async

from partisan_async import registry, store
from partisan_async.enqueue.turn import checked_time
from partisan_async.models import WAITING, Task
from partisan_async.testing.calls import checked_key, name_of
from partisan_async.testing.wanted import CallWanted

if TYPE_CHECKING:
    from partisan_async.testing.calls import Target

LISTED = 20
"""Maximum number of waiting tasks that a message shows."""

TOLERANCE = datetime.timedelta(seconds=1)


def assert_enqueued(
    target: Target,
    /,
    *,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    queue: str | None = None,
    execute_after: datetime.datetime | None = None,
    limit_key: str | int | UUID | None = None,
    **parameters: Any,
) -> Task:
    """Return the waiting task that matches; of several, the one that was enqueued first.

    A parameter that is ``None`` matches anything.

    :param target: a processor class, or one of Django's own tasks.
    :param args: exactly the values that the call passes by position.
    :param kwargs: exactly the values that the call passes by name.
    :param execute_after: matches within a second.
    :param limit_key: the key that the task has under the ``LIMIT`` of its processor.
    :param parameters: values of parameters of ``run()``, however the call passes them, also as
        defaults. For a parameter with a name from above, use ``args`` or ``kwargs``.
    :raises AssertionError: no task matches; the message lists the waiting ones.
    :raises TypeError, ValueError: no call could pass these values.
    """
    wanted = _Wanted(target, args, kwargs, queue, execute_after, limit_key, parameters)
    waiting = _waiting()
    for task in waiting:
        if wanted.fits(task):
            return task
    raise AssertionError(f"No task waits that is {wanted}. {_listed(waiting)}")


def assert_not_enqueued(
    target: Target,
    /,
    *,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    queue: str | None = None,
    execute_after: datetime.datetime | None = None,
    limit_key: str | int | UUID | None = None,
    **parameters: Any,
) -> None:
    """Raise ``AssertionError`` if ``assert_enqueued`` would return a task."""
    wanted = _Wanted(target, args, kwargs, queue, execute_after, limit_key, parameters)
    waiting = _waiting()
    if any(map(wanted.fits, waiting)):
        raise AssertionError(f"A task waits that is {wanted}. {_listed(waiting)}")


aassert_enqueued = sync_to_async(assert_enqueued)
aassert_not_enqueued = sync_to_async(assert_not_enqueued)


class _Wanted:
    def __init__(
        self,
        target: Target,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        queue: str | None,
        execute_after: datetime.datetime | None,
        limit_key: str | int | UUID | None,
        parameters: Mapping[str, Any],
    ) -> None:
        self._name = name_of(target)
        self._names = registry.names(self._name)
        self._queue = queue
        self._execute_after = checked_time("execute_after", execute_after)
        self._limit_key = checked_key(target, limit_key)
        self._call = CallWanted(target, args, kwargs, parameters)

    def __str__(self) -> str:
        facts = {"queue_name": self._queue, "limit_key": self._limit_key}
        if self._execute_after is not None:
            facts["execute_after"] = self._execute_after.isoformat()
        told = [f"{key}={value!r}" for key, value in facts.items() if value is not None]
        return ", ".join([self._name, *self._call.parts(), *told])

    def fits(self, task: Task) -> bool:
        if task.processor_class not in self._names:
            return False
        if self._execute_after and abs(task.execute_after - self._execute_after) > TOLERANCE:
            return False
        if self._queue is not None and task.queue_name != self._queue:
            return False
        if self._limit_key is not None and task.limit_key != self._limit_key:
            return False
        return self._call.fits(task)


def _waiting() -> list[Task]:
    tasks = Task.objects.using(store.database())
    return list(tasks.filter(status__in=WAITING).order_by("pk"))


def _listed(waiting: Sequence[Task]) -> str:
    if not waiting:
        return "Nothing waits."
    lines = [
        f"  {task.processor_class}, args={task.args!r}, kwargs={task.kwargs!r},"
        f" queue_name={task.queue_name!r}, execute_after={task.execute_after.isoformat()}"
        + ("" if task.limit_key is None else f", limit_key={task.limit_key!r}")
        for task in waiting[:LISTED]
    ]
    more = len(waiting) - len(lines)
    return "\n".join(["These wait:", *lines, *([f"  and {more} more"] if more else [])])
