"""Reads a stored call into the values that ``run()`` gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from partisan_async.enqueue.parameters.binding import Binding
from partisan_async.enqueue.parameters.instances import Fetched, Instances, Wanted
from partisan_async.enqueue.parameters.parameter import Parameter
from partisan_async.enqueue.parameters.rows import Key, fetch
from partisan_async.enqueue.parameters.stored import Stored
from partisan_async.exceptions import ArgumentsDoNotFit

MOST_SHAPES = 100
"""Maximum number of shapes that are kept: ``**kwargs`` may have any names."""

_NONE: Instances = Fetched({})


class _Shape(NamedTuple):
    """What calls have in common whose values have the same types and names.

    :param of_args, of_kwargs: the parameters that the values are for, in the order of the values.
    :param is_plain: they take the values as they are stored.
    """

    of_args: list[Parameter]
    of_kwargs: list[Parameter]
    has_models: bool
    is_plain: bool


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
        self._shapes: dict[tuple[object, ...], _Shape] = {}

    def is_plain(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Tell whether a call is of a shape that ``decode`` returned as it was stored."""
        shape = self._shapes.get(_key(args, kwargs))
        return shape is not None and shape.is_plain

    def decode(self, stored: Stored) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the call of a row; see ``Parameters.decode``."""
        shape = self._shape(stored)
        if not shape.has_models:
            return self._values(shape, stored, _NONE)
        wanted = Wanted()
        self._values(shape, stored, wanted)
        # One query for each model, however many parameters and lists have its keys.
        fetched = fetch(self._processor_name, wanted.keys) if wanted.keys else {}
        return self._values(shape, stored, Fetched(fetched))

    def keys(self, stored: Stored) -> set[Key]:
        """Return the keys of instances in a call, if it fits; see ``Parameters.require_fit``."""
        wanted = Wanted()
        self._values(self._shape(stored), stored, wanted)
        return wanted.keys

    def _shape(self, stored: Stored) -> _Shape:
        # Calls are mostly written in one way, and to bind one takes longer than to read it.
        key = _key(*stored)
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._bound(stored)
            if len(self._shapes) < MOST_SHAPES:
                self._shapes[key] = shape
        return shape

    def _bound(self, stored: Stored) -> _Shape:
        if fault := self._binding.fault(len(stored.args), stored.kwargs):
            raise ArgumentsDoNotFit(self._processor_name, f"the stored call does not fit: {fault}.")
        of_args = [self._parameter(position) for position in range(len(stored.args))]
        of_kwargs = [self._parameter(name) for name in stored.kwargs]
        every = [*of_args, *of_kwargs]
        values = [*stored.args, *stored.kwargs.values()]
        has_models = any(each.has_models for each in every)
        is_plain = all(each.takes_as_it_is(v) for each, v in zip(every, values, strict=True))
        return _Shape(of_args, of_kwargs, has_models, is_plain)

    def _parameter(self, place: int | str) -> Parameter:
        name = self._binding.owner(place)
        assert name is not None, place  # a call that fits has none without
        return self._by_name[name]

    def _values(
        self, shape: _Shape, stored: Stored, instances: Instances
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = [], {}
        try:
            for parameter, value in zip(shape.of_args, stored.args, strict=True):
                args.append(parameter.decode(value, instances))
            for parameter, (name, value) in zip(
                shape.of_kwargs, stored.kwargs.items(), strict=True
            ):
                kwargs[name] = parameter.decode(value, instances)
        except ValueError:
            raise ArgumentsDoNotFit(
                self._processor_name,
                f"the stored {parameter.name} is not what run() takes, {parameter.shown}.",
            ) from None
        return tuple(args), kwargs


def _key(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[object, ...]:
    return (*map(type, args), *kwargs, *map(type, kwargs.values()))
