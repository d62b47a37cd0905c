"""The kinds of room that tasks wait for; a task waits only for tasks of its own kind.

A *sync* task waits for a worker that runs no other, an *async* one for a place on an event loop,
and one that must run *alone* for a worker that is empty.
"""

from __future__ import annotations

from enum import Enum

from partisan_async import registry
from partisan_async.claim import Claim
from partisan_async.declared import is_async
from partisan_async.exceptions import ProcessorClassNotFound


class Kind(Enum):
    """The kind of room that a task waits for."""

    ALONE = "alone"
    SYNC = "sync"
    ASYNC = "async"


def kind_of(claim: Claim) -> Kind | None:
    """Return the kind of room that a task waits for; ``None``: its processor is not known here."""
    try:
        processor_class = registry.get(claim.processor_class)
    except ProcessorClassNotFound:
        return None
    if claim.alone:
        return Kind.ALONE
    return Kind.ASYNC if is_async(processor_class) else Kind.SYNC
