"""Masks the arguments that ``SENSITIVE`` names, where arguments are shown and in errors."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from django.db.models import Model

from partisan_async import naming, registry
from partisan_async.enqueue.parameters import Stored, parameters_of
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.text.masked import MASK

SHORTEST = 6
"""Minimum length of a value that is masked in texts: shorter ones occur in texts by chance."""

_OURS = ("args", "kwargs", "tick", "backend", "run_after")
"""Keys that the package writes into a row's arguments; the first two hold the call's values."""


def masked(processor_name: str, text: str, *, indent: int | None = None) -> str:
    """Return the JSON of a row's arguments, with a mask in place of each sensitive value.

    :param text: the JSON; all of it is masked if it cannot be read and the processor has sensitive
        parameters.
    """
    names = _sensitive(processor_name)
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
    return bool(_sensitive(processor_name))


def hidden_processors() -> list[str]:
    """Return the processor names of rows whose arguments may have sensitive values."""
    return [
        name for each in registry.processors() if each.SENSITIVE for name in naming.names_of(each)
    ]


def secrets_of(processor_name: str, encoded: str | None) -> list[str]:
    """Return the texts to mask in the errors of a run, the longest first; it never raises.

    :param encoded: the row's arguments, since the run may have changed its own.
    """
    names = _sensitive(processor_name)
    if not names or encoded is None:
        return []
    stored = Stored.of(json.loads(encoded))
    if stored is None:
        return []
    found: set[str] = set()
    for value in _hidden_values(registry.get(processor_name), names, stored):
        found.update(_texts_of(value))
    return sorted((text for text in found if len(text) >= SHORTEST), key=len, reverse=True)


def _sensitive(processor_name: str) -> Sequence[str]:
    with suppress(ProcessorClassNotFound):
        names: Sequence[str] = registry.get(processor_name).SENSITIVE
        return names
    return ()


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
    """Yield a value, or the values inside it."""
    match value:
        case Mapping():
            inner: Iterable[Any] = [*value, *value.values()]
        case list() | tuple() | set() | frozenset():
            inner = value
        case _ if dataclasses.is_dataclass(value):
            inner = [getattr(value, each.name) for each in dataclasses.fields(value)]
        case Model():  # its key is among the stored values
            return
        case _:
            yield value
            return
    for each in inner:
        yield from _values_in(each)


def _texts_of(value: Any) -> Iterator[str]:
    """Yield the forms that a value may have in a text."""
    with suppress(Exception):  # its methods may raise anything
        yield str(value)
        yield repr(value).strip("b'\"") if isinstance(value, str | bytes) else repr(value)
    if isinstance(value, str):
        yield json.dumps(value)[1:-1]
        yield json.dumps(value, ensure_ascii=False)[1:-1]
        yield from value.splitlines()  # a traceback may indent each line
    elif isinstance(value, bytes):
        yield value.decode(errors="replace")
