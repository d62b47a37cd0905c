"""The parameters of one processor's ``run()``, and all that is asked of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from partisan_async.enqueue.parameters.annotations import resolve
from partisan_async.enqueue.parameters.binding import Binding
from partisan_async.enqueue.parameters.decoder import Decoder
from partisan_async.enqueue.parameters.encoder import Encoder
from partisan_async.enqueue.parameters.parameter import Parameter
from partisan_async.enqueue.parameters.signature import Declared
from partisan_async.enqueue.parameters.storable import wrong_type
from partisan_async.enqueue.parameters.stored import Place, Stored, as_given_back

Encode = Callable[[tuple[Any, ...], Mapping[str, Any]], str]


class Parameters:
    """Checks, stores and reads the calls of one processor class.

    :raises TypeError: an annotation cannot be resolved, or its values cannot be stored.
    """

    def __init__(self, processor_class: type, declared: Declared) -> None:
        name = processor_class.__name__
        by_name = {each.name: _parameter(processor_class, each) for each in declared}
        self._by_name = by_name
        self._binding = Binding(declared)
        self._defaults = {e.name: e.default for e in declared if e.default is not e.empty}
        self._decoder = Decoder(name, self._binding, by_name)
        # The encoder's own method: a frame of this class would cost a tenth of a plain call.
        self.encode: Encode = Encoder(name, self._binding, by_name).encode
        """Return a call as canonical JSON, as it was written: defaults are not filled in.

        Raises ``TypeError``: it does not fit the signature, or a value is of another type than the
        annotation says; ``ValueError``: a value cannot be stored, or would come back as another.
        """
        self._processor_name = name
        self.reads_rows = any(each.has_models for each in by_name.values())
        """Whether ``decode`` asks the database, for models."""

    def decode(self, stored: Stored) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the call of a row, as it is given to ``run()``.

        :raises ArgumentsDoNotFit: the row's values are not what this ``run()`` takes.
        :raises RowMissing: an instance that was passed is gone.
        """
        return self._decoder.decode(stored)

    def values(self, stored: Stored, names: Iterable[str]) -> dict[str, Any]:
        """Return some parameters of a stored call, as ``run()`` gets them, with their defaults.

        Those that the call lacks and that have no default are left out.

        :raises ArgumentsDoNotFit: one of these values is not what ``run()`` takes.
        :raises RowMissing: one of these is an instance that is gone.
        """
        asked = {name: self.places(stored, name) for name in names}
        read = self._decoder.read(stored, [place for each in asked.values() for place in each])
        found: dict[str, Any] = {}
        for name, places in asked.items():
            if name == self._binding.rest:
                found[name] = tuple(read[place] for place in places)
            elif name == self._binding.more:
                found[name] = {place[1]: read[place] for place in places}
            elif places:
                found[name] = read[places[0]]
            elif name in self._defaults:
                found[name] = self._defaults[name]
        return found

    def places(self, stored: Stored, name: str) -> list[Place]:
        """Return where the values of a parameter are in a stored call: none where it is left out.

        :param name: ``args`` of ``*args`` stands for all its values, as does ``kwargs`` of
            ``**kwargs``; the names in it may be asked for, too.
        """
        return [
            place
            for place in stored.places()
            if place == ("kwargs", name) or self._binding.owner(place[1]) == name
        ]

    def holds(self, stored: Stored, name: str, value: Any) -> bool:
        """Tell whether a stored call passes this value; no row is fetched for it.

        :raises TypeError, ValueError: no call could pass it, or there is no such parameter.
        """
        owner = self._binding.owner(name)
        if owner is None and name not in self._by_name:
            raise TypeError(f"{self._processor_name} has no parameter {name}.")
        parameter = self._by_name[owner or name]
        places = self.places(stored, name)
        if not places:
            return name in self._defaults and bool(self._defaults[name] == value)
        wanted = as_given_back(parameter.encode(value, name))
        return all(wanted == stored.at(place) for place in places)


def _parameter(processor_class: type, declared: inspect.Parameter) -> Parameter:
    hint = resolve(processor_class, declared)
    if wrong := wrong_type(hint):
        place = f"{processor_class.__name__}.run(): the annotation of {declared.name}"
        raise TypeError(f"{place} {wrong.why}. {wrong.way_out}.")
    return Parameter(declared.name, hint)
