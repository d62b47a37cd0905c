"""Tells whether a function takes the arguments of a call, before a worker finds out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from partisan_async.django_tasks.compat import Task

_PLAIN = inspect.Parameter.POSITIONAL_OR_KEYWORD


class _Shape:
    """What a function takes; a plain one takes ``least`` to ``most`` arguments by position."""

    def __init__(self, signature: inspect.Signature) -> None:
        self.signature = signature
        parameters = signature.parameters.values()
        self.is_plain = all(each.kind is _PLAIN for each in parameters)
        self.least = sum(each.default is each.empty for each in parameters)
        self.most = len(signature.parameters)


def outer_signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return what a function takes of its callers, however it is decorated.

    :raises TypeError, ValueError: it does not tell.
    """
    # Not of what is below: a decorator may itself pass arguments to that.
    return inspect.signature(function, follow_wrapped=False)


@lru_cache(maxsize=1024)
def _shape(function: Callable[..., Any]) -> _Shape | None:
    try:
        return _Shape(outer_signature(function))
    except (TypeError, ValueError):  # a function written in C may have no signature
        return None


def refuse_wrong_call(task: Task[Any, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Do nothing if the function of a task can be called so.

    :raises TypeError: it cannot.
    """
    context = 1 if task.takes_context else 0
    refuse_misfit(task.func, args, kwargs, f"Task {task.module_path}", given=context)


def refuse_misfit(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    name: str,
    *,
    given: int = 0,
) -> None:
    """Refuse arguments that a function does not take.

    :param name: the function's name, for the message.
    :param given: number of arguments that come first, and not from the caller.
    :raises TypeError: the function does not take them.
    """
    shape = _shape(function)
    if shape is None:
        return
    if shape.is_plain and not kwargs and shape.least <= len(args) + given <= shape.most:
        return
    try:
        shape.signature.bind(*[None] * given, *args, **kwargs)
    except TypeError as error:
        parameters = list(shape.signature.parameters.values())[given:]
        takes = inspect.Signature(parameters)
        raise TypeError(
            f"{name} takes {takes}, and cannot be called with what is enqueued: {error}."
        ) from None
