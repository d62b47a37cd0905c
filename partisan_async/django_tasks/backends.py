"""Tells which of the backends in ``TASKS`` are ours, without an import of them."""

from __future__ import annotations

from partisan_async.django_tasks.compat import task_backends

BACKEND = "partisan_async.tasks_backend.PartisanBackend"
"""Ours, by its name: its module imports others that ask here."""


def is_configured() -> bool:
    """Tell whether TASKS names our backend."""
    try:
        aliases = list(task_backends)
    except Exception:  # noqa: BLE001  TASKS is no dict of backends, which Django's check tells
        return False
    return any(map(is_ours, aliases))


def is_ours(alias: str) -> bool:
    """Tell whether TASKS names our backend by this alias."""
    try:
        bases = type(task_backends[alias]).__mro__
    except Exception:  # noqa: BLE001  another one's mistake must not keep this one's tasks waiting
        return False
    return BACKEND in (f"{each.__module__}.{each.__qualname__}" for each in bases)
