"""What ``SENSITIVE`` hides: arguments that are shown to nobody, and that no error tells."""

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
"""Length from which a value is looked for in texts: shorter ones are in any text by chance."""

_OURS = ("args", "kwargs", "tick", "schedule", "backend", "run_after")
"""What a row's arguments may have; all but the first two tell nothing of the call."""


def masked(processor_name: str, text: str, *, indent: int | None = None) -> str:
    """Return the JSON of a row's arguments, with a mask in place of each value that is hidden.

    :param text: if it is cut, and something in it is hidden, all of it is masked.
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
    """Tell whether the arguments of a processor's rows may hold what is hidden."""
    return bool(_sensitive(processor_name))


def hidden_processors() -> list[str]:
    """Return the names on rows whose arguments may hold what is hidden."""
    return [
        name for each in registry.processors() if each.SENSITIVE for name in naming.names_of(each)
    ]


def secrets_of(processor_name: str, encoded: str | None) -> list[str]:
    """Return the texts that no error of a run may hold, the longest first; it never raises.

    :param encoded: the arguments of the row: what the run has made of them may be anything.
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
    """Yield a value, or those that are in it."""
    match value:
        case Mapping():
            inner: Iterable[Any] = [*value, *value.values()]
        case list() | tuple() | set() | frozenset():
            inner = value
        case _ if dataclasses.is_dataclass(value):
            inner = [getattr(value, each.name) for each in dataclasses.fields(value)]
        case Model():  # its key is among the stored ones
            return
        case _:
            yield value
            return
    for each in inner:
        yield from _values_in(each)


def _texts_of(value: Any) -> Iterator[str]:
    """Yield how a value may stand in a text."""
    with suppress(Exception):  # of its own methods
        yield str(value)
        yield repr(value).strip("b'\"") if isinstance(value, str | bytes) else repr(value)
    if isinstance(value, str):
        yield json.dumps(value)[1:-1]
        yield json.dumps(value, ensure_ascii=False)[1:-1]
        yield from value.splitlines()  # a traceback may indent each
    elif isinstance(value, bytes):
        yield value.decode(errors="replace")
