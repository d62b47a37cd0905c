"""Runs a task again that failed for its arguments, with others."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from django.db import IntegrityError, connections

from partisan_async import registry, store
from partisan_async.claim import Call
from partisan_async.enqueue import limits
from partisan_async.enqueue.corrected import check_arguments, check_call
from partisan_async.enqueue.keys import identified
from partisan_async.enqueue.run import fetch
from partisan_async.enqueue.subjects import of_stored
from partisan_async.enqueue.taking import key_of, taken_by
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.models import WAITING, Task
from partisan_async.steering import audit
from partisan_async.steering.rows import change

Given = Mapping[str, Any] | str
"""A call: ``{"args": […], "kwargs": {…}}``, or the JSON of that."""

_LIMIT = ("limit_name", "limit_key", "limit_rank")
_READ = ("id", "processor_class", "queue_name", "priority", "status", "subject", *_LIMIT)


def retry_with(pk: int, given: Given) -> None:
    """Run a task again that ended in error, all counts at zero, with these arguments.

    What is beside ``args`` and ``kwargs`` on its row, such as the moment of its tick, stays. So
    does its subject, where the processor has no ``task_subject()`` that says it anew. Its limit is
    the one that its processor has now, and its key there is asked for anew.

    :raises TypeError, ValueError: ``delay()`` would refuse them, the task is not in error or not
        there, somebody has locked it, or an identical call waits.
    """
    rows = Task.objects.using(store.database())
    task = rows.only(*_READ).filter(pk=pk).first()
    _require_failed(pk, task)
    assert task is not None
    other = _other(task, given)
    taken = taken_by(connections[store.database()])
    taken.count += bool(other.key)
    way = partial(
        store.again_with,
        encoded=other.arguments,
        digest=other.digest,
        unique_key=other.unique_key,
        subject=other.subject,
        limit=(other.limit_name, other.limit_key, other.limit_rank),
        key=key_of(other.key) if other.key else None,
    )
    try:
        done = change(way, [pk], Task.STATUS_NEW, taken)
    except IntegrityError:
        _refuse_twin(other)
        raise
    if not done:
        _require_failed(pk, rows.filter(pk=pk).first())
        raise ValueError(_told_locked(pk))
    audit.put_down("retry", [f"{pk} with other arguments"], task_ids=done)


def _other(task: Task, given: Given) -> Call:
    """Return the call that the task becomes."""
    processor, name = None, registry.discovered_names(task.processor_class)[0]
    with suppress(ProcessorClassNotFound):
        processor = registry.get(name)
    if isinstance(given, str):
        encoded = check_arguments(processor, given, task.queue_name)
    else:
        encoded = check_call(processor, given, task.queue_name)
    call = Call(task.queue_name, name, encoded, task.priority, None, None, subject=task.subject)
    if processor is None:
        return call._replace(**{column: getattr(task, column) for column in _LIMIT})
    call = call._replace(subject=of_stored(processor, encoded, task.subject))
    call = limits.with_limit(call, processor, limits.of_stored(processor, encoded))
    return identified(call, processor, registry.lasting_name(name))


def _require_failed(pk: int, task: Task | None) -> None:
    if task is None:
        raise ValueError(f"There is no task {pk}: its row was deleted, or there never was one.")
    match task.status:
        case Task.STATUS_ERROR:
            return
        case Task.STATUS_FINISHED:
            way_out = "enqueue the call anew."
        case Task.STATUS_IN_PROCESS:
            way_out = "wait for its end, or cancel it first."
        case _:
            way_out = "cancel it first."
    raise ValueError(
        f"Task {pk} is {task.get_status_display().lower()}, and only one that is in error can be"
        f" given other arguments: {way_out}"
    )


def _refuse_twin(other: Call) -> None:
    rows = Task.objects.using(store.database())
    if other.digest is not None:
        twins = rows.filter(digest=other.digest, status__in=WAITING)
    elif other.unique_key is not None:
        twins = rows.filter(unique_key=other.unique_key, finished_at__isnull=True)
    else:
        return
    for pk, status in twins.values_list("pk", "status"):
        does = "waits" if status in WAITING else "runs"
        raise ValueError(
            f"An identical call {does} already: {pk}. Nothing was done; delete this task if that"
            " one stands for it."
        )


def _told_locked(pk: int) -> str:
    if fetch(*store.locked([pk], [Task.STATUS_ERROR])):
        return f"Task {pk} is locked by another transaction, and is left as it is. Try again later."
    return (
        f"Another transaction enqueues the call that task {pk} would become, and has not ended."
        " Try again later."
    )
