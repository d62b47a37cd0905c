"""Lets the registry find Django's own tasks, too; ``apps.py`` hands it to the registry."""

from __future__ import annotations

from partisan_async.django_tasks.processors import processor_of
from partisan_async.registry import Bridge
from partisan_async.tasks_backend import is_configured

MODULE_NAME = "tasks"
"""Name of the modules that have Django's own tasks, by its convention."""


def _module_names() -> list[str]:
    return [MODULE_NAME] if is_configured() else []


BRIDGE = Bridge(processor_of, _module_names)
