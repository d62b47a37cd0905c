"""The errors of ``delay()`` and ``bulk_delay()`` that are given something else than calls.

They name the type of what was given: it is an argument most of the time, and may be a secret.
"""

from __future__ import annotations

from collections.abc import Iterable
from inspect import isabstract
from typing import Any, TypeVar

E = TypeVar("E", bound=Exception)


def refuse_no_call(found: object, method: str, base: type) -> None:
    """Refuse ``Processor.delay(5)``, where ``self`` is 5, and a call without args and kwargs.

    :param base: the base class of all calls.
    """
    if not isinstance(found, base):
        raise TypeError(
            f"{method}() is called on the class, with {_told(found)}. Make a call first, with its"
            f" arguments, and enqueue that: Processor(…).{method}()."
        )
    if refusal := without_arguments(found):
        raise refusal


def without_arguments(found: object) -> TypeError | None:
    """Return the error about a call without args and kwargs; ``None``: it has them."""
    if {"args", "kwargs"} <= vars(found).keys():
        return None
    return TypeError(
        f"This {type(found).__name__} has no arguments: its own __init__() must call"
        " super().__init__(…) with those that a worker is to make it with."
    )


def refuse_single_call(found: Iterable[Any], expected: type, base: type) -> None:
    """Refuse ``Processor.bulk_delay(Processor(5))``, and ``bulk_delay(5)``: it takes a list."""
    name = expected.__name__
    if isinstance(found, base):
        raise TypeError(
            f"{name}.bulk_delay() takes a list of calls, and got a single one; pass"
            f" [{_several(type(found))}], or call its delay()."
        )
    if not isinstance(found, Iterable):
        raise TypeError(
            f"{name}.bulk_delay() takes a list of calls, and got {_told(found)}. Make calls first:"
            f" {name}.bulk_delay([{_several(expected)}])."
        )


def foreign_call(number: int, found: object, expected: type, base: type) -> TypeError:
    """Return the error about an object that is not of the class whose ``bulk_delay()`` got it."""
    name = expected.__name__
    way = f"pass {name}.bulk_delay([{_several(expected)}])"
    if isinstance(found, base):
        way = f"{base.__name__}.bulk_delay() takes calls of any processor"
    return TypeError(f"Call {number} is {_told(found)}, which is no {name}; {way}.")


def numbered(number: int, error: E) -> E:
    """Return the error about one of many calls, which then says which one it is."""
    # Not type(error)(…): some are made of something else than their text.
    error.args = (f"Call {number}: {error}",)
    return error


def running_call(found: object) -> TypeError:
    """Return the error about a processor that is itself running a task."""
    name = type(found).__name__
    return TypeError(
        f"This {name} is running a task and cannot be delayed; make a new one,"
        f" {name}(…).delay(), or raise PostponeTask to run again later."
    )


def _several(expected: type) -> str:
    """Return what calls of a class may look like; of a base class there are none."""
    if isabstract(expected):
        return "Pay(…), Ship(…)"
    return f"{expected.__name__}(…), {expected.__name__}(…)"


def _told(found: object) -> str:
    if isinstance(found, type):
        return f"the class {found.__name__}"
    return f"a value of type {type(found).__name__}"
