"""The parameters of ``run()``: what a call may pass, how it is stored, and what comes back of it.

A *call* is ``(args, kwargs)`` as the caller wrote it; it is *stored* as plain JSON, without a word
about types; the annotations of ``run()`` say what a worker makes of that JSON.
"""

from __future__ import annotations

import inspect
from types import FunctionType
from typing import TYPE_CHECKING

from partisan_async.enqueue.parameters.signature import parameters_declared_by
from partisan_async.enqueue.parameters.stored import Stored

if TYPE_CHECKING:
    from partisan_async.enqueue.parameters.parameters import Parameters

__all__ = ["Stored", "parameters_of"]


_KINDS = (FunctionType, staticmethod, classmethod)
"""What a class body makes of a ``run()``."""


class _Known(dict[type, "Parameters | None"]):
    """Makes those of each class once, when they are first asked for.

    Only then can every annotation be resolved. What raises is made again at the next call.
    """

    def __missing__(self, processor_class: type) -> Parameters | None:
        made = _parameters(processor_class)
        # A mock, put there by a test, is not to be remembered.
        if isinstance(inspect.getattr_static(processor_class, "run", None), _KINDS):
            self[processor_class] = made
        return made


# A dict's own method: each call and each run asks, and functools.cache takes twice as long.
parameters_of = _Known().__getitem__
"""Return the parameters of a processor's ``run()``; ``None`` where it has none.

Raises ``TypeError``: an annotation cannot be resolved, or its values cannot be stored.
"""


def _parameters(processor_class: type) -> Parameters | None:
    declared = parameters_declared_by(processor_class)
    if declared is None:
        return None
    # Not above: a project that has no such processor does not load msgspec, which takes 1.2 MB.
    from partisan_async.enqueue.parameters.parameters import Parameters

    return Parameters(processor_class, declared)
