"""Reads what a schedule is to call: a processor's call, or ``enqueue`` of a task of Django's."""

from __future__ import annotations

from functools import partial
from typing import Any

from partisan_async import registry
from partisan_async.enqueue.scheduled import Called, called_with, checked_call
from partisan_async.processor import BaseTaskProcessor


def called(call: object, subject: str | None) -> tuple[type[BaseTaskProcessor], Called]:
    """Return the processor that is called, and what with.

    :param call: ``Report("acme")``; or ``report.enqueue``, or ``partial(report.enqueue, "acme")``,
        of one of Django's own tasks.
    :param subject: whose it is, as for ``delay()``.
    :raises TypeError: it is none of these, or a task that a schedule cannot enqueue as it is.
    :raises TypeError, ValueError, ProcessorClassNotFound: ``delay()`` would refuse the call.
    """
    if isinstance(call, BaseTaskProcessor):
        return type(call), checked_call(call, subject)
    args, kwargs = (call.args, call.keywords) if isinstance(call, partial) else ((), {})
    task = _task_of(call.func if isinstance(call, partial) else call)
    if task is None:
        raise _no_call(call)
    processor = registry.get(task.module_path)
    processor._refuse_other(task)  # noqa: SLF001
    return processor, called_with(processor, args, kwargs, subject)


def _task_of(enqueue: Any) -> Any:
    """Return the task whose ``enqueue`` this is; ``None``: it is something else."""
    task = getattr(enqueue, "__self__", None)
    is_enqueue = getattr(enqueue, "__name__", "") == "enqueue" and _is_task(task)
    return task if is_enqueue else None


def _is_task(found: object) -> bool:
    return not isinstance(found, type) and hasattr(found, "module_path")


def _no_call(found: Any) -> TypeError:
    example = 'schedules.create("acme", {}, "0 7 * * *")'
    if isinstance(found, type) and issubclass(found, BaseTaskProcessor):
        way = example.format(f"{found.__name__}(…)")
        return TypeError(f"{found.__name__} is a class; make a call first: {way}.")
    if _is_task(found):
        way = example.format(f"partial({found.func.__name__}.enqueue, …)")
        return TypeError(f"{found.module_path} is a task; say with what it is enqueued: {way}.")
    return TypeError(
        "A schedule enqueues the call of a processor, such as Report('acme'), or of one of Django's"
        " own tasks, such as partial(report.enqueue, 'acme'), and nothing of type"
        f" {type(found).__name__}."
    )
