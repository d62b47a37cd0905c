"""The queues that this site knows: of tasks, supervisors, settings, processors and backends."""

from __future__ import annotations

from collections.abc import Iterator

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
    for backend in settings.task_backends():
        queues = backend.get("QUEUES")
        if isinstance(queues, list | tuple | set | frozenset):
            yield from (each for each in queues if isinstance(each, str))
