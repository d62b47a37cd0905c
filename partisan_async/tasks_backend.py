"""The backend for Django's own task API: ``django.tasks``, or its backport on Django 5.2.

A project may import it before the apps are loaded, from a ``models.py`` with tasks. So this module
imports no model at its own import.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core import checks

from partisan_async import validation
from partisan_async.django_tasks.compat import (
    BaseTaskBackend,
    InvalidTask,
    Task,
    TaskResult,
    TaskResultDoesNotExist,
    task_enqueued,
)
from partisan_async.django_tasks.finding import find_task
from partisan_async.django_tasks.options import options

__all__ = ["PartisanBackend", "options"]

NAME_LENGTH = 255


class PartisanBackend(BaseTaskBackend):
    """Enqueues Django's tasks as rows, in the caller's transaction, for ``start_partisan``."""

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def validate_task(self, task: Task[Any, Any]) -> None:
        """Refuse a task that could not be run.

        :raises InvalidTask: as Django's backends do; or the task's dotted name, or its queue's
            name, does not fit in a row.
        """
        super().validate_task(task)
        if len(task.module_path) > NAME_LENGTH:
            raise InvalidTask(
                f"The task's dotted name is longer than {NAME_LENGTH} characters:"
                f" {task.module_path!r}."
            )
        if wrong := validation.check_queue_name(task.queue_name):
            raise InvalidTask(f"queue_name={task.queue_name!r} {wrong}.")

    def enqueue(self, task: Task[Any, Any], args: Any, kwargs: Any) -> TaskResult[Any, Any]:
        """Insert a task's row, in the caller's transaction; wake supervisors afterwards.

        :raises InvalidTask: no worker could find or run the task.
        :raises TypeError, ValueError: the function does not take these arguments, or they are not
            JSON, or cannot be stored.
        """
        from partisan_async.django_tasks import rows

        self.validate_task(task)
        if find_task(task.module_path) is None:
            raise InvalidTask(
                f"No worker could find {task.module_path!r}: its module has no task of this name."
                " Decorate the function with @task, and do not rename the result."
            )
        result = rows.enqueue(task, args, kwargs)
        task_enqueued.send(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> TaskResult[Any, Any]:
        """Return the result of a task, as far as there is one yet.

        :raises TaskResultDoesNotExist: no row has this id, or the row is not a Django task's.
        """
        from partisan_async.django_tasks import rows

        result = rows.find(result_id)
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
