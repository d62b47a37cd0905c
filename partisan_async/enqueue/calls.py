"""Makes the call of a processor: checks it, and encodes its arguments."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from partisan_async import registry
from partisan_async.claim import Call
from partisan_async.enqueue import arguments, keys, limits, refusals
from partisan_async.enqueue.parameters import parameters_of
from partisan_async.enqueue.subjects import subject_of
from partisan_async.enqueue.turn import checked_priority, checked_queue, checked_time
from partisan_async.limits import Limit
from partisan_async.unique import Unique


class Delayed(Protocol):
    """The attributes of a processor that its call depends on."""

    PRIORITY: ClassVar[int]
    QUEUE_NAME: ClassVar[str]
    UNIQUE_FOR_PARAMS: ClassVar[bool]
    UNIQUE: ClassVar[Unique | None]
    LIMIT: ClassVar[Limit | None]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    _claimed: Callable[[], Any] | None


def call_of(
    processor: Delayed,
    priority: int,
    execute_after: datetime.datetime | None,
    queue_name: str | None = None,
    subject: str | None = None,
) -> Call:
    """Return the call of a processor; parameters and errors as for ``delay``."""
    queue = checked_queue(queue_name, processor)
    encoded = encoded_of(processor, queue)
    kind = type(processor)
    name, lasting_name = registry.names_for_calls(kind)
    digests = processor.UNIQUE_FOR_PARAMS and processor.UNIQUE is None
    subject = subject_of(processor, subject)
    call = Call(
        queue_name=queue,
        processor_class=name,
        arguments=encoded,
        priority=checked_priority(priority or processor.PRIORITY),
        execute_after=checked_time("execute_after", execute_after),
        digest=arguments.digest(lasting_name, encoded, subject) if digests else None,
        subject=subject,
    )
    if processor.LIMIT is not None:
        call = _in_limit(call, processor, lasting_name)
    return call if processor.UNIQUE is None else keys.with_key(call, kind, lasting_name)


def _in_limit(call: Call, processor: Delayed, lasting_name: str) -> Call:
    kind, limit = type(processor), processor.LIMIT
    limits.refuse_wrong(kind)
    assert limit is not None
    whose, way = f"{kind.__name__}.LIMIT", f"set {kind.__name__}.QUEUE_NAME"
    limits.refuse_other_queue(limit, call.queue_name, processor.QUEUE_NAME, whose, way)
    return limits.limited(call, limit, lasting_name, limits.key_of(processor))


def encoded_of(processor: Delayed, queue_name: str) -> str:
    """Return the arguments of a processor's call, encoded; errors as for ``delay``.

    :param queue_name: the queue whose ``MAX_ARGUMENTS_BYTES`` applies.
    """
    if processor._claimed is not None:  # noqa: SLF001  set by Telling, its base class
        raise refusals.running_call(processor)
    parameters = parameters_of(type(processor))
    encode = arguments.encode if parameters is None else parameters.encode
    encoded = encode(processor.args, processor.kwargs)
    arguments.require_size(encoded, queue_name)
    return encoded
