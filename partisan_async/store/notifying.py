"""Notifies the supervisors of a queue. Each queue has its own channel."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from partisan_async.store.statement import Statement

LIMITED = "limited"
"""Payload of NOTIFY: rows wait for limits. Behind a colon there may be the ids of some, with commas
between: never their keys, which may be names of persons."""

TOLD_AT_MOST = 20
"""Maximum number of rows that a payload names; of more nothing is said but that there are."""

HELD_NO_MORE = "held"
"""Payload of NOTIFY: an operator took claimed rows from their supervisors."""

STEERED = "steered"
"""Payload of NOTIFY: an operator paused, resumed or drained, or switched a schedule. The beat reads
which."""


def channel(queue_name: str) -> str:
    """Return the NOTIFY channel of a queue: its name, or the name's hash if it is too long."""
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


def limited_payload(ids: Iterable[int]) -> str:
    """Return the payload that tells of rows that wait for limits."""
    several = sorted(set(ids))
    if not 1 <= len(several) <= TOLD_AT_MOST:
        return LIMITED
    return f"{LIMITED}:{','.join(map(str, several))}"


def notify(queue_name: str, status: str = "", *, within: bool = False) -> Statement:
    """Wake the supervisors of a queue: it has rows of this status, or of any.

    :param within: True if the caller's transaction also writes; False if the NOTIFY has its own.
    """
    # synchronous_commit = off: otherwise the commit waits for the disk while it holds the lock that
    # all commits with a NOTIFY share. A NOTIFY need not survive a crash: no listener does. Not
    # pg_notify(), which is slower, since a SELECT has to be planned.
    hurry = "" if within else "SET LOCAL synchronous_commit = off; "
    name = channel(queue_name).replace('"', '""').replace("%", "%%")
    return Statement(f"""{hurry}NOTIFY "{name}", '{status}'""", {})
