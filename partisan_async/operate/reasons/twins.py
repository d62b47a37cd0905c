"""Identical calls: another task of the same call, and calls that are ignored for this task."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.translation import gettext

from partisan_async import registry, store
from partisan_async.enqueue import arguments
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.models import WAITING, Task


def twin(task: Task) -> Iterator[str]:
    """Name the identical call that waits, and say whether new ones are ignored."""
    digest = task.digest or _digest(task)
    if digest is None:
        return
    rows = Task.objects.using(store.database()).filter(digest=digest, status__in=WAITING)
    for pk in rows.exclude(pk=task.pk).values_list("pk", flat=True):
        yield gettext("An identical call waits: %(task)s.") % {"task": pk}
    if task.status in WAITING and task.digest:
        yield gettext(
            "Identical calls that are made while it waits are not added: it stands for them."
        )


def _digest(task: Task) -> bytes | None:
    """Return the digest of a task that gave it up for a twin or a retry."""
    try:
        processor = registry.get(task.processor_class)
        if not processor.UNIQUE_FOR_PARAMS or task.status not in WAITING:
            return None
        encoded = arguments.encode(tuple(task.args), task.kwargs)
    except (ProcessorClassNotFound, TypeError, ValueError):
        return None
    return arguments.digest(registry.lasting_name(task.processor_class), encoded)
