"""The parameters of ``run()``: what a call may pass, how it is stored, and how it is read.

A *call* is ``(args, kwargs)`` as the caller wrote it. It is *stored* as plain JSON without types;
the annotations of ``run()`` say which values a worker makes of that JSON.
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
"""Types of a ``run()`` that is defined in a class body."""


class _Known(dict[type, "Parameters | None"]):
    """Caches the parameters of each class, made at their first use.

    Only then can every annotation be resolved. An error is not cached.
    """

    def __missing__(self, processor_class: type) -> Parameters | None:
        made = _parameters(processor_class)
        # Do not cache the parameters of a mock that a test put there.
        if isinstance(inspect.getattr_static(processor_class, "run", None), _KINDS):
            self[processor_class] = made
        return made


# A dict lookup, since each call and each run needs it: functools.cache takes twice as long.
parameters_of = _Known().__getitem__
"""Return the parameters of a processor's ``run()``; ``None`` if it has none.

Raises ``TypeError``: an annotation cannot be resolved, or its values cannot be stored.
"""


def _parameters(processor_class: type) -> Parameters | None:
    declared = parameters_declared_by(processor_class)
    if declared is None:
        return None
    # Imported here, so that a project without such processors does not load msgspec's 1.2 MB.
    from partisan_async.enqueue.parameters.parameters import Parameters

    return Parameters(processor_class, declared)
