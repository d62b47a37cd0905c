"""Tells whether the values of a frame have the types that its class declares.

A task can write anything to its process's link. A wrong type would raise later, in the supervisor's
own code, and end it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, NamedTuple, cast, get_args, get_origin, get_type_hints

MOST = 2**63
"""Upper bound of numbers in frames: 0 <= number < MOST, which excludes NaN, too."""


class _Field(NamedTuple):
    name: str
    kinds: tuple[type, ...]


def is_well_formed(value: Any) -> bool:
    """Tell whether all fields of a frame, and of dataclasses in it, have their declared types."""
    return all(
        _fits(getattr(value, name), kinds) for name, kinds in _fields_of(cast("Any", type(value)))
    )


def _fits(value: Any, kinds: tuple[type, ...]) -> bool:
    kind = type(value)  # not isinstance(): True is no int here
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
        return (list, tuple)  # its reader expects items of any type
    kinds = get_args(hint) or (hint,)
    # Some JSON encoders write 1.0 as 1.
    return (*kinds, int) if float in kinds else kinds
