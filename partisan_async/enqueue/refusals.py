"""What a caller is told who gives ``delay()`` or ``bulk_delay()`` something else than calls.

What was given is named by its type: it is an argument most of the time, and may be a secret.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def refuse_no_call(found: object, method: str, base: type) -> None:
    """Refuse ``Processor.delay(5)``: the method is a call's, and 5 took the place of that.

    And a call that has kept no arguments.

    :param base: what all calls are instances of.
    """
    if not isinstance(found, base):
        raise TypeError(
            f"{method}() is called on the class, with {_told(found)}. Make a call first, with its"
            f" arguments, and enqueue that: Processor(…).{method}()."
        )
    if not {"args", "kwargs"} <= vars(found).keys():
        raise TypeError(
            f"This {type(found).__name__} has no arguments: its own __init__() must call"
            " super().__init__(…) with those that a worker is to make it with."
        )


def refuse_single_call(found: Iterable[Any], expected: type, base: type) -> None:
    """Refuse ``Processor.bulk_delay(Processor(5))``, and ``bulk_delay(5)``: it takes a list."""
    name = expected.__name__
    if isinstance(found, base):
        raise TypeError(
            f"{name}.bulk_delay() takes a list of calls, and got a single one; pass"
            f" [{name}(…), {name}(…)], or call its delay()."
        )
    if not isinstance(found, Iterable):
        raise TypeError(
            f"{name}.bulk_delay() takes a list of calls, and got {_told(found)}. Make calls first:"
            f" {name}.bulk_delay([{name}(…), {name}(…)])."
        )


def foreign_call(position: int, found: object, expected: type) -> TypeError:
    """Return the refusal of what is no call of the class whose ``bulk_delay()`` it was given to."""
    name = expected.__name__
    return TypeError(
        f"Call {position} is {_told(found)}, which is no {name}; pass"
        f" {name}.bulk_delay([{name}(…), {name}(…)])."
    )


def running_call(found: object) -> TypeError:
    """Return the refusal of a processor that is itself running a task."""
    name = type(found).__name__
    return TypeError(
        f"This {name} is running a task and cannot be delayed; make a new one,"
        f" {name}(…).delay(), or raise PostponeTask to run again later."
    )


def _told(found: object) -> str:
    if isinstance(found, type):
        return f"the class {found.__name__}"
    return f"a value of type {type(found).__name__}"
