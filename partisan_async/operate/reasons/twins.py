"""Identical calls: another task of the same call, and calls that are ignored for this task."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import Q
from django.utils.translation import gettext

from partisan_async import registry, store
from partisan_async.enqueue import arguments
from partisan_async.enqueue.keys import keys_of
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.models import WAITING, Status, Task


def twin(task: Task) -> Iterator[str]:
    """Name the identical call that waits, or runs if that counts; say if new ones are ignored."""
    key = task.digest or task.unique_key or _key(task)
    if key is None:
        return
    is_twin = Q(digest=key, status__in=WAITING) | Q(unique_key=key, finished_at__isnull=True)
    rows = Task.objects.using(store.database()).filter(is_twin)
    for pk, status in rows.exclude(pk=task.pk).values_list("pk", "status"):
        told = {"task": pk}
        if status in WAITING:
            yield gettext("An identical call waits: %(task)s.") % told
        else:
            yield gettext("An identical call runs: %(task)s.") % told
    if task.unique_key and task.finished_at is None:
        yield gettext(
            "Identical calls that are made until it has ended are not added: it stands for them."
        )
    elif task.status in WAITING and task.digest:
        yield gettext(
            "Identical calls that are made while it waits are not added: it stands for them."
        )


def _key(task: Task) -> bytes | None:
    """Return the key of a task that gave it up for a twin or a retry, or as it failed."""
    try:
        processor = registry.get(task.processor_class)
        rule = processor.UNIQUE
        if not (processor.UNIQUE_FOR_PARAMS or rule):
            return None
        failed = task.status == Status.ERROR and rule is not None and rule.while_running
        if task.status not in WAITING and not failed:
            return None
        encoded = arguments.encode(tuple(task.args), task.kwargs)
        (key,) = keys_of(task.processor_class, [encoded], [task.subject])
    except (ProcessorClassNotFound, TypeError, ValueError):
        return None
    return key
