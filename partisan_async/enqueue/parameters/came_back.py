"""Compares a value that was stored and read back with the value that was passed.

Equality is not enough: ``True == 1``, and a value of a subclass may equal one of its base class.
Nor does the ``==`` of a class compare attributes that are no fields.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import cached_property
from inspect import getattr_static
from itertools import chain
from typing import Any, NamedTuple

from django.conf import settings
from django.db.models import Model
from django.utils.functional import LazyObject
from django.utils.functional import cached_property as django_cached_property

from partisan_async.enqueue.parameters.frozen import real_type

_Pair = tuple[Any, Any, str]

LOST = object()
"""Stands for an attribute that did not come back."""

_CACHED = (cached_property, django_cached_property)
"""What is kept beside the fields, and made of them again."""


class Difference(NamedTuple):
    """The first place where the value read back differs from the value passed."""

    place: str
    passed: Any
    back: Any


def difference(passed: Any, back: Any, place: str) -> Difference | None:
    """Return where the two differ in value or in type; ``None`` if they do not."""
    kind = type_of(passed)
    if kind is int and isinstance(back, float):  # a parameter of type float takes an int
        return None if passed == back else Difference(place, passed, back)
    if type_of(back) is not kind:
        return Difference(place, passed, back)
    inner = _inside(kind, passed, back, place)
    if inner is None:
        return None if _same(passed, back) else Difference(place, passed, back)
    if not dataclasses.is_dataclass(kind) and len(passed) != len(back):
        return Difference(place, passed, back)
    return next((found for each in inner if (found := difference(*each))), None)


def _inside(kind: type, passed: Any, back: Any, place: str) -> Iterator[_Pair] | None:
    """Return the pairs of parts to compare; ``None`` if the two values have no parts."""
    if issubclass(kind, dict):
        return _of_dicts(passed, back, place)
    if issubclass(kind, list | tuple):
        pairs = enumerate(zip(passed, back, strict=False))
        items = ((one, other, f"{place}[{n}]") for n, (one, other) in pairs)
        return items if kind in (list, tuple) else chain(items, _of_others((), passed, back, place))
    if issubclass(kind, set | frozenset):
        known = {each: each for each in back}
        return ((each, known.get(each), f"{place}[…]") for each in passed)
    if dataclasses.is_dataclass(kind):
        names = [each.name for each in dataclasses.fields(kind)]
        fields = ((getattr(passed, n), getattr(back, n), f"{place}.{n}") for n in names)
        return chain(fields, _of_others(names, passed, back, place))
    return None


def _of_others(fields: Sequence[str], passed: Any, back: Any, place: str) -> Iterator[_Pair]:
    """Yield the attributes that are no fields; those of a ``__post_init__()`` do come back."""
    made, kind = _attributes(back), type(passed)
    for name, value in _attributes(passed).items():
        if name not in fields and not isinstance(getattr_static(kind, name, None), _CACHED):
            yield value, made.get(name, LOST), f"{place}.{name}"


def _attributes(value: Any) -> dict[str, Any]:
    """Return what an object holds, by its ``__dict__`` and its ``__slots__``."""
    slots = chain.from_iterable(
        [each] if isinstance(each, str) else each
        for each in (vars(base).get("__slots__", ()) for base in type(value).__mro__)
    )
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    found |= getattr(value, "__dict__", {})
    # Python's own, such as what Pair[int](…) was called by, are not what was passed.
    return {name: each for name, each in found.items() if not name.startswith("__")}


def _of_dicts(passed: dict[Any, Any], back: dict[Any, Any], place: str) -> Iterator[_Pair]:
    keys = {each: each for each in back}
    for key, value in passed.items():
        yield key, keys.get(key), f"a key of {place}"
        yield value, back.get(key), f"{place}[{key!r}]"


def type_of(value: Any) -> type:
    """Return the type of a value; for a lazy object, the type of what it wraps."""
    if isinstance(value, LazyObject) and isinstance(value, Model):
        return value.__class__  # of the wrapped instance
    return real_type(type(value))


def _same(passed: Any, back: Any) -> bool:
    match passed:
        case datetime.datetime():
            return _same_moment(passed, back)
        case datetime.time():
            alike = (passed.tzinfo is None) == (back.tzinfo is None) and passed.fold == back.fold
            return alike and passed == back
        case Decimal():
            return not passed.is_nan() and bool(passed == back)
        case _:
            return bool(passed == back)


def _same_moment(passed: datetime.datetime, back: datetime.datetime) -> bool:
    if passed.tzinfo is None or back.tzinfo is None:
        alike = passed.tzinfo is back.tzinfo and passed == back and not passed.fold
        return alike and not naive_where_aware_is_needed(passed)
    # Not passed == back: between two zones it is always False in the hour when a clock goes back.
    return passed.utcoffset() == back.utcoffset() and passed.replace(tzinfo=None) == back.replace(
        tzinfo=None
    )


def naive_where_aware_is_needed(value: Any) -> bool:
    """Tell whether this is a naive datetime in a project with ``USE_TZ``."""
    return isinstance(value, datetime.datetime) and value.tzinfo is None and settings.USE_TZ
