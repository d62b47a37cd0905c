"""What ``SENSITIVE`` hides: arguments that are shown to nobody, and that no error tells."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Protocol

from partisan_async import registry
from partisan_async.enqueue.parameters import Stored, parameters_of
from partisan_async.exceptions import ProcessorClassNotFound

MASK = "******"

SHORTEST = 6
"""Length from which a value is looked for in texts: shorter ones are in any text by chance."""


class Called(Protocol):
    """A processor, as far as what is hidden of its call depends on it."""

    SENSITIVE: ClassVar[Sequence[str]]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def masked(processor_name: str, text: str, *, indent: int | None = None) -> str:
    """Return the JSON of a row's arguments, with a mask in place of each value that is hidden.

    :param text: where it was cut, and something in it is hidden, all of it is.
    """
    names = _sensitive(processor_name)
    if not names:
        return text
    try:
        arguments = json.loads(text)
    except ValueError:
        return MASK
    stored = Stored.of(arguments)
    if stored is None:
        return MASK
    for kind, where in _places(registry.get(processor_name), names, stored):
        arguments[kind][where] = MASK
    return json.dumps(arguments, ensure_ascii=False, indent=indent)


def hides(processor_name: str) -> bool:
    """Tell whether the arguments of a processor's rows may hold what is hidden."""
    return bool(_sensitive(processor_name))


def hidden_processors() -> list[str]:
    """Return the names of those whose arguments may hold what is hidden."""
    return [each.__name__ for each in registry.processors() if each.SENSITIVE]


def secrets_of(processor: Called | None) -> list[str]:
    """Return the texts that no error of this call may hold, the longest first."""
    if processor is None or not processor.SENSITIVE:
        return []
    call = Stored(list(processor.args), processor.kwargs)
    found: set[str] = set()
    for place in _places(type(processor), processor.SENSITIVE, call):
        for value in _values_in(call.at(place)):
            found.update(_texts_of(value))
    return sorted((text for text in found if len(text) >= SHORTEST), key=len, reverse=True)


def without(secrets: Iterable[str], text: str) -> str:
    """Return a text with a mask in place of each secret."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


def _sensitive(processor_name: str) -> Sequence[str]:
    with suppress(ProcessorClassNotFound):
        names: Sequence[str] = registry.get(processor_name).SENSITIVE
        return names
    return ()


def _places(processor_class: type, names: Sequence[str], call: Stored) -> Iterator[tuple[str, Any]]:
    parameters = parameters_of(processor_class)
    for name in names:
        if parameters is not None:
            yield from parameters.places(call, name)
        elif name in call.kwargs:
            yield "kwargs", name


def _values_in(value: Any) -> Iterator[Any]:
    """Yield a value, or those that are in it."""
    match value:
        case Mapping():
            inner: Iterable[Any] = value.values()
        case list() | tuple() | set() | frozenset():
            inner = value
        case _ if dataclasses.is_dataclass(value):
            inner = [getattr(value, each.name) for each in dataclasses.fields(value)]
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
    elif isinstance(value, bytes):
        yield value.decode(errors="replace")
