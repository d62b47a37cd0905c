"""One parameter of ``run()``: checks its value, writes it as JSON, and reads it back."""

from __future__ import annotations

import enum
from typing import Any

import msgspec
from django.db.models import Model

from partisan_async.enqueue.arguments import TOO_DEEP, canonical, require_json
from partisan_async.enqueue.parameters import frozen, refusals, rows
from partisan_async.enqueue.parameters.came_back import difference
from partisan_async.enqueue.parameters.instances import Instances, Saved
from partisan_async.enqueue.parameters.instead import shown
from partisan_async.enqueue.parameters.left_out import has_more
from partisan_async.enqueue.parameters.ordered import ordered
from partisan_async.enqueue.parameters.plain import plain_kinds
from partisan_async.enqueue.parameters.storable import has_fields, has_models, has_sets, is_choices
from partisan_async.enqueue.parameters.stored import NOT_OF_THE_VALUE, as_given_back


class Parameter:
    """Writes and reads the values of one parameter.

    :param name: the parameter's name in ``run()``.
    :param hint: the parameter's type; ``Any``: whatever JSON can hold.
    """

    def __init__(self, name: str, hint: Any) -> None:
        self.name = name
        self.hint = hint
        self.shown = shown(hint)
        self.has_models = hint is not Any and has_models(hint)
        self._as_stored = plain_kinds(hint) | ({float} if hint is float else set())
        self._has_fields = hint is not Any and has_fields(hint)
        self._has_sets = hint is not Any and has_sets(hint)

    def encode(self, value: Any, place: str | None = None) -> str:
        """Return the JSON of a value, from which ``decode`` makes an equal one of the same type.

        :param place: how messages name the value.
        :raises TypeError, ValueError: there is no such JSON; the message says where and why.
        """
        place = place or self.name
        try:
            if self.hint is Any:
                require_json(value, place)
                return canonical(value)
            return self._encode(value, place)
        except RecursionError:
            raise ValueError(f"{place}: {TOO_DEEP}") from None

    def decode(self, stored: Any, instances: Instances) -> Any:
        """Return the value that this JSON value was made of.

        :param instances: turns the stored key of a model into an instance.
        :raises ValueError: the JSON value is not what this parameter takes.
        """
        if self.takes_as_it_is(stored):
            return stored
        try:
            made = msgspec.convert(stored, self.hint, str_keys=True, dec_hook=_Made(instances))
        except NOT_OF_THE_VALUE:
            raise
        except Exception as error:  # a __post_init__() may raise anything
            raise ValueError(str(error)) from error
        if self._has_fields and has_more(stored, made):
            raise ValueError("unknown fields")
        return made

    def given_back(self, value: Any) -> Any:
        """Return a value that can be encoded as ``decode`` gives it back.

        A model instance is the very one that was passed.
        """
        if type(value) in self._as_stored:
            return value
        saved = Saved()
        if self.hint is not Any:
            value = msgspec.to_builtins(value, str_keys=True, enc_hook=_Hook(saved))
        return self.decode(as_given_back(canonical(value)), saved)

    def takes_as_it_is(self, stored: Any) -> bool:
        """Tell whether ``decode`` returns this stored value, and all of its type, as it is."""
        return self.hint is Any or type(stored) in self._as_stored

    def _encode(self, value: Any, place: str) -> str:
        saved = Saved()
        try:
            plain = msgspec.to_builtins(value, str_keys=True, enc_hook=_Hook(saved))
            if self._has_sets:
                plain = ordered(value, plain)
        except rows.UnsavedError as error:
            raise ValueError(f"{place} is a {error}.") from None
        except (TypeError, ValueError, ArithmeticError):  # the last: a Decimal that is NaN
            raise refusals.wrong_type(value, place, self.hint) from None
        require_json(plain, place)
        text = canonical(plain)
        try:
            back = self.decode(as_given_back(text), saved)
        except ValueError as error:
            if refusals.place_in(place, error) != place:
                raise refusals.not_within(place, self.hint, error) from None
            raise refusals.wrong_type(value, place, self.hint) from None
        if found := difference(value, back, place):
            raise refusals.changed(found, self.hint, place)
        return text


class _Made:
    """Makes the values that msgspec leaves to a hook: model instances and choices."""

    def __init__(self, instances: Instances) -> None:
        self._instances = instances

    def __call__(self, kind: Any, stored: Any) -> Any:
        if not is_choices(kind):
            return self._instances(kind, stored)
        if type(stored) is not type(next(iter(kind)).value):
            raise ValueError(f"no {kind.__name__}")
        return kind(stored)


class _Hook:
    """Makes plain values of model instances, choices and fakes of ``freezegun``."""

    def __init__(self, saved: Saved) -> None:
        self._saved = saved

    def __call__(self, value: Any) -> Any:
        if isinstance(value, Model):  # also a lazy object that wraps one, such as request.user
            return self._saved.store(value)
        if frozen.real_type(type(value)) is not type(value):
            return frozen.thawed(value)
        if isinstance(value, enum.Enum):
            return value.value
        raise TypeError(f"{type(value).__name__} cannot be stored")
