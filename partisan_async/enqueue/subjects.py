"""The *subject* of a call: whose task it is, as the caller says, or as ``task_subject()`` does.

It is project code, asked where a call is made: by ``delay()``, or as a supervisor starts, of the
schedules in the code. Else it is kept with what the call is made from.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from partisan_async.enqueue.arguments import require_text
from partisan_async.enqueue.corrected import decoded
from partisan_async.enqueue.misfit import Misfit
from partisan_async.enqueue.parameters import Stored, parameters_of
from partisan_async.enqueue.parameters.signature import parameters_declared_by, shown
from partisan_async.enqueue.parameters.stored import NOT_OF_THE_VALUE

LONGEST = 255

METHOD = "task_subject"

_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def checked(subject: object, what: str = "subject") -> str | None:
    """Return a subject as rows take it; ``None``: nobody's.

    The message leaves it out: it may be a person's name, and errors are stored and sent on.

    :param what: what gave it, for the message.
    :raises TypeError, ValueError: it cannot be one.
    """
    if subject is None:
        return None
    if not isinstance(subject, str):
        raise TypeError(
            f"{what} is of type {type(subject).__name__}; it must be text such as 'customer:42', or"
            " None for a task that is nobody's."
        )
    if not 1 <= len(subject) <= LONGEST:
        raise ValueError(
            f"{what} has {len(subject)} characters; it must be text of 1 to {LONGEST}, such as"
            " 'customer:42', or None for a task that is nobody's."
        )
    require_text(subject, what)
    return str.__str__(subject)  # of an enum, its value


def subject_of(processor: Any, given: str | None = None) -> str | None:
    """Return the subject of a call whose arguments were found to fit.

    :param given: what the caller says, which counts before what ``task_subject()`` does.
    :raises TypeError, ValueError: it cannot be one, or that method raised.
    """
    if given is not None:
        return checked(given)
    kind: Any = type(processor)
    if _is_djangos(kind):
        told: str | None = kind.subject_of_call(processor.args, processor.kwargs)
        return told
    if not hasattr(kind, METHOD):
        return None
    if found := wrong_subject(kind):
        raise TypeError(f"{found.wrong} {found.hint}")
    values: dict[str, Any] = {}
    if (names := names_asked(kind)) and (parameters := parameters_of(kind)) is not None:
        values = parameters.given(processor.args, processor.kwargs, names)
    return asked(f"{kind.__name__}.{METHOD}()", lambda: processor.task_subject(**values))


def of_stored(kind: type[Any], encoded: str, kept: str | None = None) -> str | None:
    """Return the subject of a call that is made from stored arguments.

    :param kept: what it was before; it stays where ``task_subject()`` says nothing.
    :raises TypeError, ValueError: as ``subject_of``; or the call does not fit.
    """
    if not (hasattr(kind, METHOD) or _is_djangos(kind)):
        return kept
    stored = Stored.of(json.loads(encoded))
    if stored is None:
        raise TypeError("The arguments are no call any more; somebody changed them by hand.")
    args, kwargs = tuple(stored.args), stored.kwargs
    if (parameters := parameters_of(kind)) is not None:
        args, kwargs = decoded(parameters, stored)
    # By its own __init__(), as delay() has it: task_subject() may need what that sets.
    found = subject_of(_by_the_project(f"{kind.__name__}(…)", lambda: kind(*args, **kwargs)))
    return kept if found is None else found


def asked(what: str, ask: Callable[[], object]) -> str | None:
    """Return what project code says a call's subject is.

    :param what: that code, for the message.
    :raises TypeError, ValueError: it cannot be one, or that code raised.
    """
    return checked(_by_the_project(what, ask), f"What {what} returned")


@cache
def names_asked(kind: type[Any]) -> Sequence[str]:
    """Return the names of the parameters that ``task_subject()`` asks for."""
    return [each.name for each in _declared(kind) if each.kind not in _VARIABLE]


@cache
def wrong_subject(kind: type[Any]) -> Misfit | None:
    """Say what is wrong with the ``task_subject()`` of a processor; ``None``: nothing."""
    whose, method = f"{kind.__name__}.{METHOD}", getattr(kind, METHOD)
    if not callable(method):
        return Misfit(f"{whose} is {method!r}, and no method.", f"Write def {METHOD}(self).")
    if inspect.iscoroutinefunction(method):
        return Misfit(f"{whose}() is async, and is not awaited.", f"Write def {METHOD}(self).")
    declared = parameters_declared_by(kind)
    for each in _declared(kind):
        if each.kind is each.POSITIONAL_ONLY:
            wrong = f"{whose}() takes {each.name} by position alone, and gets it by its name."
            return Misfit(wrong, "Take the / out.")
        if each.kind not in _VARIABLE and each.name not in {e.name for e in declared or ()}:
            wrong = f"{whose}() asks for {each.name}, which is no parameter of its run()."
            if declared is None:
                return Misfit(wrong, "It has none: take it from self.args or self.kwargs.")
            return Misfit(wrong, f"Ask for those of {shown(declared)}.")
    return None


def _by_the_project(what: str, do: Callable[[], Any]) -> Any:
    try:
        return do()
    except NOT_OF_THE_VALUE:
        raise
    except Exception as error:
        raise ValueError(f"{what} raised {type(error).__name__}: {error}") from error


def _is_djangos(kind: type[Any]) -> bool:
    """Tell whether it is one of Django's own tasks, whose options say it."""
    return hasattr(kind, "subject_of_call")


def _declared(kind: type[Any]) -> Sequence[inspect.Parameter]:
    found = list(inspect.signature(getattr(kind, METHOD)).parameters.values())
    is_bound = isinstance(inspect.getattr_static(kind, METHOD), staticmethod | classmethod)
    return found if is_bound else found[1:]
