"""Which parameters ``run()`` declares: names, kinds and defaults, before any type is resolved."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ParamSpecArgs, ParamSpecKwargs

Declared = tuple[inspect.Parameter, ...]

_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def parameters_declared_by(processor_class: type) -> Declared | None:
    """Return the parameters of ``run()`` without ``self``; ``None`` if it takes no arguments.

    A bare ``run(self, *args, **kwargs)`` takes what the ``run()`` that it overrides takes. If it
    overrides none, it counts as none: it may be a decorator's wrapper, without
    ``functools.wraps``, around a ``run(self)`` that takes nothing.
    """
    return next((each for _, each in _declarations(processor_class) if each), None)


def _declarations(processor_class: type) -> Iterator[tuple[type, Declared | None]]:
    """Yield whose ``run()`` each is and what it declares, up to one that is not bare."""
    for owner in processor_class.__mro__:
        if "run" in vars(owner):
            declared = _declared_in(owner)
            bare = not declared or all(map(_is_bare, declared))
            yield owner, None if bare else declared
            if not bare or not declared:
                return


def _declared_in(owner: type) -> Declared | None:
    run: Any = getattr(owner, "run")  # noqa: B009  mypy does not know that it is there
    try:
        declared = tuple(_signature(run).parameters.values())
    except (TypeError, ValueError):  # a callable without a signature
        return None
    if isinstance(vars(owner)["run"], staticmethod | classmethod):
        return declared
    return declared[1:]


def _is_bare(parameter: inspect.Parameter) -> bool:
    return parameter.kind in _VARIABLE and _says_nothing(parameter.annotation)


def _says_nothing(annotation: Any) -> bool:
    """Tell whether an annotation allows any value, as that of a wrapper does."""
    if isinstance(annotation, str):
        return annotation.split(".")[-1] in ("Any", "object", "args", "kwargs")
    spec = (ParamSpecArgs, ParamSpecKwargs)
    return annotation in (inspect.Parameter.empty, Any, object) or isinstance(annotation, spec)


def owner_of_run(processor_class: type) -> type:
    """Return the class whose body has the ``run()`` with this class's parameters."""
    return next(owner for owner, declared in _declarations(processor_class) if declared)


def taken_by(processor_class: type) -> inspect.Signature:
    """Return what the ``__init__()`` of an untyped processor takes."""
    return inspect.signature(processor_class).replace(return_annotation=inspect.Signature.empty)


def shown(declared: Sequence[inspect.Parameter]) -> str:
    """Return the parameters as a person writes them: ``run(order, *, at=…)``."""
    bare = [
        each.replace(
            annotation=each.empty, default=each.empty if each.default is each.empty else _Shown()
        )
        for each in declared
    ]
    return f"run{inspect.Signature(bare)}"


class _Shown:
    """Stands for a default, which may be long, or a secret."""

    def __repr__(self) -> str:
        return "…"


def _signature(run: Callable[..., Any]) -> inspect.Signature:
    if sys.version_info < (3, 14):
        return inspect.signature(run)
    # From Python 3.14 on, annotations are evaluated when they are read, and may raise.
    import annotationlib  # type: ignore[import-not-found,unused-ignore]

    return inspect.signature(run, annotation_format=annotationlib.Format.FORWARDREF)
