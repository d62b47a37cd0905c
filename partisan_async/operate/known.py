"""The queues that this site knows: of tasks, supervisors, settings, processors and backends."""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings as django_settings

from partisan_async import registry, settings


def queues() -> set[str]:
    """Return the queues with open tasks or supervisors, in the settings, or of a processor."""
    # Imported here: a supervisor keeps what it imports, and mostly knows its queues' names.
    from partisan_async.operate import overview

    registry.autodiscover()
    return {*(each.name for each in overview.queues(1)), *named()}


def named() -> Iterator[str]:
    """Yield the queues that settings, processors and the backends in ``TASKS`` name."""
    yield from settings.configured_queues()
    for processor in registry.processors_and_tasks():
        yield processor.QUEUE_NAME
    for backend in (getattr(django_settings, "TASKS", None) or {}).values():
        yield from backend.get("QUEUES", ())
