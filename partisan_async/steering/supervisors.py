"""Drains supervisors."""

from __future__ import annotations

from uuid import UUID

from partisan_async import store
from partisan_async.enqueue.run import fetch
from partisan_async.enqueue.wake import wake
from partisan_async.steering import audit


def drain(supervisor_id: UUID) -> bool:
    """Have a supervisor start nothing more, and end when all its runs have ended.

    Return whether there is such a supervisor. Its service manager may start another in its place.
    """
    rows = fetch(*store.drain(supervisor_id))
    for (queue_name,) in rows:
        wake(queue_name, store.STEERED, store.database())
        audit.put_down("drain", [supervisor_id], queue_name=queue_name)
    return bool(rows)
