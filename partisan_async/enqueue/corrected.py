"""Checks the arguments that an operator writes for a failed task, as ``delay()`` does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from partisan_async.enqueue import arguments
from partisan_async.enqueue.parameters import Stored, parameters_of
from partisan_async.enqueue.parameters.signature import taken_by
from partisan_async.exceptions import ArgumentsDoNotFit, RowMissing

if TYPE_CHECKING:
    from partisan_async.enqueue.parameters.parameters import Parameters

SHAPE = '{"args": […], "kwargs": {…}}'


def check_arguments(processor: type[Any] | None, text: str, queue_name: str) -> str:
    """Return a call, written as JSON, as a row stores it.

    :param processor: the call's processor; ``None``: it is unknown here, and only the JSON is
        checked.
    :param queue_name: the queue whose ``MAX_ARGUMENTS_BYTES`` applies.
    :raises TypeError, ValueError: the text is not JSON or not of this shape, or ``delay()`` would
        refuse the call.
    """
    try:
        call = json.loads(text, object_pairs_hook=_each_once, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise ValueError(f"The arguments are no JSON ({error}); write {SHAPE}.") from None
    except RecursionError:
        raise ValueError(arguments.TOO_DEEP) from None
    return check_call(processor, call, queue_name)


def check_call(processor: type[Any] | None, call: object, queue_name: str) -> str:
    """Return a call as a row stores it; else as ``check_arguments``."""
    args, kwargs = _parts(call)
    encoded = None if processor is None else _typed(processor, args, kwargs)
    if encoded is None:
        encoded = arguments.encode(args, kwargs)
    arguments.require_size(encoded, queue_name)
    return encoded


def decoded(parameters: Parameters, stored: Stored) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return a stored call as ``run()`` gets it.

    :raises TypeError, ValueError: it does not fit, as ``delay()`` would say it.
    """
    try:
        return parameters.decode(stored)
    except ArgumentsDoNotFit as error:
        raise TypeError(error.why) from None
    except RowMissing as error:
        raise ValueError(str(error)) from None


def _parts(call: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if not isinstance(call, Mapping):
        raise TypeError(f"The arguments are of type {type(call).__name__}; write {SHAPE}.")
    if more := sorted(call.keys() - {"args", "kwargs"}, key=repr):
        raise ValueError(f"The arguments have {more[0]!r} beside args and kwargs; leave it out.")
    for name, kind, wish in (("args", list | tuple, "a list"), ("kwargs", dict, "a dict")):
        if name not in call:
            raise ValueError(f"The arguments have no {name!r}; write {SHAPE}.")
        if not isinstance(call[name], kind):
            found = type(call[name]).__name__
            raise TypeError(f"{name} is of type {found}, and has to be {wish}; write {SHAPE}.")
    for key in call["kwargs"]:
        if not isinstance(key, str):
            raise TypeError(f"kwargs has the key {key!r} of type {type(key).__name__}; pass text.")
    return tuple(call["args"]), call["kwargs"]


def _typed(processor: type[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
    """Return a call as ``delay()`` stores it; ``None`` if ``run()`` has no parameters."""
    parameters = parameters_of(processor)
    if parameters is None:
        _require_fit(processor, args, kwargs)
        return None
    return parameters.encode(*decoded(parameters, Stored(list(args), dict(kwargs))))


def _require_fit(processor: type[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Refuse arguments that the processor's ``__init__()`` does not take, without calling it.

    One of Django's own tasks is no class, and itself refuses what its function does not take.
    """
    if (refuse_misfit := getattr(processor, "_refuse_misfit", None)) is not None:
        refuse_misfit(args, kwargs)
        return
    takes = taken_by(processor)
    try:
        takes.bind(*args, **kwargs)
    except TypeError as error:
        name = processor.__name__
        raise TypeError(
            f"{name} is made by {name}{takes}, and not with these arguments: {error}."
        ) from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"The arguments have the key {key!r} twice; leave one out.")
        found[key] = value
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"The arguments have {name}, which JSON cannot hold; write null instead.")
