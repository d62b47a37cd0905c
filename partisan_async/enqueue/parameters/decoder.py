"""Reads a stored call into the values that ``run()`` gets: all of them, or some."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from partisan_async.enqueue.parameters.binding import Binding
from partisan_async.enqueue.parameters.instances import Fetched, Instances, Wanted
from partisan_async.enqueue.parameters.parameter import Parameter
from partisan_async.enqueue.parameters.rows import fetch
from partisan_async.enqueue.parameters.stored import Place, Stored
from partisan_async.exceptions import ArgumentsDoNotFit


class Decoder:
    """Reads the stored calls of one processor.

    :param by_name: its parameters.
    """

    def __init__(
        self, processor_name: str, binding: Binding, by_name: Mapping[str, Parameter]
    ) -> None:
        self._processor_name = processor_name
        self._binding = binding
        self._by_name = by_name

    def decode(self, stored: Stored) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the call of a row; see ``Parameters.decode``."""
        self._require_bound(stored)
        values = self.read(stored, stored.places())
        args = tuple(values["args", position] for position in range(len(stored.args)))
        return args, {name: values["kwargs", name] for name in stored.kwargs}

    def require_fit(self, stored: Stored) -> None:
        """Refuse a call that does not fit; see ``Parameters.require_fit``."""
        self._require_bound(stored)
        unfetched = Wanted()
        for place in stored.places():
            self._value(stored, place, unfetched)

    def _require_bound(self, stored: Stored) -> None:
        if fault := self._binding.fault(len(stored.args), stored.kwargs):
            raise ArgumentsDoNotFit(self._processor_name, f"the stored call does not fit: {fault}.")

    def read(self, stored: Stored, places: Iterable[Place]) -> dict[Place, Any]:
        """Return the values at some places of a stored call, and fetch the rows they name."""
        found = {place: self._parameter(place) for place in places}
        wanted = Wanted()
        for place, parameter in found.items():
            if parameter.has_models:
                self._value(stored, place, wanted)
        # One query for each model, however many parameters and lists have its keys.
        fetched = Fetched(fetch(self._processor_name, wanted.keys) if wanted.keys else {})
        return {place: self._value(stored, place, fetched) for place in found}

    def _parameter(self, place: Place) -> Parameter:
        name = self._binding.owner(place[1])
        if name is None:
            raise ArgumentsDoNotFit(
                self._processor_name,
                f"the stored call has {place[1]!r}, which run() does not take.",
            )
        return self._by_name[name]

    def _value(self, stored: Stored, place: Place, instances: Instances) -> Any:
        parameter = self._parameter(place)
        try:
            return parameter.decode(stored.at(place), instances)
        except ValueError:
            raise ArgumentsDoNotFit(
                self._processor_name,
                f"the stored {parameter.name} is not what run() takes, {parameter.shown}.",
            ) from None
