"""What ``SENSITIVE`` hides: arguments that are shown to nobody, and that no error tells."""

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
"""Length from which a value is looked for in texts: shorter ones are in any text by chance."""

_OURS = ("args", "kwargs", "tick", "backend", "run_after")
"""What a row's arguments may have; all but the first two tell nothing of the call."""


def masked(processor_name: str, text: str, *, indent: int | None = None) -> str:
    """Return the JSON of a row's arguments, with a mask in place of each value that is hidden.

    :param text: if it is cut, and something in it is hidden, all of it is masked.
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
    """Tell whether the arguments of a processor's rows may hold what is hidden."""
    names = _sensitive(processor_name)
    return names is None or bool(names)


def hidden_processors() -> list[str] | None:
    """Return the names on rows whose arguments may hold what is hidden.

    ``None``: nobody can tell, since not all processors can be imported.
    """
    try:
        _discover()
    except Exception:  # noqa: BLE001  a module may raise anything when it is imported
        return None
    return [
        name for each in registry.processors() if each.SENSITIVE for name in naming.names_of(each)
    ]


def secrets_of(processor_name: str, encoded: str | None) -> Sequence[str]:
    """Return the texts that no error of a run may hold, the longest first; it never raises.

    It is ``EVERYTHING`` where they cannot be told.

    :param encoded: the arguments of the row: what the run has made of them may be anything.
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
    try:
        _discover()
    except Exception:  # noqa: BLE001  a module may raise anything when it is imported
        return None
    return _known(processor_name) or ()


def _known(processor_name: str) -> Sequence[str] | None:
    """Return the names that are sensitive; ``None``: this process does not know the processor."""
    with suppress(ProcessorClassNotFound):
        names: Sequence[str] = registry.get(processor_name).SENSITIVE
        return names
    return None


@cache
def _discover() -> None:
    # Once, if it does not raise: a page asks for each row.
    registry.autodiscover()


def _hidden_values(processor_class: type, names: Sequence[str], call: Stored) -> Iterator[Any]:
    """Yield the values that are hidden, as they are stored and as ``run()`` gets them."""
    places = call.places()  # all of them, if nobody can tell which
    with suppress(Exception):
        places = list(_places(processor_class, names, call))
    for place in places:
        yield from _values_in(call.at(place))
    with suppress(Exception):  # of annotations, and of a call that does not fit
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
    yield from parameters.unowned(call)  # a parameter of before, which may have been hidden


def _values_in(value: Any) -> Iterator[Any]:
    """Yield a value, or those that are in it, however deep: the keys of a dict are none."""
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
        case Model():  # its key is among the stored ones
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
