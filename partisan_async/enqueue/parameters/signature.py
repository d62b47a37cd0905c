"""Which parameters ``run()`` declares: names, kinds and defaults, before any type is resolved."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any, ParamSpecArgs, ParamSpecKwargs

Declared = tuple[inspect.Parameter, ...]

_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def parameters_declared_by(processor_class: type) -> Declared | None:
    """Return the parameters of ``run()`` without ``self``; ``None`` if it takes no arguments.

    A bare ``run(self, *args, **kwargs)`` counts as none: it may be a decorator's wrapper, without
    ``functools.wraps``, around a ``run(self)`` that takes nothing.
    """
    run: Any = getattr(processor_class, "run", None)
    try:
        declared = tuple(_signature(run).parameters.values())
    except (TypeError, ValueError):  # a callable without a signature
        return None
    if not isinstance(inspect.getattr_static(processor_class, "run"), staticmethod | classmethod):
        declared = declared[1:]
    bare = all(each.kind in _VARIABLE and _says_nothing(each.annotation) for each in declared)
    return None if bare else declared


def _says_nothing(annotation: Any) -> bool:
    """Tell whether an annotation allows any value, as that of a wrapper does."""
    if isinstance(annotation, str):
        return annotation.split(".")[-1] in ("Any", "object", "args", "kwargs")
    spec = (ParamSpecArgs, ParamSpecKwargs)
    return annotation in (inspect.Parameter.empty, Any, object) or isinstance(annotation, spec)


def owner_of_run(processor_class: type) -> type:
    """Return the class whose body defines the ``run()`` of this class."""
    return next(base for base in processor_class.__mro__ if "run" in vars(base))


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
