"""Takes the target of a test function: a processor class, or one of Django's own tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from partisan_async import naming, registry
from partisan_async.claim import Call
from partisan_async.enqueue import calls, limits
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


def checked_key(target: Target, key: str | int | UUID | None) -> str | None:
    """Return a key under the limit of a target as rows have it; ``None``: that is not asked for.

    :raises TypeError: its tasks have no keys.
    :raises TypeError, ValueError: no key can be that.
    """
    if key is None:
        return None
    kind = target if isinstance(target, type) else registry.get(name_of(target))
    if kind.LIMIT is None or not limits.has_keys(kind):
        raise TypeError(
            f"limit_key={key!r}: no task of {name_of(target)} has one, since it has no"
            f" {'LIMIT' if kind.LIMIT is None else 'limit_key()'}."
        )
    return limits.checked(key, "limit_key")
