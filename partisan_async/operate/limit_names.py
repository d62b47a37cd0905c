"""The limits that there are: of the code, of the table, of tasks; and which of them have keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from partisan_async import registry, store
from partisan_async.declared import limit_of
from partisan_async.enqueue.limits import has_keys
from partisan_async.enqueue.run import fetch
from partisan_async.models import Limit, Task
from partisan_async.operate.limit_statements import WAITED_FOR


def of_code() -> set[str]:
    """Return the names of the limits that this code has."""
    return {name for name, _ in _processors()}


def all_names() -> set[str]:
    """Return the names of all limits: a supervisor's code has it, or tasks wait for it."""
    rows = Limit.objects.using(store.database()).values_list("name", flat=True)
    return {*of_code(), *rows, *(name for (name,) in fetch(WAITED_FOR))}


def is_of_keys(name: str) -> bool:
    """Tell whether tasks under a limit may have keys, or some have."""
    if any(has_keys(processor) for own, processor in _processors() if own == name):
        return True
    alias = store.database()
    row = Limit.objects.using(alias).filter(pk=name).first()
    if row is not None and (row.in_order or row.rates_per_key or row.running_per_key is not None):
        return True
    tasks = Task.objects.using(alias).filter(limit_name=name, limit_key__isnull=False)
    return tasks.filter(status__in=store.UNENDED).exists()


def _processors() -> Iterator[tuple[str, Any]]:
    registry.autodiscover()
    for processor in registry.processors_and_tasks():
        if (named := limit_of(processor)) is not None:
            yield named[0], processor
