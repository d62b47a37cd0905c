"""Says what is wrong with configs of retries that each are right, and cannot do what is meant."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from partisan_async.config.processor_configs import ErrorsHandleConfig, name_of
from partisan_async.exceptions import CancelTask


class Complaint(NamedTuple):
    """One of them.

    :param check: the id of the system check that tells it.
    :param place: of the config that it is about.
    """

    check: str
    place: int
    wrong: str
    hint: str


_Told = tuple[str, str] | None


def complaints(configs: Sequence[ErrorsHandleConfig]) -> Iterator[Complaint]:
    """Yield what is wrong with the configs of a processor."""
    for place, config in enumerate(configs):
        for check, told in (
            ("partisan_async.E018", _never_holds(configs[:place], config)),
            ("partisan_async.E019", _cannot_be_asked(config.retry_pause)),
            ("partisan_async.E020", _given_up_at_once(config)),
        ):
            if told is not None:
                yield Complaint(check, place, *told)


def _never_holds(before: Sequence[ErrorsHandleConfig], config: ErrorsHandleConfig) -> _Told:
    errors = tuple(config.retry_on_errors)
    if cancelling := [each.__name__ for each in errors if issubclass(each, CancelTask)]:
        wrong = f"names {', '.join(cancelling)}, which ends the task whatever a config says"
        return wrong, "Take it out."
    taken = tuple(each for other in before for each in other.retry_on_errors)
    if taken and all(issubclass(each, taken) for each in errors):
        names = ", ".join(each.__name__ for each in errors)
        wrong = f"never comes to hold: those before it take all of {names}"
        return wrong, "The first that fits an error holds: put the narrower errors first."
    return None


def _cannot_be_asked(function: Any) -> _Told:
    if not callable(function):
        return None
    name = name_of(function)
    if inspect.iscoroutinefunction(function):
        return f"has the function retry_pause={name}, which is async", "Write it as a plain def."
    try:
        inspect.signature(function).bind("error", "task")
    except TypeError as error:
        wrong = f"has the function retry_pause={name}, which cannot be asked: {error}"
        return wrong, "It is called with the error and the task's row: def pause_of(error, task)."
    except ValueError:  # one that is written in C may not tell
        pass
    return None


def _given_up_at_once(config: ErrorsHandleConfig) -> _Told:
    limit = config.give_up_after_seconds
    if limit is None or callable(config.retry_pause) or config.pause_seconds(1, 0.0) <= limit:
        return None
    pause = config.pause_seconds(1)
    wrong = (
        f"has a first pause of {pause:g} s, which is longer than give_up_after_seconds={limit:g},"
        " so that nothing is tried again"
    )
    return wrong, "Give up later, or make retry_pause shorter."
