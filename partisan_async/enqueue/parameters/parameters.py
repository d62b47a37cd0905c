"""The parameters of one processor's ``run()``, and all that is asked of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from django.db.models import Model

from partisan_async.enqueue.parameters.annotations import resolve
from partisan_async.enqueue.parameters.binding import Binding
from partisan_async.enqueue.parameters.decoder import Decoder
from partisan_async.enqueue.parameters.encoder import Encoder
from partisan_async.enqueue.parameters.instances import Wanted
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

    def misfit(self, stored: Stored, model: type[Model]) -> str | None:
        """Return why a stored call is not what ``run()`` takes, if it is not; no row is fetched.

        :param model: the only one whose keys are in it.
        """
        if fault := self._binding.fault(len(stored.args), stored.kwargs):
            return fault
        wanted = Wanted()
        for place in stored.places():
            parameter = self._by_name[str(self._binding.owner(place[1]))]
            try:
                parameter.decode(stored.at(place), wanted)
            except ValueError:
                return f"its {parameter.name} is {parameter.shown}"
            if any(not issubclass(key.model, model) for key in wanted.keys):
                return f"its {parameter.name} is {parameter.shown}, of another table"
        return None

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

    def unowned(self, stored: Stored) -> list[Place]:
        """Return the places of values in a stored call that no parameter takes."""
        return [place for place in stored.places() if self._binding.owner(place[1]) is None]

    def without_rows(self, stored: Stored, places: Iterable[Place]) -> Iterator[Any]:
        """Yield the values at some places, as ``run()`` gets them; of a model no row is fetched.

        :raises ValueError: one is not what ``run()`` takes.
        """
        for place in places:
            if (name := self._binding.owner(place[1])) is not None:
                yield self._by_name[name].decode(stored.at(place), Wanted())

    def holds(self, stored: Stored, name: str, value: Any) -> bool:
        """Tell whether a stored call passes this value; no row is fetched for it.

        :raises TypeError, ValueError: no call could pass it, or there is no such parameter.
        """
        owner = self._binding.owner(name)
        if owner is None and name not in self._by_name:
            raise TypeError(f"{self._processor_name} has no parameter {name}.")
        parameter = self._by_name[owner or name]
        wanted = as_given_back(parameter.encode(value, name))
        places = self.places(stored, name)
        if not places:
            return name in self._defaults and bool(self._defaults[name] == value)
        return all(wanted == stored.at(place) for place in places)

    def passes(self, stored: Stored, kind: str, values: Mapping[Any, Any]) -> bool:
        """Tell whether a stored call passes exactly these values by position, or by name.

        :param kind: ``"args"``, and the values have their positions; or ``"kwargs"``.
        :raises TypeError, ValueError: no call could pass them.
        """
        wanted = {(kind, place): self._stored(place, value) for place, value in values.items()}
        found = {place: stored.at(place) for place in stored.places() if place[0] == kind}
        return wanted == found

    def _stored(self, place: int | str, value: Any) -> Any:
        name = self._binding.owner(place)
        if name is None:
            raise TypeError(f"{self._processor_name}.run() does not take the argument {place!r}.")
        return as_given_back(self._by_name[name].encode(value, str(name)))


def _parameter(processor_class: type, declared: inspect.Parameter) -> Parameter:
    hint = resolve(processor_class, declared)
    if wrong := wrong_type(hint):
        place = f"{processor_class.__name__}.run(): the annotation of {declared.name}"
        raise TypeError(f"{place} {wrong.why}. {wrong.way_out}.")
    return Parameter(declared.name, hint)
