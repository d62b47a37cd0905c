"""Lets the registry find Django's own tasks, too; ``apps.py`` hands it to the registry."""

from __future__ import annotations

from partisan_async.django_tasks import functions, options
from partisan_async.django_tasks.processors import processor_of, processors_with_options
from partisan_async.registry import Bridge
from partisan_async.tasks_backend import is_configured

MODULE_NAME = "tasks"
"""Name of the modules that have Django's own tasks, by its convention."""


def _module_names() -> list[str]:
    return [MODULE_NAME] if is_configured() else []


def _strays() -> list[str]:
    if not is_configured():
        return []
    return [name for name, function in functions.strays() if options.has_schedules(function)]


BRIDGE = Bridge(processor_of, _module_names, processors_with_options, _strays)
