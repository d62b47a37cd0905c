"""Finds a task of Django's by its dotted name, and imports nothing."""

from __future__ import annotations

import sys
from typing import Any

from partisan_async.django_tasks.compat import Task
from partisan_async.exceptions import ProcessorClassNotFound


def find_task(name: str) -> Task[Any, Any] | None:
    """Return the task of this dotted name, if its module is imported.

    The name may come from a row: so nothing is imported, and no code runs, to look for it.
    """
    module, _, attribute = name.rpartition(".")
    # Not getattr(): a module may have a __getattr__ of its own.
    found = getattr(sys.modules.get(module), "__dict__", {}).get(attribute)
    return found if isinstance(found, Task) else None


def known_task(name: str) -> Task[Any, Any]:
    """As ``find_task``.

    :raises ProcessorClassNotFound: no module that is imported has it.
    """
    task = find_task(name)
    if task is None:
        raise ProcessorClassNotFound(name)
    return task
