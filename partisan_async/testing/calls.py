"""Takes the target of a test function: a processor class, or one of Django's own tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from partisan_async import naming
from partisan_async.claim import Call
from partisan_async.enqueue import calls
from partisan_async.processor import BaseTaskProcessor

if TYPE_CHECKING:
    from django.tasks.base import Task as DjangoTask

    Target = type[BaseTaskProcessor] | DjangoTask[Any, Any]


def name_of(target: Target) -> str:
    """Return the name that new rows of a target have.

    :raises TypeError: it is neither a processor class nor a task of Django's.
    """
    if isinstance(target, type) and issubclass(target, BaseTaskProcessor):
        return naming.name_of(target)
    if hasattr(target, "module_path"):
        return str(target.module_path)
    raise TypeError(
        f"{target!r} is neither a processor class nor a task of Django's; pass the class itself,"
        " and its arguments by args= and kwargs=."
    )


def call_of(target: Target, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
    """Return the call of a target; errors as for ``delay``."""
    name_of(target)
    if isinstance(target, type):
        return calls.call_of(target(*args, **kwargs), 0, None)
    from partisan_async.django_tasks.calls import call_of as call_of_djangos

    return call_of_djangos(target, args, kwargs)
