"""Matches the call that a test looks for: by its arguments, or by parameters of ``run()``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from partisan_async.enqueue import arguments
from partisan_async.enqueue.parameters import Stored, parameters_of
from partisan_async.models import Task
from partisan_async.testing.asked import Asked, same

if TYPE_CHECKING:
    from partisan_async.testing.calls import Target


class CallWanted:
    """The call that a test looks for; what is ``None`` or left out matches anything.

    :param parameters: values of parameters of ``run()``, by name.
    """

    def __init__(
        self,
        target: Target,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        parameters: Mapping[str, Any],
    ) -> None:
        self._args = args
        self._kwargs = kwargs
        self._by_name = parameters
        self._asked = _asked_of(target) if isinstance(target, type) else None
        if parameters and self._asked is None:
            raise TypeError(
                f"{', '.join(parameters)}: {getattr(target, '__name__', target)} is looked for by"
                " args= and kwargs=, since its run() has no parameters."
            )
        self._has_parameters(Stored([], {}))  # raises for a value that no call can pass
        self._plain = None if self._asked else _plain(args, kwargs)

    def parts(self) -> list[str]:
        """Return the parts of this call, for a message."""
        told = {"args": self._args, "kwargs": self._kwargs} | dict(self._by_name)
        by_name = self._by_name
        return [f"{k}={v!r}" for k, v in told.items() if v is not None or k in by_name]

    def fits(self, task: Task) -> bool:
        """Tell whether the row's call matches."""
        if self._asked is None:
            facts = zip((task.args, task.kwargs), self._plain or (), strict=False)
            return all(wanted is None or same(wanted, found) for found, wanted in facts)
        stored = Stored.of(task.arguments)
        return stored is not None and self._fits_typed(self._asked, stored)

    def _fits_typed(self, asked: Asked, stored: Stored) -> bool:
        args, kwargs = self._args, self._kwargs
        if args is not None and not asked.passes(stored, "args", dict(enumerate(args))):
            return False
        if kwargs is not None and not asked.passes(stored, "kwargs", kwargs):
            return False
        return self._has_parameters(stored)

    def _has_parameters(self, stored: Stored) -> bool:
        if self._asked is None:
            return True
        answers = []
        for name, value in self._by_name.items():  # all of them: a wrong one raises
            answers.append(self._asked.holds(stored, name, value))
        return all(answers)


def _asked_of(processor_class: type) -> Asked | None:
    parameters = parameters_of(processor_class)
    return None if parameters is None else Asked(processor_class.__name__, parameters)


def _plain(args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> tuple[Any, Any]:
    # As they are read from a row: tuples are lists there.
    encoded = json.loads(arguments.encode(tuple(args or ()), kwargs or {}))
    return (
        None if args is None else encoded["args"],
        None if kwargs is None else encoded["kwargs"],
    )
