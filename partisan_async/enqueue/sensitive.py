"""Masks the arguments that ``SENSITIVE`` names, where arguments are shown and in errors."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

from django.db.models import Model

from partisan_async import naming, registry
from partisan_async.enqueue.parameters import Stored, parameters_of
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.text.masked import EVERYTHING, MASK

SHORTEST = 6
"""Minimum length of a value that is masked in texts: shorter ones occur in texts by chance."""

_OURS = ("args", "kwargs", "tick", "schedule", "backend", "run_after")
"""Keys that the package writes into a row's arguments; the first two hold the call's values."""


def masked(processor_name: str, text: str, *, indent: int | None = None) -> str:
    """Return the JSON of a row's arguments, with a mask in place of each sensitive value.

    :param text: the JSON; all of it is masked if it cannot be read and the processor has sensitive
        parameters.
    """
    names = _sensitive(processor_name)
    if names is None:
        return MASK
    if not names:
        return text
    try:
        arguments = json.loads(text)
        stored = Stored.of(arguments)
        if stored is None:
            return MASK
        for kind, where in _places(registry.get(processor_name), names, stored):
            arguments[kind][where] = MASK
    except Exception:  # noqa: BLE001  the annotations of a run() may raise anything
        return MASK
    shown = {key: value if key in _OURS else MASK for key, value in arguments.items()}
    return json.dumps(shown, ensure_ascii=False, indent=indent)


def hides(processor_name: str) -> bool:
    """Tell whether the arguments of a processor's rows may have sensitive values."""
    names = _sensitive(processor_name)
    return names is None or bool(names)


def hidden_processors() -> list[str] | None:
    """Return the processor names of rows whose arguments may have sensitive values.

    ``None``: nothing tells, since not all processors can be imported.
    """
    if not _all_are_known():
        return None
    return [
        name for each in registry.processors() if each.SENSITIVE for name in naming.names_of(each)
    ]


def secrets_of(processor_name: str, encoded: str | None) -> Sequence[str]:
    """Return the texts to mask in the errors of a run, the longest first; it never raises.

    It returns ``EVERYTHING`` if nothing tells which they are.

    :param encoded: the row's arguments, since the run may have changed its own.
    """
    names = _known(processor_name)
    if not names or encoded is None:
        return []
    found: set[str] = set()
    try:
        stored = Stored.of(json.loads(encoded))
        if stored is None:
            return []
        for value in _hidden_values(registry.get(processor_name), names, stored):
            found.update(_texts_of(value))
    except Exception:  # noqa: BLE001  else the error of the run would be lost
        return EVERYTHING
    return sorted((text for text in found if len(text) >= SHORTEST), key=len, reverse=True)


def _sensitive(processor_name: str) -> Sequence[str] | None:
    """As ``_known``, for a process that may not know all processors yet.

    ``None``: this one it does not know, and not all of them can be imported.
    """
    names = _known(processor_name)
    if names is not None:
        return names
    return _known(processor_name) or () if _all_are_known() else None


def _known(processor_name: str) -> Sequence[str] | None:
    """Return the names that are sensitive; ``None``: this process does not know the processor."""
    with suppress(ProcessorClassNotFound):
        names: Sequence[str] = registry.get(processor_name).SENSITIVE
        return names
    return None


def _all_are_known() -> bool:
    """Import the modules of all processors; tell whether that went well."""
    try:
        _discover()
    except Exception:  # noqa: BLE001  a module may raise anything when it is imported
        return False
    return True


@cache
def _discover() -> None:
    # Once, if it does not raise: a page asks for each row.
    registry.autodiscover()


def _hidden_values(processor_class: type, names: Sequence[str], call: Stored) -> Iterator[Any]:
    """Yield the sensitive values, as they are stored and as ``run()`` gets them."""
    places = call.places()  # all of them, if the parameters cannot be resolved
    with suppress(Exception):
        places = list(_places(processor_class, names, call))
    for place in places:
        yield from _values_in(call.at(place))
    with suppress(Exception):  # the annotations may raise anything, or the call may not fit
        if (parameters := parameters_of(processor_class)) is not None:
            for value in parameters.without_rows(call, places):
                yield from _values_in(value)


def _places(
    processor_class: type, names: Sequence[str], call: Stored
) -> Iterator[tuple[str, int | str]]:
    parameters = parameters_of(processor_class)
    if parameters is None:
        yield from (("kwargs", name) for name in names if name in call.kwargs)
        return
    for name in names:
        yield from parameters.places(call, name)
    yield from parameters.unowned(call)  # of a former parameter, which may have been sensitive


def _values_in(value: Any) -> Iterator[Any]:
    """Yield a value, or the values inside it, however deep; not the keys of a dict."""
    left: list[Any] = [value]
    while left:
        each = left.pop()
        inner = _inner(each)
        if inner is None:
            yield each
        else:
            left += inner


def _inner(value: Any) -> Iterable[Any] | None:
    """Return the values in a value; ``None``: it is a single one."""
    match value:
        case Mapping():
            return value.values()
        case list() | tuple() | set() | frozenset():
            return value
        case _ if dataclasses.is_dataclass(value):
            return [getattr(value, each.name) for each in dataclasses.fields(value)]
        case Model():  # its key is among the stored values
            return ()
        case _:
            return None


def _texts_of(value: Any) -> Iterator[str]:
    """Yield how a value may stand in a text."""
    if isinstance(value, str):
        lines = value.splitlines()  # a traceback may indent each
        for text in (value, *lines, _in_json(value), _in_json(value, ensure_ascii=False)):
            for once in _in_repr(text):
                yield from _in_repr(once)
        return
    with suppress(Exception):  # of its own methods
        yield from _in_repr(str(value))
        yield from _in_repr(repr(value))
    if isinstance(value, bytes):
        yield from _in_repr(repr(value)[2:-1])
        yield from _in_repr(value.decode(errors="replace"))


def _in_json(text: str, *, ensure_ascii: bool = True) -> str:
    return json.dumps(text, ensure_ascii=ensure_ascii)[1:-1]


def _in_repr(text: str) -> Iterator[str]:
    """Yield a text as it is, and as the ``repr()`` of a text that it is in has it.

    The message of a ``KeyError`` is one. What is around the text decides about the quotes, and so
    about what is escaped.
    """
    yield text
    yield repr(f'"{text}')[2:-1]
    if '"' not in text:
        yield repr(f"'{text}")[2:-1]
