"""Says which annotations can be stored: JSON can hold their values, and keep them apart."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any, NamedTuple, get_origin

from django.db.models import Model
from msgspec import inspect as types

from partisan_async.enqueue.parameters import frozen
from partisan_async.enqueue.parameters.stored import NOT_OF_THE_VALUE

_KEYS = (
    types.StrType, types.IntType, types.FloatType, types.EnumType, types.LiteralType,
    types.UUIDType, types.DecimalType, types.DateTimeType, types.DateType, types.TimeType,
    types.TimeDeltaType, types.AnyType,
)  # fmt: skip
"""Types of dict keys: JSON keys are text, and these types can be read from text."""

_UNHASHABLE = (types.ListType, types.DictType, types.SetType, types.TypedDictType)

_UNKNOWN = (
    types.RawType, types.ExtType, types.StructType, types.ByteArrayType, types.MemoryViewType,
)  # fmt: skip
"""Types of msgspec that ``run()`` does not take."""


class Wrong(NamedTuple):
    """Why an annotation is refused, to complete "the annotation of x …", and the way out."""

    why: str
    way_out: str


_UNEQUAL_VALUES = Wrong(
    "has an enum whose values are not all str, or all int", "Give it such values"
)


def is_choices(hint: Any) -> bool:
    """Tell whether this is an enum with its own metaclass, which msgspec does not support."""
    return isinstance(hint, enum.EnumMeta) and type(hint) is not enum.EnumMeta


def wrong_type(hint: Any) -> Wrong | None:
    """Return why values of this type cannot be parameters; ``None`` if they can."""
    try:
        root = types.type_info(hint)
    except TypeError as error:
        return _not_supported(str(error))
    except NOT_OF_THE_VALUE:
        raise
    except Exception as error:  # noqa: BLE001  lazy annotations of a class in it may raise anything
        return Wrong(
            f"cannot be resolved: {error}",
            "Import what it names outside of `if TYPE_CHECKING:`",
        )
    return next((wrong for each in _all(root, set()) if (wrong := _wrong(each))), None)


def has_models(hint: Any) -> bool:
    """Tell whether a type that ``wrong_type`` accepts contains a model."""
    return _has_models(types.type_info(hint))


def has_sets(hint: Any) -> bool:
    """Tell whether a set is in a type."""
    return _has(hint, types.SetType, types.FrozenSetType)


def has_fields(hint: Any) -> bool:
    """Tell whether a type contains a class that ignores unknown fields when it is read."""
    return _has(hint, types.DataclassType, types.TypedDictType)


def _has(hint: Any, *kinds: type[types.Type]) -> bool:
    return any(isinstance(each, kinds) for each in _all(types.type_info(hint), set()))


def _wrong(node: types.Type) -> Wrong | None:
    match node:
        case types.CustomType():
            return _wrong_class(node.cls)
        case types.DictType() if not all(isinstance(k, _KEYS) for k in _members(node.key_type)):
            return Wrong("has a dict with keys that JSON cannot hold", "Key it by str or int")
        case types.SetType() | types.FrozenSetType():
            if _has_models(node.item_type):
                return Wrong("has a set of models", "Take a list of them")
            if any(isinstance(item, _UNHASHABLE) for item in _members(node.item_type)):
                return Wrong("has a set of unhashable values", "Take a set of tuples, or a list")
        case types.DataclassType() if wrong := _wrong_dataclass(get_origin(node.cls) or node.cls):
            return wrong
        case types.DataclassType() | types.NamedTupleType() if _has_models(node):
            return Wrong(
                f"has {node.cls.__name__} with a model in it",
                "Make the model a parameter of its own, or keep its key in the class",
            )
        case _ if isinstance(node, _UNKNOWN):
            return Wrong("is a type of msgspec's own", "Use a dataclass, or bytes")
    return None


def _wrong_dataclass(found: type) -> Wrong | None:
    if not is_dataclass(found):
        return Wrong(f"has {found.__name__}, which is no dataclass", "Make it one")
    if "__dataclass_fields__" not in vars(found):
        why = "is derived of a dataclass and is none itself"
        return Wrong(f"has {found.__name__}, which {why}", "Decorate it with @dataclass, too")
    code = getattr(found.__init__, "__code__", None)
    if code is not None and code.co_filename != "<string>":  # as that of @dataclass is
        return Wrong(
            f"has {found.__name__} with an __init__() of its own, which no worker calls",
            "Leave it to @dataclass, and do the rest in __post_init__() or in a class method",
        )
    return None


def _wrong_class(found: Any) -> Wrong | None:
    if found in frozen.real_types().values():  # msgspec then knows only freezegun's fakes
        return None
    if is_choices(found):  # msgspec takes no enum with a metaclass of its own, as Django's have
        kinds = {type(each.value) for each in found}
        if kinds in ({str}, {int}):
            return None
        return _UNEQUAL_VALUES
    if not (isinstance(found, type) and issubclass(found, Model)):
        return Wrong(
            f"has values of {getattr(found, '__name__', found)}, which JSON cannot hold",
            "Pass the key of a row, text, or a dataclass; or annotate it as Any for plain JSON",
        )
    if found is Model or found._meta.abstract:  # noqa: SLF001  documented in spite of its name
        return Wrong(
            f"has {found.__name__}, an abstract model, which has no rows",
            "Name the model that is derived of it",
        )
    return None


def _has_models(node: types.Type) -> bool:
    return any(
        isinstance(each, types.CustomType)
        and isinstance(each.cls, type)
        and issubclass(each.cls, Model)
        for each in _all(node, set())
    )


def _members(node: types.Type) -> tuple[types.Type, ...]:
    return node.types if isinstance(node, types.UnionType) else (node,)


def _all(node: Any, seen: set[int]) -> Iterator[types.Type]:
    """Yield a type and all types in it; a class that contains itself only once."""
    if isinstance(node, tuple):
        for each in node:
            yield from _all(each, seen)
    elif isinstance(node, types.Type | types.Field) and id(node) not in seen:
        seen.add(id(node))
        if isinstance(node, types.Type):
            yield node
        for name in node.__struct_fields__:
            yield from _all(getattr(node, name), seen)


def _not_supported(why: str) -> Wrong:
    if "custom type" in why:
        return Wrong(
            "is a union of a model, or a class of yours, and more than None", "Take one of them"
        )
    if "Type unions" in why:
        return Wrong(
            "is a union whose values look alike in JSON, so that no worker could tell them apart",
            "Take one of them, or two parameters",
        )
    if "Enums must" in why:
        return _UNEQUAL_VALUES
    return Wrong(f"cannot be stored: {why}", "Take one of the types in docs/howto/arguments.md")
