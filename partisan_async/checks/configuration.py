"""Checks of the Django settings: of queues, and of the backend for Django's own tasks."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, register

from partisan_async import settings

BACKEND = "partisan_async.tasks_backend.PartisanBackend"


@register("partisan_async")
def check_settings(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """E001: a setting of a queue is wrong."""
    return [
        Error(
            wrong,
            hint="Correct it in the Django settings.",
            id="partisan_async.E001",
        )
        for wrong in settings.problems()
    ]


@register("partisan_async")
def check_django_tasks(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """E009: TASKS names our backend, but this Django does not read TASKS."""
    backends = [each.get("BACKEND") for each in settings.task_backends()]
    if BACKEND not in backends or any(find_spec(name) for name in ("django.tasks", "django_tasks")):
        return []
    return [
        Error(
            f"TASKS names {BACKEND}, and this Django has no tasks of its own.",
            hint="Upgrade to Django 6.0, or install the backport: pip install django-tasks.",
            id="partisan_async.E009",
        )
    ]
