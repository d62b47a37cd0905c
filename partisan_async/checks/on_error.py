"""Checks of ``ON_ERROR``: that what it names can be enqueued, and run with the id of a task."""

from __future__ import annotations

from django.core.checks import CheckMessage, Error

from partisan_async import registry
from partisan_async.declared import on_error_of
from partisan_async.enqueue.on_error import wrong_call
from partisan_async.processor import BaseTaskProcessor


def check_on_error(processor: type[BaseTaskProcessor]) -> list[CheckMessage]:
    """Return what is wrong with a processor's ``ON_ERROR``, whose value is a class."""
    on_error = processor.ON_ERROR
    if on_error is None or on_error is processor:
        return []
    told = f"{processor.__name__}.ON_ERROR is {on_error.__name__}"
    if on_error not in registry.processors():
        wrong = f"{told}, which is not registered: no worker would know it."
        hint = f"Put @registry.register above {on_error.__name__}, in a partisan_tasks.py."
        return [Error(wrong, hint=hint, obj=processor, id="partisan_async.E027")]
    errors: list[CheckMessage] = []
    if why := wrong_call(on_error, BaseTaskProcessor):
        wrong = f"{told}, which cannot be called with the id of a task alone: {why}"
        hint = f"Let {on_error.__name__} take it: def run(self, task_id: int)."
        errors.append(Error(wrong, hint=hint, obj=processor, id="partisan_async.E028"))
    if on_error_of(processor) is None:
        wrong = f"{told}, whose own ON_ERROR leads back to {processor.__name__}."
        hint = "None of such a circle is enqueued. Let it end: ON_ERROR = None in one of them."
        errors.append(Error(wrong, hint=hint, obj=processor, id="partisan_async.E029"))
    return errors
