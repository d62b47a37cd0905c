"""Says what to pass instead of a value that its parameter does not take."""

from __future__ import annotations

import datetime
import decimal
import enum
import types
import typing
import uuid
from collections.abc import Iterable
from dataclasses import is_dataclass
from typing import Any

from django.db.models import Model
from django.utils.functional import Promise

_FROM_TEXT = {
    uuid.UUID: "uuid.UUID(value)",
    datetime.datetime: "datetime.fromisoformat(value)",
    datetime.date: "date.fromisoformat(value)",
    datetime.time: "time.fromisoformat(value)",
    decimal.Decimal: "Decimal(value)",
    bytes: "value.encode()",
}

_PLAIN_AGAIN = {str: "value + ''", int: "int(value)", float: "float(value)"}
"""Makes a plain value of a subclass's. Not ``str(value)``: it returns a ``SafeString`` as it is."""


def shown(hint: Any) -> str:
    """Return an annotation as people write it, without the modules: ``list[UUID] | None``."""
    if hint is type(None):
        return "None"
    inner = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " | ".join(shown(each) for each in inner)
    if typing.get_origin(hint) is typing.Literal:
        return f"Literal[{', '.join(map(repr, inner))}]"
    name = getattr(hint, "__name__", None) or str(hint)
    if not inner:
        return name
    return f"{name}[{', '.join('…' if each is ... else shown(each) for each in inner)}]"


def members(hint: Any) -> list[Any]:
    """Return the members of a union, or the single type itself, without ``None``."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return [hint]
    return [each for each in typing.get_args(hint) if each is not type(None)]


def instead(value: Any, hint: Any) -> str:
    """Return what to pass instead of ``value`` to a parameter of type ``hint``: "pass …"."""
    if value is None:
        return f"pass one, or annotate the parameter as {shown(hint)} | None"
    wanted = _plain(members(hint)[0])
    if typing.get_origin(wanted) is typing.Literal:
        return f"pass one of {_listed(typing.get_args(wanted))}"
    wanted = typing.get_origin(wanted) or wanted
    if typing.is_typeddict(wanted):
        return f"pass a dict with {_listed(wanted.__annotations__)}"
    way_out = _conversion(value, wanted) if isinstance(wanted, type) else None
    return f"pass {way_out or f'a {shown(wanted)} that you make of it'}"


def _plain(hint: Any) -> Any:
    """Return the type that stands behind ``NewType`` and ``type X = …``."""
    while behind := getattr(hint, "__supertype__", None) or getattr(hint, "__value__", None):
        hint = members(behind)[0]
    return hint


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(repr, values))


def _conversion(value: Any, wanted: type) -> str | None:
    if issubclass(wanted, Model):
        return _row(value, wanted)
    if isinstance(value, Model):
        return f"its key (value.pk), or annotate the parameter as {type(value).__name__}"
    if isinstance(value, Promise):
        return "str(value)"
    if isinstance(value, enum.Enum):
        return "value.value"
    if issubclass(wanted, enum.Enum):
        return f"{wanted.__name__}(value)"
    if isinstance(value, wanted) and not isinstance(value, bool | datetime.datetime):
        return _PLAIN_AGAIN.get(wanted) or _copy(wanted)
    return _number_or_time(value, wanted)


def _number_or_time(value: Any, wanted: type) -> str | None:
    match value:
        case str() if wanted in _FROM_TEXT:
            return _FROM_TEXT[wanted]
        case datetime.datetime() if wanted in (datetime.date, datetime.time):
            return f"value.{wanted.__name__}()"
        case datetime.date() if wanted is datetime.datetime:
            return "datetime.combine(value, time.min, timezone.get_current_timezone())"
        case int() | float() if wanted is datetime.datetime:
            return "datetime.fromtimestamp(value, datetime.UTC)"
        case dict() if is_dataclass(wanted) or hasattr(wanted, "_fields"):
            return f"{wanted.__name__}(**value)"
        case list() | tuple() if hasattr(wanted, "_fields"):
            return f"{wanted.__name__}(*value)"
        case int() | float() if wanted is datetime.timedelta:
            return "timedelta(seconds=value)"
        case float() if wanted is decimal.Decimal:
            return "Decimal(str(value))"
        case _ if wanted in (int, float, str, bool, list, tuple, set, frozenset, dict):
            return f"{wanted.__name__}(value)"
        case int() if wanted is decimal.Decimal:
            return "Decimal(value)"
        case _:
            return None


def _copy(wanted: type) -> str | None:
    return f"{wanted.__name__}(value)" if wanted in (dict, list, tuple, set, frozenset) else None


def _row(value: Any, wanted: type[Model]) -> str:
    name = wanted.__name__
    if isinstance(value, Model):
        return f"the {name} of that row: {name}.objects.get(pk=value.pk)"
    return (
        f"the instance, {name}.objects.get(pk=value), or annotate the parameter with the key's type"
    )
