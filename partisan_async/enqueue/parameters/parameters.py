"""The parameters of one processor's ``run()``: checks, stores and reads its calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from django.db.models import Model

from partisan_async.enqueue.parameters.annotations import place_of, resolve
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
        self.by_name = by_name
        self.binding = Binding(declared)
        self._decoder = Decoder(name, self.binding, by_name)
        # The encoder's own method: a method around it would add a tenth to a plain call.
        self.encode: Encode = Encoder(name, self.binding, by_name).encode
        """Return a call as canonical JSON, as it was written: defaults are not filled in.

        Raises ``TypeError``: the call does not fit the signature, or a value is not of the
        annotated type; ``ValueError``: a value cannot be stored, or would be read back as another.
        """
        self.is_plain: Callable[[Sequence[Any], Mapping[str, Any]], bool] = self._decoder.is_plain
        """Whether ``decode`` would return a call as it is stored; takes a fourth of the time.

        ``False`` may only mean that ``decode`` had no call of such types yet.
        """
        self.reads_rows = any(each.has_models for each in by_name.values())
        """True if ``decode`` queries the database, for model instances."""

    def decode(self, stored: Stored) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the call of a row, as ``run()`` gets it.

        :raises ArgumentsDoNotFit: the row's values are not what this ``run()`` takes.
        :raises RowMissing: the row of a passed instance is gone.
        """
        return self._decoder.decode(stored)

    def given(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], names: Iterable[str]
    ) -> dict[str, Any]:
        """Return what a call that fits passes for these parameters, or their defaults.

        As ``run()`` gets it, except that a model instance is the very one that is passed.
        """
        passed = Stored(list(args), dict(kwargs))
        found: dict[str, Any] = {}
        for name in names:
            parameter = self.by_name[name]
            places = [each for each in passed.places() if self.binding.owner(each[1]) == name]
            values = {each[1]: parameter.given_back(passed.at(each)) for each in places}
            if name == self.binding.rest:
                found[name] = tuple(values.values())
            elif name == self.binding.more:
                found[name] = values
            else:
                found[name] = next(iter(values.values()), self.binding.defaults.get(name))
        return found

    def require_fit(self, stored: Stored) -> None:
        """Refuse a call that ``decode`` would refuse, and fetch no row.

        :raises ArgumentsDoNotFit: as for ``decode``.
        """
        self._decoder.keys(stored)

    def models(self, stored: Stored) -> set[type[Model]]:
        """Return the models of which a call passes instances, and fetch none of these.

        :raises ArgumentsDoNotFit: as for ``decode``.
        """
        return {key.model for key in self._decoder.keys(stored)}

    def places(self, stored: Stored, name: str) -> list[Place]:
        """Return the places of a parameter's values in a stored call; none if it is left out.

        :param name: the parameter's name; for ``*args`` and ``**kwargs`` all its values are meant.
            A single name in ``**kwargs`` can be asked for, too.
        """
        return [
            place
            for place in stored.places()
            if place == ("kwargs", name) or self.binding.owner(place[1]) == name
        ]

    def unowned(self, stored: Stored) -> list[Place]:
        """Return the places of values in a stored call that no parameter takes."""
        return [place for place in stored.places() if self.binding.owner(place[1]) is None]

    def without_rows(self, stored: Stored, places: Iterable[Place]) -> Iterator[Any]:
        """Yield the values at some places as ``run()`` gets them, but with empty model instances.

        :raises ValueError: a value is not what ``run()`` takes.
        """
        for place in places:
            if (name := self.binding.owner(place[1])) is not None:
                yield self.by_name[name].decode(stored.at(place), Wanted())

    def chosen(self, stored: Stored, names: Iterable[str]) -> dict[str, Any]:
        """Return what a stored call passes for these parameters, however it passes it.

        For a parameter that is left out: its default, as it would be stored. Nothing, if no call
        could pass that, or there is no default.
        """
        found: dict[str, Any] = {}
        for name in names:
            places = [each for each in stored.places() if self.binding.owner(each[1]) == name]
            if name == self.binding.rest:
                found[name] = [stored.at(place) for place in places]
            elif name == self.binding.more:
                found[name] = {str(place[1]): stored.at(place) for place in places}
            elif places:
                found[name] = stored.at(places[0])
            elif name in self.binding.defaults:
                with suppress(TypeError, ValueError):
                    found[name] = as_given_back(
                        self.by_name[name].encode(self.binding.defaults[name])
                    )
        return found


def _parameter(processor_class: type, declared: inspect.Parameter) -> Parameter:
    hint = resolve(processor_class, declared)
    if wrong := wrong_type(hint):
        place = place_of(processor_class, declared.name)
        raise TypeError(f"{place} {wrong.why}. {wrong.way_out}.")
    return Parameter(declared.name, hint)
