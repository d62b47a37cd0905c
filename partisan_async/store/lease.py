"""The heartbeat's statements: they renew leases, find dead supervisors, and remove their rows."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import timedelta
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from partisan_async.models.status import Status
from partisan_async.policy import MAX_INTERRUPTED
from partisan_async.store.newcomers import NEWCOMERS
from partisan_async.store.statement import (
    DUE_SECONDS,
    Statement,
    due_seconds,
    is_alive,
    queue_names,
)

BEAT_SECONDS = 5.0
"""Interval of a supervisor's heartbeats."""

TTL_SECONDS = 30.0
"""Length of a lease: a supervisor silent for longer counts as dead, and its tasks are rescued."""

# Not EXISTS: the planner multiplies "many rows of this queue" by "many new rows", expects to find a
# match early in a sequential scan, and reads a table of finished rows to its end.
_IS_ANY_READY = f"""
    (SELECT id FROM partisan_async_task
     WHERE status = '{Status.NEW}' AND queue_name = %(queue_name)s
     ORDER BY priority, id LIMIT 1) IS NOT NULL
"""  # noqa: S608

# By its key and not by a newer column: no lease is lost while a migration is taken back beneath
# those that run.
_IS_MADE = "left(processor_class, 1) = ':'"

# A late beat must not set last_seen_at back, unless a wrong clock wrote it far in the future.
# A database restored from another home's dump gets no row for this supervisor, which then claims
# nothing there.
_ROW = """
    SELECT %(me)s, %(hostname)s, %(process)s::jsonb, %(queue_name)s, statement_timestamp(),
        %(workers)s::jsonb, CASE WHEN %(stopping)s THEN statement_timestamp() END
    WHERE NOT EXISTS (SELECT 1 FROM partisan_async_home
                      WHERE name NOT IN ('', %(home)s::text))
"""

_BEAT = """beat AS (
    INSERT INTO partisan_async_supervisor AS s
        (id, hostname, process, queue_name, last_seen_at, workers, stopping_since)
    {rows}
    ON CONFLICT (id) DO UPDATE SET workers = excluded.workers, process = excluded.process,
        stopping_since = COALESCE(s.stopping_since, excluded.stopping_since), last_seen_at =
        CASE WHEN s.last_seen_at > excluded.last_seen_at + %(ttl)s THEN excluded.last_seen_at
        ELSE GREATEST(s.last_seen_at, excluded.last_seen_at) END
    RETURNING s.id, draining)
"""

_CLAIMED = f"""
(SELECT array_agg(t.id) FILTER (WHERE t.claimed_by = %(me)s) AS mine,
        COALESCE(bool_or(s.id IS NULL AND t.claimed_by <> %(me)s
            AND t.queue_name = %(queue_name)s
            AND t.interrupted < {MAX_INTERRUPTED}), false) AS orphans
    FROM partisan_async_task t
    LEFT JOIN partisan_async_supervisor s
        ON s.id = t.claimed_by AND {is_alive("s")}
    WHERE t.status = '{Status.IN_PROCESS}')
"""  # noqa: S608

_SEEN = f"""
SELECT
    {_IS_ANY_READY},
    (SELECT {DUE_SECONDS}
     FROM partisan_async_task
     WHERE status = '{Status.SCHEDULED}' AND queue_name = %(queue_name)s
     ORDER BY execute_after LIMIT 1),
    orphans,
    (SELECT jsonb_agg(jsonb_build_array(
            id, hostname, process::text, NOT {is_alive()}))::text
     FROM partisan_async_supervisor
     WHERE id <> %(me)s AND queue_name = %(queue_name)s
         AND (hostname = %(hostname)s OR NOT {is_alive()})),
    CASE WHEN %(nonce)s::text IS NOT NULL
        THEN pg_notify(%(probe_channel)s, %(nonce)s) IS NOT NULL END,
    ARRAY(SELECT unnest(mine) EXCEPT SELECT unnest(%(known)s::bigint[])),
    ARRAY(SELECT unnest(%(known)s::bigint[]) EXCEPT SELECT unnest(mine)),
    EXISTS (SELECT 1 FROM partisan_async_pausedqueue WHERE queue_name = %(queue_name)s),
    draining,
    (SELECT jsonb_agg(jsonb_build_array(processor_class, resumed_at IS NULL))::text
     FROM partisan_async_pausedprocessor WHERE queue_name IN ('', %(queue_name)s)),
    (SELECT CASE WHEN next_tick IS NULL THEN 0 ELSE {due_seconds("next_tick")} END
     FROM partisan_async_schedule
     WHERE queue_name = %(queue_name)s AND {_IS_MADE} AND enabled
     ORDER BY next_tick NULLS FIRST LIMIT 1),
    {NEWCOMERS},
    extract(epoch FROM statement_timestamp())::float8,
    beat.id
FROM {{claimed}}, beat WHERE beat.id = %(me)s
"""  # noqa: S608

_OWN = re.compile(r"%\((me|queue_name|probe_channel|nonce|known|workers|stopping|mark)\)s")


class Beat(NamedTuple):
    """What one supervisor says with its beat.

    :param nonce: text to send to ``probe_channel``; ``None``: send nothing.
    :param known: ids of the rows that it believes it holds.
    :param workers: JSON of what the workers run.
    :param stopping: True if it starts nothing more, and ends.
    :param mark: an id; of rows behind it that wait for limits it is told. ``None``: of none.
    """

    me: UUID
    queue_name: str
    probe_channel: str = ""
    nonce: str | None = None
    known: Collection[int] = ()
    workers: str = "[]"
    stopping: bool = False
    mark: int | None = None


class Seen(NamedTuple):
    """What a beat saw for one supervisor.

    :param ready: True if rows are ready.
    :param due_seconds: until the next scheduled row is due.
    :param orphans: True if silent supervisors hold rows.
    :param others: JSON of the queue's other supervisors that are on this host or silent (``id,
        hostname, process, silent``; the process as JSON text, since it may be unreadable).
    :param sent: True if a nonce was sent.
    :param unknown: ids of rows that it holds and that are not known.
    :param taken: ids of known rows that it does not hold.
    :param processors: JSON of the queue's paused processors (``name, paused``), also of those whose
        pause is ending.
    :param timetable_seconds: until the first schedule is due that was made at run time.
    :param newcomers: what ``newcomers`` reads; ``None``: no rows wait for limits.
    :param at: the time, in seconds since the epoch.
    """

    ready: bool
    due_seconds: float | None
    orphans: bool
    others: str | None
    sent: bool | None
    unknown: list[int]
    taken: list[int]
    paused: bool
    draining: bool
    processors: str | None
    timetable_seconds: float | None
    newcomers: str | None
    at: float
    me: UUID


def beat(
    beats: Sequence[Beat], *, hostname: str, process: str, ttl: timedelta, home: str | None = None
) -> Statement:
    """Renew the leases of this process's supervisors, and read what has changed in their queues.

    No row: the database belongs to another home. Else one for each: see ``Seen``.

    :param home: the home that is served; ``None``: any.
    """
    params: dict[str, Any] = {"hostname": hostname, "process": process, "ttl": ttl, "home": home}
    for number, each in enumerate(beats):
        own = each._replace(known=list(each.known))._asdict()
        params |= {_numbered(name, number): value for name, value in own.items()}
    return Statement(_beat(len(beats)), params)


# One statement, so that an idle process costs one round trip per beat, however many queues it
# serves. It renews the leases, sees what a lost NOTIFY would have said, which supervisors (of its
# host, or silent ones) may be dead, and when the next row is due. For each queue the text is there
# once more, with the queue's name as a constant: joined to a list of names, the planner would
# guess how many rows a queue has.
@cache
def _beat(number: int) -> str:
    rows, tables, seen = [], [], []
    for each in range(number):
        claimed = f"claimed_{each}"
        rows.append(_for(each, _ROW))
        tables.append(f"{claimed} AS {_for(each, _CLAIMED)}")
        seen.append(f"({_for(each, _SEEN.format(claimed=claimed))})")
    tables.insert(0, _BEAT.format(rows=" UNION ALL ".join(rows)))
    return f"WITH {', '.join(tables)} {' UNION ALL '.join(seen)}"


def _for(number: int, sql: str) -> str:
    """Return SQL with the parameters of one of the supervisors."""
    return _OWN.sub(lambda found: f"%({_numbered(found[1], number)})s", sql)


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}"


def forget(supervisors: Sequence[UUID]) -> Statement:
    """Remove the rows of these supervisors, except of those with a claim that can be rescued."""
    sql = f"""
    DELETE FROM partisan_async_supervisor s WHERE s.id = ANY(%(ids)s::uuid[])
        AND NOT EXISTS (SELECT 1 FROM partisan_async_task t
                        WHERE t.status = '{Status.IN_PROCESS}' AND t.claimed_by = s.id
                            AND t.interrupted < {MAX_INTERRUPTED})
    """  # noqa: S608
    return Statement(sql, {"ids": list(supervisors)})


MOST_QUEUES = 1000
"""Maximum number of queues among which those are looked for that nobody serves."""

# The rows name the queues: calls may go to any, whatever processors and settings name.
_UNSERVED = f"""
WITH RECURSIVE {queue_names("ready", f"status = '{Status.NEW}'")},
{queue_names("later", f"status = '{Status.SCHEDULED}'")},
{queue_names("limits", f"status = '{Status.LIMITED}'")},
queue AS (
    SELECT unnest(%(scheduled)s::text[]) AS name
    UNION SELECT queue_name FROM partisan_async_schedule WHERE {_IS_MADE} AND enabled
    UNION (SELECT queue_name FROM ready LIMIT {MOST_QUEUES})
    UNION (SELECT queue_name FROM limits LIMIT {MOST_QUEUES})
    UNION SELECT l.queue_name FROM (SELECT queue_name FROM later LIMIT {MOST_QUEUES}) AS l
    WHERE (SELECT execute_after FROM partisan_async_task
           WHERE status = '{Status.SCHEDULED}' AND queue_name = l.queue_name
           ORDER BY execute_after LIMIT 1) <= statement_timestamp())
SELECT q.name FROM queue AS q
WHERE NOT EXISTS (SELECT 1 FROM partisan_async_supervisor s
                  WHERE s.queue_name = q.name AND {is_alive("s")})
ORDER BY q.name
"""  # noqa: S608


def unserved(ttl: timedelta, scheduled: Collection[str] = ()) -> Statement:
    """Read which queues have ready, due or limited rows and no live supervisor.

    :param scheduled: the queues with schedules in the code. They count even without such rows: no
        supervisor ticks their schedules. So do queues with schedules that were made at run time.
    """
    return Statement(_UNSERVED, {"ttl": ttl, "scheduled": list(scheduled)})
