"""Resolves the annotations of ``run()``: lazy ones, inherited ones, and those of generic bases."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from functools import reduce
from operator import or_
from types import FunctionType, SimpleNamespace, UnionType
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from partisan_async.enqueue.parameters import frozen
from partisan_async.enqueue.parameters.signature import owner_of_run
from partisan_async.enqueue.parameters.stored import NOT_OF_THE_VALUE


class UnresolvedError(TypeError):
    """An annotation names something that does not exist at run time.

    :param place: "the annotation of x"; ``why`` completes that sentence.
    """

    def __init__(self, place: str, error: Exception) -> None:
        self.why = f"cannot be resolved: {error}"
        self.way_out = (
            "Import what it names, or define it, at the top of the module: outside of functions and"
            " of `if TYPE_CHECKING:`"
            if isinstance(error, NameError)
            else "Take one of the types in docs/howto/arguments.md"
        )
        super().__init__(f"{place} {self.why}. {self.way_out}.")


def resolve(processor_class: type, parameter: inspect.Parameter) -> Any:
    """Return the type of a parameter; ``Any`` if it has no annotation.

    :raises UnresolvedError: a name in the annotation does not exist at run time.
    """
    if parameter.annotation is parameter.empty:
        return Any
    owner = owner_of_run(processor_class)
    holder = SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    try:
        known = _type_parameters(owner) | _classes_in(owner)
        hints = get_type_hints(holder, _globals(owner), known, include_extras=True)
    except NOT_OF_THE_VALUE:
        raise
    except Exception as error:
        raise UnresolvedError(place_of(processor_class, parameter.name), error) from error
    known = frozen.real_types() | _type_variables(processor_class, owner)
    return _substituted(hints[parameter.name], known)


def place_of(processor_class: type, parameter: str) -> str:
    """Return where an annotation is, as sentences about it begin."""
    return f"{processor_class.__name__}.run(): the annotation of {parameter}"


def _type_parameters(owner: type) -> dict[str, Any]:
    """Return the T of ``class Handle[T]`` and ``def run[T]``, which is in no namespace."""
    of_run = getattr(_function(owner), "__type_params__", ())
    found = (*getattr(owner, "__type_params__", ()), *of_run)
    return {each.__name__: each for each in found}


def _classes_in(owner: type) -> dict[str, Any]:
    """Return what an annotation may name of a class: not a method, such as one called ``list``."""
    return {
        name: each
        for name, each in vars(owner).items()
        if not isinstance(each, FunctionType | classmethod | staticmethod | property)
    }


def _globals(owner: type) -> dict[str, Any]:
    # A mock with the signature of the real run() has the names of mock's own module.
    of_module = vars(sys.modules.get(owner.__module__, SimpleNamespace()))
    return {**of_module, **getattr(_function(owner), "__globals__", {})}


def _function(owner: type) -> Any:
    run = inspect.unwrap(inspect.getattr_static(owner, "run"))
    return inspect.unwrap(getattr(run, "__func__", run))  # of a static method


def _type_variables(processor_class: type, owner: type) -> dict[Any, Any]:
    """Return the types that a derived class gives to the type variables of a generic ``owner``."""
    found: dict[Any, Any] = {}
    for base in processor_class.__mro__:
        for generic in vars(base).get("__orig_bases__", ()):
            origin = get_origin(generic)
            if origin is Generic or not isinstance(origin, type):
                continue
            variables = getattr(origin, "__parameters__", ())
            given = (_substituted(each, found) for each in get_args(generic))
            found |= dict(zip(variables, given, strict=False))
        if base is owner:
            break
    for each in (*getattr(owner, "__parameters__", ()), *_type_parameters(owner).values()):
        if each not in found and getattr(each, "has_default", bool)():  # from Python 3.13 on
            found[each] = _substituted(each.__default__, found)
    return found


def _substituted(hint: Any, known: Mapping[Any, Any]) -> Any:
    if isinstance(hint, type | TypeVar) and hint in known:
        return known[hint]
    origin, inner = get_origin(hint), get_args(hint)
    if not known or not inner or origin is Literal:
        return hint
    if origin is Annotated:
        return Annotated[(_substituted(inner[0], known), *hint.__metadata__)]
    replaced = tuple(_substituted(each, known) for each in inner)
    if replaced == inner:
        return hint
    return reduce(or_, replaced) if origin in (Union, UnionType) else origin[replaced]
