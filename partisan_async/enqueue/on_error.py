"""Makes the call of an ``ON_ERROR``: what is enqueued when a task ends in ``error``.

Its one argument is that task's id, which the statement that enqueues it puts in.
"""

from __future__ import annotations

from typing import Any

from partisan_async import registry
from partisan_async.claim import Call
from partisan_async.enqueue import arguments, limits
from partisan_async.enqueue.parameters import Stored, parameters_of
from partisan_async.enqueue.parameters.signature import taken_by
from partisan_async.enqueue.turn import checked_priority
from partisan_async.exceptions import ArgumentsDoNotFit
from partisan_async.models import Task
from partisan_async.validation import check_queue_name

_WITH_ID = Stored([1], {})


def call_without_id(
    name: str, queue_name: str, priority: int, encoded: str = arguments.encode((), {})
) -> Call:
    """Return a call that every insert takes.

    :raises ValueError: one of these cannot be.
    """
    if wrong := check_queue_name(queue_name):
        raise ValueError(f"The queue's name is {queue_name!r}; it {wrong}.")
    # Without a digest: one that waits for an earlier end must not swallow that of a later one.
    return Call(queue_name, name, encoded, checked_priority(priority), None, digest=None)


def call_of(processor_class: type[Any]) -> Call:
    """Return the call of a processor, without the id.

    :raises ProcessorClassNotFound: it is not registered.
    :raises TypeError, ValueError: its limit, its queue or its priority cannot be.
    """
    name, _ = registry.names_for_calls(processor_class)
    call = call_without_id(name, processor_class.QUEUE_NAME, processor_class.PRIORITY)
    return limits.with_limit_unasked(call, processor_class)


def wrong_call(processor_class: type, base: type) -> str | None:
    """Return why a processor cannot be called with the id of a task alone, if it cannot.

    :param base: the class whose ``__init__`` takes whatever it gets.
    """
    try:
        parameters = parameters_of(processor_class)
    except TypeError:  # of another kind, and told by another check
        return None
    if parameters is None:
        return _wrong_init(processor_class, base)
    try:
        others = [each for each in parameters.models(_WITH_ID) if not issubclass(each, Task)]
    except ArgumentsDoNotFit as error:
        return error.why
    return f"it would take that for the key of a {others[0].__name__}." if others else None


def _wrong_init(processor_class: Any, base: Any) -> str | None:
    if processor_class.__init__ is base.__init__:
        return None
    try:
        taken_by(processor_class).bind(*_WITH_ID.args)
    except (TypeError, ValueError) as error:
        return f"{error}."
    return None
