"""The signals by which an application hears about its tasks.

The sender is the processor's class; ``task`` is the row as it was claimed. If a receiver raises,
that is logged and changes nothing. ``task_enqueued`` is sent where ``delay()`` is called, in the
caller's transaction. The supervisor sends ``task_lost`` and what follows from a loss, in a thread.
The worker sends all others before the row is written: after a crash a task runs again, and its
signals are sent again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from django.dispatch import Signal

from partisan_async import logs, registry, store
from partisan_async.exceptions import ProcessorClassNotFound, TaskCancelled
from partisan_async.models import Task
from partisan_async.policy import (
    Cancelled,
    Decision,
    Failed,
    Finished,
    Postponed,
    Retried,
    Suspected,
)

task_enqueued = Signal()
"""``task``: the new row. Not sent for a call that another task stands for, see ``is_twin``."""

task_started = Signal()
"""``task``: a run of it begins."""

task_finished = Signal()
"""``task``: it has finished. ``result`` is JSON text where the result is kept, else ``None``."""

task_failed = Signal()
"""``task``, ``failure``: it ends in ``error``. Sent in the exception's context, if there is one."""

task_retried = Signal()
"""``task``, ``failure``, ``pause_seconds``: it failed and runs again. Sent in the exception's
context."""

task_postponed = Signal()
"""``task``, ``pause_seconds``, ``failure``: it asked to run again. The failure tells why; it is
``None`` if the task gave no reason."""

task_cancelled = Signal()
"""``task``, ``by``, ``reason``: somebody ended it by hand. Sent in the process where they did so,
in the caller's transaction; the sender is ``None`` if that process does not know the processor. The
row of one that was erased is gone, and ``task`` is as it was.
Where it ended itself by ``CancelTask``, the worker sends it, and ``by`` is ``"itself"``."""

task_lost = Signal()
"""``task``, ``failure``: its worker process died. It runs again, unless ``task_failed`` follows.
The failure is ``None`` if other tasks ran beside it, and nobody knows which one was to blame."""

worker_started = Signal()
"""A worker process is set up, and runs its first task next. Sent there; the sender is ``None``."""

worker_stopping = Signal()
"""A worker process ends in order. Sent there; the sender is ``None``. One that is killed sends
nothing."""


def is_anybody_there() -> bool:
    """Tell whether any signal of a run has a receiver: only then is the row made for it."""
    return bool(
        task_started.receivers
        or task_finished.receivers
        or task_failed.receivers
        or task_retried.receivers
        or task_postponed.receivers
        or task_lost.receivers
    )


def tell_of_enqueued(sender: type, tasks: Sequence[Task]) -> None:
    """Send that calls were enqueued, except calls that share the row of one that waited."""
    if task_enqueued.receivers:
        # Identical calls share a row.
        for task in {task.pk: task for task in tasks if not task.is_twin}.values():
            tell(task_enqueued, "task_enqueued", sender, task=task)


def send_decision(sender: type, task: Task, decision: Decision) -> None:
    """Send what becomes of a task after a run."""
    match decision:
        case Finished(result):
            tell(task_finished, "task_finished", sender, task=task, result=result)
        case Retried(pause, failure):
            seconds = pause.total_seconds()
            more = {"failure": failure, "pause_seconds": seconds}
            tell(task_retried, "task_retried", sender, task=task, **more)
        case Postponed(pause, failure):
            more = {"failure": failure, "pause_seconds": pause.total_seconds()}
            tell(task_postponed, "task_postponed", sender, task=task, **more)
        case Suspected(failure):
            tell(task_lost, "task_lost", sender, task=task, failure=failure)
        case Failed(failure, lost):
            if lost:
                tell(task_lost, "task_lost", sender, task=task, failure=failure)
            tell(task_failed, "task_failed", sender, task=task, failure=failure)
        case Cancelled(_, reason):
            more = {"by": TaskCancelled.ITSELF, "reason": reason}
            tell(task_cancelled, "task_cancelled", sender, task=task, **more)


def tell_of_cancelled(ids: Sequence[int], by: str, reason: str) -> None:
    """Send that tasks were cancelled; reads their rows only if there is a receiver."""
    if not (ids and task_cancelled.receivers):
        return
    for task in Task.objects.using(store.database()).filter(pk__in=ids).order_by("pk"):
        send_cancelled(task, by, reason)


def send_cancelled(task: Task, by: str, reason: str) -> None:
    """Send that a task was cancelled."""
    sender = None
    with suppress(ProcessorClassNotFound):
        sender = registry.get(task.processor_class)
    tell(task_cancelled, "task_cancelled", sender, task=task, by=by, reason=reason)


def tell(signal: Signal, name: str, sender: type | None, **values: Any) -> None:
    """Send a signal to all of its receivers, and log what any of them raises.

    :param name: the signal's.
    """
    for receiver, answer in signal.send_robust(sender, **values):
        if isinstance(answer, Exception):
            logs.callbacks.receiver_failed(name, receiver, answer, _whose(values))


def _whose(values: Mapping[str, Any]) -> tuple[Any, str, str] | None:
    if task := values.get("task"):
        return task.pk, task.processor_class, task.queue_name
    if result := values.get("task_result"):  # of Django's own signals
        return result.id, result.task.module_path, result.task.queue_name
    return None
