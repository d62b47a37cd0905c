"""Pauses queues and processors, and ends their pauses."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from django.db import connections

from partisan_async import store
from partisan_async.enqueue.run import fetch
from partisan_async.enqueue.wake import wake
from partisan_async.models import Supervisor
from partisan_async.registry import discovered_names
from partisan_async.steering import audit

BROUGHT_BACK_SECONDS = 1.0
"""Time after which ``resume`` leaves the rest to supervisors; one statement may overrun it."""


def pause(queue_name: str | None = None, *, processor: str | None = None) -> bool:
    """Stop starting tasks of a queue or of a processor; runs go on, and ``delay()`` still enqueues.

    :param processor: pause this processor alone, by any of its names; without a queue: in every
        queue.
    :return: whether it was not paused before.
    :raises TypeError: neither is given.
    """
    if processor is None:
        queue_name = _named(queue_name)
        return _tell_queue("pause", queue_name, store.pause(queue_name))
    statement = store.pause_processor(discovered_names(processor), queue_name or "")
    to_wake = [queue_name] if queue_name else _served_queues()
    about = {"queue_name": queue_name, "processor": processor}
    return _tell("pause", _named_processor(processor, queue_name), to_wake, statement, **about)


def resume(queue_name: str | None = None, *, processor: str | None = None) -> bool:
    """End a pause; return whether there was one.

    Tasks that waited for the end of a processor's pause are made ready again: this call does so for
    about a second, and the supervisors of the queue do the rest at their beats.

    :param processor: end the pauses of this processor: the one in this queue, or without a queue
        all of them. The queue ``""`` ends the one that holds in every queue, and no other.
    :raises TypeError: neither is given.
    """
    if processor is None:
        queue_name = _named(queue_name)
        return _tell_queue("resume", queue_name, store.resume(queue_name))
    statement = store.resume_processor(discovered_names(processor), queue_name)
    about = {"queue_name": queue_name, "processor": processor}
    over = _tell("resume", _named_processor(processor, queue_name), [], statement, **about)
    # Supervisors do this, too, but not those of an older release.
    bring_back(BROUGHT_BACK_SECONDS)
    for name in [queue_name] if queue_name else _served_queues():
        wake(name, store.STEERED, store.database())
    return over


def bring_back(seconds: float = math.inf) -> None:
    """Make tasks ready again whose processors are no longer paused.

    Does nothing in a transaction of the caller's, which would keep the rows locked.

    :param seconds: no statement starts after this time.
    """
    if connections[store.database()].in_atomic_block:
        return
    until = time.monotonic() + seconds
    for (name,) in fetch(*store.parked_queues()):
        while fetch(*store.unpark(name)) != [(0,)]:
            if time.monotonic() >= until:
                return
    fetch(*store.end_pauses())


def _named(queue_name: str | None) -> str:
    if queue_name is None:
        raise TypeError('Say what: a queue, as in pause("imports"), or processor="Pay".')
    return queue_name


def _named_processor(processor: str, queue_name: str | None) -> str:
    return f"processor {processor!r} in {f'queue {queue_name!r}' if queue_name else 'every queue'}"


def _tell_queue(action: str, queue_name: str, statement: store.Statement) -> bool:
    thing = f"queue {queue_name!r}"
    return _tell(action, thing, [queue_name], statement, queue_name=queue_name)


def _tell(
    action: str, thing: str, queue_names: Sequence[str], statement: store.Statement, **about: Any
) -> bool:
    changed = fetch(*statement)
    for name in queue_names:
        wake(name, store.STEERED, store.database())
    if changed:
        audit.put_down(action, [thing], **about)
    return bool(changed)


def _served_queues() -> list[str]:
    rows = Supervisor.objects.using(store.database())
    return list(rows.values_list("queue_name", flat=True).distinct())
