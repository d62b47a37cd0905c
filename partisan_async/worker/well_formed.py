"""Tells whether what came by the link is of the types that its classes say.

A task can write anything to its process's link. What is taken in must be as the code that deals
with it expects: an error there would be the supervisor's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, NamedTuple, cast, get_args, get_origin, get_type_hints

MOST = 2**63
"""No number that travels is as large, or below 0; a NaN is neither."""


class _Field(NamedTuple):
    name: str
    kinds: tuple[type, ...]


def is_well_formed(value: Any) -> bool:
    """Tell whether all fields of a frame, and those of what is in them, are of their types."""
    return all(
        _fits(getattr(value, name), kinds) for name, kinds in _fields_of(cast("Any", type(value)))
    )


def _fits(value: Any, kinds: tuple[type, ...]) -> bool:
    kind = type(value)  # not isinstance(): a bool is no number here
    if kind not in kinds:
        return False
    if kind is int or kind is float:
        return bool(0 <= value < MOST)
    return is_well_formed(value) if is_dataclass(kind) else True


@cache
def _fields_of(kind: Any) -> tuple[_Field, ...]:
    names = [each.name for each in fields(kind)] if is_dataclass(kind) else kind._fields
    hints = get_type_hints(kind)
    return tuple(_Field(name, _kinds_of(hints[name])) for name in names)


def _kinds_of(hint: Any) -> tuple[type, ...]:
    if get_origin(hint) is Sequence:
        return (list, tuple)  # what is in it, its reader takes for anything
    kinds = get_args(hint) or (hint,)
    # JSON has no other way to write 1.0 than some do to write 1.
    return (*kinds, int) if float in kinds else kinds
