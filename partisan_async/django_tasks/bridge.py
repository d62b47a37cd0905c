"""Lets the registry find Django's own tasks, too; ``apps.py`` hands it to the registry."""

from __future__ import annotations

from partisan_async.django_tasks import functions, options
from partisan_async.django_tasks.backends import is_configured
from partisan_async.django_tasks.processors import processor_of, processors_of
from partisan_async.processor import BaseTaskProcessor
from partisan_async.registry import Bridge


def _module_names() -> list[str]:
    return [functions.MODULE_NAME] if is_configured() else []


def _with_options() -> list[type[BaseTaskProcessor]]:
    return processors_of(functions.with_options())


def _known() -> list[type[BaseTaskProcessor]]:
    return processors_of(functions.known())


def _strays() -> list[str]:
    if not is_configured():
        return []
    return [name for name, function in functions.strays() if options.has_schedules(function)]


BRIDGE = Bridge(processor_of, _module_names, _with_options, _known, _strays)
