"""Knows which functions have options: Django keeps no list of its tasks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakValueDictionary

from partisan_async.django_tasks.compat import Task
from partisan_async.django_tasks.finding import find_task

_functions: WeakValueDictionary[str, Callable[..., Any]] = WeakValueDictionary()
"""By the dotted names that their tasks have; one that is gone has no options any more."""


def name_of(function: Callable[..., Any]) -> str:
    """Return the dotted name that the task of a function has."""
    return f"{function.__module__}.{function.__qualname__}"


def keep(function: Callable[..., Any]) -> None:
    """Remember that a function has options."""
    _functions[name_of(function)] = function


def tasks() -> list[Task[Any, Any]]:
    """Return the tasks of the functions with options, by name."""
    return [task for name in sorted(_functions) if (task := find_task(name)) is not None]


def strays() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the functions with options that are no task, by the names of these tasks."""
    for name, function in sorted(_functions.items()):
        if function.__module__ in sys.modules and find_task(name) is None:
            yield name, function
