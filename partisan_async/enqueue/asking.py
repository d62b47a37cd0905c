"""Asks a processor about a call, by a method that gets those parameters of ``run()`` it names.

It is project code, and asked where a call is made: by ``delay()``, or as a supervisor starts, of
the schedules in the code.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from partisan_async.enqueue.corrected import decoded
from partisan_async.enqueue.misfit import Misfit
from partisan_async.enqueue.parameters import Stored, parameters_of
from partisan_async.enqueue.parameters.signature import parameters_declared_by, shown
from partisan_async.enqueue.parameters.stored import NOT_OF_THE_VALUE

_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def ask(processor: Any, method: str) -> object:
    """Return what a processor's method says about its call, whose arguments were found to fit.

    :raises TypeError, ValueError: it cannot be called, or raised.
    """
    kind: Any = type(processor)
    if found := wrong_method(kind, method):
        raise TypeError(f"{found.wrong} {found.hint}")
    values: dict[str, Any] = {}
    if (names := names_asked(kind, method)) and (parameters := parameters_of(kind)) is not None:
        values = parameters.given(processor.args, processor.kwargs, names)
    what = f"{kind.__name__}.{method}()"
    return by_the_project(what, lambda: getattr(processor, method)(**values))


def by_the_project(what: str, do: Callable[[], Any]) -> Any:
    """Return what project code does.

    :param what: that code, for the message.
    :raises ValueError: it raised.
    """
    try:
        return do()
    except NOT_OF_THE_VALUE:
        raise
    except Exception as error:
        raise ValueError(f"{what} raised {type(error).__name__}: {error}") from error


def made_from(kind: type[Any], encoded: str) -> Any:
    """Return the processor of a call that is made from stored arguments.

    :raises TypeError, ValueError: the call does not fit.
    """
    stored = Stored.of(json.loads(encoded))
    if stored is None:
        raise TypeError("The arguments are no call any more; somebody changed them by hand.")
    args, kwargs = tuple(stored.args), stored.kwargs
    if (parameters := parameters_of(kind)) is not None:
        args, kwargs = decoded(parameters, stored)
    # By its own __init__(), as delay() has it: the method may need what that sets.
    return by_the_project(f"{kind.__name__}(…)", lambda: kind(*args, **kwargs))


@cache
def names_asked(kind: type[Any], method: str) -> Sequence[str]:
    """Return the names of the parameters that a method asks for."""
    return [each.name for each in _declared(kind, method) if each.kind not in _VARIABLE]


@cache
def wrong_method(kind: type[Any], method: str) -> Misfit | None:
    """Say what is wrong with a method of a processor; ``None``: nothing."""
    whose, found = f"{kind.__name__}.{method}", getattr(kind, method)
    way = f"Write def {method}(self)."
    if not callable(found):
        return Misfit(f"{whose} is {found!r}, and no method.", way)
    if inspect.iscoroutinefunction(found):
        return Misfit(f"{whose}() is async, and is not awaited.", way)
    declared = parameters_declared_by(kind)
    for each in _declared(kind, method):
        if each.kind is each.POSITIONAL_ONLY:
            wrong = f"{whose}() takes {each.name} by position alone, and gets it by its name."
            return Misfit(wrong, "Take the / out.")
        if each.kind not in _VARIABLE and each.name not in {e.name for e in declared or ()}:
            wrong = f"{whose}() asks for {each.name}, which is no parameter of its run()."
            if declared is None:
                return Misfit(wrong, "It has none: take it from self.args or self.kwargs.")
            return Misfit(wrong, f"Ask for those of {shown(declared)}.")
    return None


def _declared(kind: type[Any], method: str) -> Sequence[inspect.Parameter]:
    found = list(inspect.signature(getattr(kind, method)).parameters.values())
    is_bound = isinstance(inspect.getattr_static(kind, method), staticmethod | classmethod)
    return found if is_bound else found[1:]
