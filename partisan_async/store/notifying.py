"""Notifies the supervisors of a queue, each queue on a channel of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from partisan_async.store.statement import Statement

HELD_NO_MORE = "held"
"""Said by NOTIFY: rows that supervisors hold were taken from them by hand."""

STEERED = "steered"
"""Said by NOTIFY: an operator paused, resumed or drained, or switched a schedule; the beat reads
which."""


def channel(queue_name: str) -> str:
    """Return the NOTIFY channel of a queue: its name, or where that is too long, its hash."""
    name = f"partisan_async.{queue_name}"
    if len(name.encode()) < 64:
        return name
    return f"partisan_async.{hashlib.sha256(queue_name.encode()).hexdigest()[:40]}"


def wake(queue_names: Sequence[str]) -> Statement:
    """Wake the supervisors of these queues: rows are ready there."""
    # In a hurry, as below; one statement, which can be prepared.
    sql = """
    SELECT set_config('synchronous_commit', 'off', true), pg_notify(c.channel, 'new')
    FROM unnest(%(channels)s::text[]) AS c (channel)
    """
    return Statement(sql, {"channels": [channel(each) for each in queue_names]})


def notify(queue_name: str, status: str = "", *, within: bool = False) -> Statement:
    """Wake the supervisors of a queue: rows of this status are there, or of any.

    :param within: in a transaction that writes, too, and not in one of its own.
    """
    # Its commit would wait for the disk, with a lock that all commits with a NOTIFY share; but
    # after a crash nobody listens any more. pg_notify() takes the server longer: it is planned.
    hurry = "" if within else "SET LOCAL synchronous_commit = off; "
    name = channel(queue_name).replace('"', '""').replace("%", "%%")
    return Statement(f"""{hurry}NOTIFY "{name}", '{status}'""", {})
