"""The backend for Django's own task API: ``django.tasks``, or its backport on Django 5.2.

It may be imported before the apps are loaded, as tasks may be in ``models.py``: so nothing here
imports a model when it is itself imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, TypeVar

from django.apps import apps
from django.core import checks

from partisan_async import settings
from partisan_async.config.processor_configs import ErrorsHandleConfig, PostponeConfig

if TYPE_CHECKING:
    from django.tasks import task_backends
    from django.tasks.backends.base import BaseTaskBackend
    from django.tasks.base import Task, TaskContext, TaskError, TaskResult, TaskResultStatus
    from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist
    from django.tasks.signals import task_enqueued, task_finished, task_started
    from django.utils.json import normalize_json
else:
    try:
        from django.tasks import task_backends
        from django.tasks.backends.base import BaseTaskBackend
        from django.tasks.base import Task, TaskContext, TaskError, TaskResult, TaskResultStatus
        from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist
        from django.tasks.signals import task_enqueued, task_finished, task_started
        from django.utils.json import normalize_json
    except ImportError:
        from django_tasks import task_backends
        from django_tasks.backends.base import BaseTaskBackend
        from django_tasks.base import Task, TaskContext, TaskError, TaskResult, TaskResultStatus
        from django_tasks.exceptions import TaskResultDoesNotExist
        from django_tasks.signals import task_enqueued, task_finished, task_started
        from django_tasks.utils import normalize_json

        try:
            from django_tasks.exceptions import InvalidTask
        except ImportError:  # up to 0.12
            from django_tasks.exceptions import InvalidTaskError as InvalidTask

__all__ = [
    "InvalidTask",
    "PartisanBackend",
    "Task",
    "TaskContext",
    "TaskError",
    "TaskResult",
    "TaskResultStatus",
    "find_task",
    "is_configured",
    "normalize_json",
    "options",
    "task_finished",
    "task_started",
]

F = TypeVar("F", bound=Callable[..., Any])

ATTRIBUTE = "_partisan_options"
"""Where a task's function carries its options."""

NAME_LENGTH = 255


class PartisanBackend(BaseTaskBackend):
    """Enqueues Django's tasks as rows, in the caller's transaction, for ``start_partisan``."""

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def validate_task(self, task: Task[Any, Any]) -> None:
        """Refuse what could not be run.

        :raises InvalidTask: as Django's backends do, or its dotted name, or its queue's, does not
            fit in a row.
        """
        super().validate_task(task)
        if len(task.module_path) > NAME_LENGTH:
            raise InvalidTask(
                f"The task's dotted name is longer than {NAME_LENGTH} characters:"
                f" {task.module_path!r}."
            )
        if wrong := settings.queue_name(task.queue_name):
            raise InvalidTask(f"queue_name={task.queue_name!r} {wrong}.")

    def enqueue(self, task: Task[Any, Any], args: Any, kwargs: Any) -> TaskResult[Any, Any]:
        """Insert a task's row, in the caller's transaction; wake supervisors afterwards.

        :raises InvalidTask: no worker could find it, or run it.
        :raises TypeError, ValueError: the function does not take its arguments, or they are not
            JSON, or cannot be stored.
        """
        from partisan_async.django_tasks import django_task

        self.validate_task(task)
        if find_task(task.module_path) is None:
            raise InvalidTask(
                f"No worker could find {task.module_path!r}: its module has no task of this name."
                " Decorate the function with @task, and do not rename the result."
            )
        result = django_task.enqueue(task, args, kwargs)
        task_enqueued.send(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> TaskResult[Any, Any]:
        """Return what is known of a task.

        :raises TaskResultDoesNotExist: no row has this id, or it is not one of Django's tasks.
        """
        from partisan_async.django_tasks import django_task

        result = django_task.find(result_id)
        if result is None:
            raise TaskResultDoesNotExist(result_id)
        return result

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        """Say what is wrong with this backend's settings."""
        messages = list(super().check(**kwargs))
        if not apps.is_installed("partisan_async"):
            messages.append(
                checks.Error(
                    f"TASKS[{self.alias!r}] names PartisanBackend, and partisan_async is not"
                    " installed.",
                    hint="Add 'partisan_async' to INSTALLED_APPS.",
                    id="partisan_async.E008",
                )
            )
        if self.options:
            messages.append(
                checks.Error(
                    f"TASKS[{self.alias!r}]['OPTIONS'] has {', '.join(map(repr, self.options))};"
                    " PartisanBackend has no options.",
                    hint="What a queue runs with stands in PARTISAN_CONFIG.",
                    id="partisan_async.E008",
                )
            )
        return messages


def options(
    *,
    retry_on_error: ErrorsHandleConfig | None = None,
    postpone: PostponeConfig | None = None,
    timeout_seconds: float | None = None,
    atomic: bool = False,
) -> Callable[[F], F]:
    """Say how a task is to be run: a decorator, below ``@task``. Other backends ignore it.

    The parameters are the ``RETRY_ON_ERROR_CONFIG``, ``POSTPONE_CONFIG``, ``TIMEOUT_SECONDS`` and
    ``ATOMIC`` of a processor.

    :raises TypeError: a value cannot be, the task is atomic and async, or it is decorated already.
    """
    for name, check, value in (
        ("retry_on_error", settings.instance_or_none(ErrorsHandleConfig), retry_on_error),
        ("postpone", settings.instance_or_none(PostponeConfig), postpone),
        ("timeout_seconds", settings.time_limit, timeout_seconds),
        ("atomic", settings.flag, atomic),
    ):
        if wrong := check(value):
            raise TypeError(f"@options({name}={value!r}): it {wrong}.")

    def decorate(function: F) -> F:
        attributes = {
            "RETRY_ON_ERROR_CONFIG": retry_on_error,
            "POSTPONE_CONFIG": postpone,
            "TIMEOUT_SECONDS": timeout_seconds,
            "ATOMIC": atomic,
        }
        if isinstance(function, Task):
            raise TypeError("@options(…) belongs below @task, next to the function.")
        if atomic and iscoroutinefunction(function):
            raise TypeError(
                f"@options(atomic=True) needs a plain `def {function.__name__}(…)`: Django has no"
                " transactions in async code."
            )
        setattr(function, ATTRIBUTE, attributes)
        return function

    return decorate


def is_configured() -> bool:
    """Tell whether TASKS names this backend."""
    try:
        aliases = list(task_backends)
    except Exception:  # noqa: BLE001  TASKS is no dict of backends, which Django's check tells
        return False
    return any(map(_is_ours, aliases))


def find_task(name: str) -> Task[Any, Any] | None:
    """Return the task of this dotted name, if its module is imported.

    The name may come from a row: so nothing is imported, and no code runs, to look for it.
    """
    module, _, attribute = name.rpartition(".")
    # Not getattr(): a module may have a __getattr__ of its own.
    found = getattr(sys.modules.get(module), "__dict__", {}).get(attribute)
    return found if isinstance(found, Task) else None


def _is_ours(alias: str) -> bool:
    try:
        return isinstance(task_backends[alias], PartisanBackend)
    except Exception:  # noqa: BLE001  another one's mistake must not keep this one's tasks waiting
        return False
