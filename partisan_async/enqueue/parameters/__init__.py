"""The parameters of ``run()``: what a call may pass, how it is stored, and what comes back of it.

A *call* is ``(args, kwargs)`` as the caller wrote it; it is *stored* as plain JSON, without a word
about types; the annotations of ``run()`` say what a worker makes of that JSON.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from partisan_async.enqueue.parameters.exceptions import ArgumentsDoNotFit, RowMissing
from partisan_async.enqueue.parameters.signature import parameters_declared_by
from partisan_async.enqueue.parameters.stored import Stored

if TYPE_CHECKING:
    from partisan_async.enqueue.parameters.parameters import Parameters

__all__ = ["ArgumentsDoNotFit", "RowMissing", "Stored", "parameters_of"]


@cache
def parameters_of(processor_class: type) -> Parameters | None:
    """Return the parameters of a processor's ``run()``; ``None`` where it has none.

    Made once for each class, when they are first asked for: only then can every annotation be
    resolved.

    :raises TypeError: an annotation cannot be resolved, or its values cannot be stored.
    """
    declared = parameters_declared_by(processor_class)
    if declared is None:
        return None
    # Not above: a project that has no such processor does not load msgspec, which takes 1.2 MB.
    from partisan_async.enqueue.parameters.parameters import Parameters

    return Parameters(processor_class, declared)
