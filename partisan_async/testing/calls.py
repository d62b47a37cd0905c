"""What a test may name a task by: a processor class of ours, or one of Django's own tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from partisan_async.claim import Call
from partisan_async.processor import BaseTaskProcessor

if TYPE_CHECKING:
    from django.tasks.base import Task as DjangoTask

    Target = type[BaseTaskProcessor] | DjangoTask[Any, Any]


def name_of(target: Target) -> str:
    """Return the name that rows have of it.

    :raises TypeError: it is neither.
    """
    if isinstance(target, type) and issubclass(target, BaseTaskProcessor):
        return target.__name__
    if hasattr(target, "module_path"):
        return str(target.module_path)
    raise TypeError(
        f"{target!r} is neither a processor class nor a task of Django's; pass the class itself,"
        " and its arguments by args= and kwargs=."
    )


def call_of(target: Target, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
    """Return the call that enqueues it; errors as for ``delay``."""
    name_of(target)
    if isinstance(target, type):
        return target(*args, **kwargs)._call(0, None)  # noqa: SLF001  as delay() does
    from partisan_async.django_tasks import calls

    return calls.call_of(target, args, kwargs)
