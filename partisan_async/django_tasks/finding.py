"""Finds a task of Django's by its dotted name, without an import."""

from __future__ import annotations

import sys
from typing import Any

from partisan_async.django_tasks.compat import Task
from partisan_async.exceptions import ProcessorClassNotFound


def find_task(name: str) -> Task[Any, Any] | None:
    """Return the task of this dotted name, if its module is imported.

    The name may come from a row, so the search imports nothing and runs no code.
    """
    module, _, attribute = name.rpartition(".")
    # Not getattr(): it would run the module's own __getattr__().
    found = getattr(sys.modules.get(module), "__dict__", {}).get(attribute)
    return found if isinstance(found, Task) else None


def known_task(name: str) -> Task[Any, Any]:
    """Return the task of this dotted name; see ``find_task``.

    :raises ProcessorClassNotFound: no imported module has it.
    """
    task = find_task(name)
    if task is None:
        raise ProcessorClassNotFound(name)
    return task
