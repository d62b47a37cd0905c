"""What a call passes for some parameters of a function, however it passes them.

The function may be *decorated*: then its own parameters may be others than those that its callers
see. Of such a parameter only what a caller names is known to be for it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from partisan_async.django_tasks.compat import Task, normalize_json
from partisan_async.django_tasks.fits import outer_signature
from partisan_async.enqueue import arguments

_CONTEXT = object()


def chosen(
    task: Task[Any, Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    names: Iterable[str | int],
) -> dict[str, Any]:
    """Return what a call passes for these parameters of the function, or their defaults, as JSON.

    :raises TypeError: the function does not take the call; or it is decorated, and the call passes
        one of these by position.
    """
    call = _Bound(task, args, kwargs)
    values = {}
    for name in map(str, names):
        value = call.value_of(name)
        with suppress(TypeError, ValueError):  # of a default that no call could pass
            values[name] = as_json(value)
    return values


def as_json(value: Any) -> Any:
    """Return a value as JSON has it.

    :raises TypeError, ValueError: it has it not.
    """
    try:
        return normalize_json(value)
    except RecursionError:
        raise ValueError(arguments.TOO_DEEP) from None


def refuse_unknown(function: Any, names: Iterable[str | int], option: str) -> None:
    """Refuse names that no call of a function can pass a value for.

    :param option: the one of ``@options`` that has them, for the message.
    :raises TypeError: there is such a name.
    """
    takes, below = outer_signature(function), inspect.signature(function)
    # What it does not know it may hand on.
    known = below if _of_kind(takes, inspect.Parameter.VAR_KEYWORD) else takes
    for name in names:
        if name not in takes.parameters and name not in known.parameters:
            shown = known.replace(return_annotation=inspect.Signature.empty)
            raise TypeError(
                f"@options({option}=…) is by {name!r}, which is no parameter of"
                f" {function.__name__}{shown}."
            )


class _Bound:
    """A call of a task's function, as its callers see that."""

    def __init__(
        self, task: Task[Any, Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        self._task = task
        self._kwargs = kwargs
        self._takes = outer_signature(task.func)
        given = [_CONTEXT] if task.takes_context else []
        self._passed = self._takes.bind(*given, *args, **kwargs).arguments

    def value_of(self, name: str) -> Any:
        """Return what is passed for a parameter, or its default."""
        if name in self._takes.parameters:
            return self._passed.get(name, self._takes.parameters[name].default)
        if name in self._kwargs:
            return self._kwargs[name]
        below = inspect.signature(self._task.func).parameters.get(name)
        if below is None or below.default is below.empty or self._has_unnamed:
            raise TypeError(
                f"Task {self._task.module_path} is decorated, so that nothing tells which argument"
                f" is its {name}: pass {name}=…."
            )
        return below.default

    @property
    def _has_unnamed(self) -> bool:
        """Whether it passes, by position, what the decorator has no name for."""
        rest = _of_kind(self._takes, inspect.Parameter.VAR_POSITIONAL)
        passed = self._passed.get(rest.name, ()) if rest else ()
        return any(each is not _CONTEXT for each in passed)


def _of_kind(takes: inspect.Signature, kind: Any) -> inspect.Parameter | None:
    return next((each for each in takes.parameters.values() if each.kind is kind), None)
