"""Knows which functions are tasks, and which have options: Django keeps no list of its tasks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakValueDictionary

from django.apps import apps

from partisan_async.django_tasks.compat import Task
from partisan_async.django_tasks.finding import find_task

MODULE_NAME = "tasks"
"""Name of the modules that have Django's own tasks, by its convention."""

_functions: WeakValueDictionary[str, Callable[..., Any]] = WeakValueDictionary()
"""By the dotted names that their tasks have; one that is gone has no options any more."""


def name_of(function: Callable[..., Any]) -> str:
    """Return the dotted name that the task of a function has."""
    return f"{function.__module__}.{function.__qualname__}"


def keep(function: Callable[..., Any]) -> None:
    """Remember that a function has options."""
    _functions[name_of(function)] = function


def with_options() -> list[Task[Any, Any]]:
    """Return the tasks of the functions with options, by name."""
    return [task for name in sorted(_functions) if (task := find_task(name)) is not None]


def known() -> list[Task[Any, Any]]:
    """Return those, and all tasks in the apps' modules that are imported, by name."""
    found = {task.module_path: task for task in with_options()}
    of_apps = tuple(f"{config.name}." for config in apps.get_app_configs())
    for name, module in list(sys.modules.items()):
        values = getattr(module, "__dict__", {}) if name.startswith(of_apps) else {}
        for value in list(values.values()):
            # Also what it imports; what using() returns has the name of another.
            if isinstance(value, Task) and find_task(value.module_path) is value:
                found[value.module_path] = value
    return [found[name] for name in sorted(found)]


def strays() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the functions with options that are no task, by the names of these tasks."""
    for name, function in sorted(_functions.items()):
        if function.__module__ in sys.modules and find_task(name) is None:
            yield name, function
