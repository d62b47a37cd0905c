"""Finds attributes of processors that have the name of what each object of them has anyway."""

from __future__ import annotations

from collections.abc import Iterator

from partisan_async.processor import BaseTaskProcessor

PUT_ON_SELF = {
    "args": "what the call passes by position",
    "kwargs": "what the call passes by name",
    "task_obj": "the row that it runs",
    "stopping": "whether its supervisor is stopping",
}
"""What the base has on each object. A class may have any other name, such as ``subject``."""


def own_names(processor: type[BaseTaskProcessor]) -> Iterator[tuple[type, str, str]]:
    """Yield each such attribute: the class that has it, its name, and what the base has there."""
    for owner in processor.__mro__:
        if owner in BaseTaskProcessor.__mro__:
            continue
        for name in vars(owner):
            if name in PUT_ON_SELF:
                yield owner, name, PUT_ON_SELF[name]
