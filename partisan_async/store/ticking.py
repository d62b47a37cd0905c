"""Sets schedules, and enqueues their calls, once for each tick."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from partisan_async.claim import Call
from partisan_async.models.readable import moment
from partisan_async.models.status import Status
from partisan_async.store.inserting import LIMIT_COLUMNS
from partisan_async.store.keyed import IS_TWIN, TARGETS, column_of
from partisan_async.store.patience import LOCK_PATIENCE_MILLISECONDS, PATIENCE
from partisan_async.store.statement import Statement, is_alive

# Of the live supervisors whose code has a schedule, the one that started last sets it. So an older
# release does not set it back, and after a rollback the old release sets it once the newer
# supervisors are gone.
_MAY_SET = f"""
NOT EXISTS (SELECT 1 FROM partisan_async_supervisor setter
            WHERE setter.id = s.set_by AND {is_alive("setter")}
                AND (setter.started_at, setter.id) >= (me.started_at, me.id))
"""  # noqa: S608

_ME = f"""
me AS (SELECT id, started_at FROM partisan_async_supervisor
       WHERE id = %(me)s AND {is_alive()})
"""  # noqa: S608

_SCHEDULES = f"""
WITH {_ME}
SELECT p.name, statement_timestamp(), s.queue_name, s.schedule, COALESCE(s.enabled, true),
    {moment("s.next_tick")}, {moment("s.last_tick")}, COALESCE((SELECT {_MAY_SET} FROM me), false)
FROM unnest(%(names)s::text[]) AS p (name)
    LEFT JOIN partisan_async_schedule s ON s.processor_class = p.name
"""  # noqa: S608

# ORDER BY: two supervisors that lock rows in different orders could deadlock.
_SET_SCHEDULES = f"""
{PATIENCE}, {_ME}
INSERT INTO partisan_async_schedule AS s
    (processor_class, queue_name, schedule, next_tick, set_by, processor)
SELECT p.name, %(queue_name)s, p.schedule, p.next_tick, me.id, NULLIF(p.processor, p.name)
FROM patience, me, unnest(%(names)s::text[], %(schedules)s::text[], %(next_ticks)s::timestamptz[],
    %(processors)s::text[]) AS p (name, schedule, next_tick, processor)
ORDER BY p.name
ON CONFLICT (processor_class) DO UPDATE
SET queue_name = excluded.queue_name, schedule = excluded.schedule, set_by = excluded.set_by,
    processor = excluded.processor,
    next_tick = CASE WHEN NOT s.enabled THEN NULL
        WHEN s.schedule = excluded.schedule THEN COALESCE(s.next_tick, excluded.next_tick)
        ELSE excluded.next_tick END
WHERE (s.next_tick IS NULL AND s.schedule = excluded.schedule
        AND s.queue_name = excluded.queue_name)
    OR (SELECT {_MAY_SET} FROM me)
RETURNING s.processor_class
"""  # noqa: S608

# In one snapshot: a task that is claimed meanwhile waits in it, or runs in it.
_BUSY = f"""
busy AS MATERIALIZED (
    SELECT runs.since, runs.since IS NOT NULL OR EXISTS (
        SELECT 1 FROM partisan_async_task WHERE {{key}} = %({{key}})s AND {{is_twin}}) AS is_so
    FROM (SELECT min(COALESCE(t.claimed_at, '-infinity')) AS since FROM partisan_async_task t
          WHERE t.status = '{Status.IN_PROCESS}' AND (t.{{key}} = %({{key}})s
              OR t.processor_class = ANY(%(names)s)
              AND t.arguments -> 'args' = %(arguments)s::jsonb -> 'args'
              AND t.arguments -> 'kwargs' = %(arguments)s::jsonb -> 'kwargs'
              AND t.subject IS NOT DISTINCT FROM %(subject)s::text)) AS runs),
"""  # noqa: S608

LONG_SECONDS = 3600.0
"""Time for which a run may keep ticks from enqueuing any before its success is missed."""


def _tick(key: str, *, skips: bool, limited: bool) -> str:
    """Return the statement of a tick.

    :param key: the column of the call's key.
    :param skips: whether it enqueues nothing while an identical task runs. For such a tick no
        success is missing, unless that run takes long.
    :param limited: whether the task starts under a limit.
    """
    # One statement advances the schedule and enqueues the tasks: whatever dies when, no tick is
    # lost or taken twice. It does not wait long for a lock, see PATIENCE: another supervisor's next
    # look, or this one's, takes the tick.
    columns, limit, waits = "", "", Status.NEW
    if limited:
        columns, waits = f" {LIMIT_COLUMNS}", Status.LIMITED
        limit = " %(limit_name)s, %(limit_key)s, %(limit_rank)s,"
    busy, from_busy, if_free, is_busy = "", "", "", ""
    if skips:
        busy, from_busy = _BUSY.format(key=key, is_twin=IS_TWIN[key]), ", busy"
        if_free = "WHERE NOT busy.is_so"
        is_busy = f"""WHEN busy.since > statement_timestamp() - interval '{LONG_SECONDS:g} seconds'
                THEN %(last)s::timestamptz """
    return f"""
{PATIENCE}, {busy}ticked AS (
    UPDATE partisan_async_schedule s
    SET last_tick = %(last)s::timestamptz, next_tick = %(following)s::timestamptz,
        prior_tick = CASE {is_busy}WHEN s.prior_tick IS NULL THEN %(last)s::timestamptz
            ELSE s.last_tick END
    FROM patience{from_busy}
    WHERE s.processor_class = %(name)s AND s.queue_name = %(queue_name)s
        AND s.schedule = %(schedule)s AND s.next_tick = %(tick)s::timestamptz
        AND %(last)s::timestamptz <= statement_timestamp()
        AND (%(set_by)s::uuid IS NULL OR s.set_by = %(set_by)s::uuid)
    RETURNING 1),
inserted AS (
    INSERT INTO partisan_async_task
        (queue_name, processor_class, arguments, priority, {key}, subject,{columns}
        execute_after, status)
    SELECT %(queue_name)s, %(processor_class)s,
        %(arguments)s::jsonb || %(beside)s::jsonb || jsonb_build_object('tick', tick),
        %(priority)s, %({key})s, %(subject)s::text,{limit} tick, '{waits}'
    FROM ticked{from_busy}, unnest(%(ticks)s::timestamptz[]) AS t (tick) {if_free} ORDER BY tick
    ON CONFLICT {TARGETS[key]} DO NOTHING
    RETURNING id)
SELECT EXISTS (SELECT 1 FROM ticked), (SELECT array_agg(id ORDER BY id) FROM inserted)
"""  # noqa: S608


_TICKS = {
    (key, skips, limited): _tick(key, skips=skips, limited=limited)
    for key, skips in (("digest", False), ("digest", True), ("unique_key", True))
    for limited in (False, True)
}


class Scheduled(NamedTuple):
    """What the database knows about a scheduled processor.

    :param now: the database's time.
    :param queue_name, schedule: as they were set; ``None``: there is no row.
    :param next_tick: ``None``: it has to be computed; see ``readable.is_moment``.
    :param may_set: True if no live supervisor that started later has set it.
    :param made_as: of one made at run time, what is new with each change of it.
    """

    processor_class: str
    now: datetime.datetime
    queue_name: str | None
    schedule: str | None
    enabled: bool
    next_tick: datetime.datetime | None
    last_tick: datetime.datetime | None
    may_set: bool
    made_as: UUID | None = None


def schedules(me: UUID, names: Sequence[str], ttl: timedelta) -> Statement:
    """Read the schedules of these processors. Rows: ``Scheduled``, one each."""
    return Statement(_SCHEDULES, {"me": me, "names": list(names), "ttl": ttl})


def set_schedules(
    me: UUID,
    queue_name: str,
    schedules: Sequence[tuple[str, str, datetime.datetime, str]],
    ttl: timedelta,
) -> Statement:
    """Set schedules as my code has them, if I may. Rows: the keys of those that were set.

    :param schedules: key, schedule, the next tick if it has to be computed anew, and the processor.
    """
    names, texts, ticks, processors = map(list, zip(*schedules, strict=True))
    params = {
        "me": me,
        "queue_name": queue_name,
        "names": names,
        "schedules": texts,
        "next_ticks": ticks,
        "processors": processors,
        "ttl": ttl,
        "patience": str(LOCK_PATIENCE_MILLISECONDS),
    }
    return Statement(_SET_SCHEDULES, params)


def tick(
    call: Call,
    name: str,
    schedule: str,
    ticks: Sequence[datetime.datetime],
    following: datetime.datetime,
    *,
    told: str | None = None,
    names: Sequence[str] = (),
    made_as: UUID | None = None,
) -> Statement:
    """Enqueue a call for each of these ticks, unless another supervisor has.

    One row: True if this statement took the ticks, and the ids of the enqueued tasks.

    :param call: if it has a digest and an identical call waits, nothing is enqueued; likewise if it
        has a ``unique_key`` and an identical call runs.
    :param name: the schedule's key.
    :param ticks: the tick that the row expects next, and those after it.
    :param following: the tick that the row expects afterwards.
    :param told: what the tasks' rows tell of the schedule: its key, if that is no processor's name.
    :param names: enqueue none while an identical task of a processor with one of these names runs.
    :param made_as: as ``Scheduled`` has it: if it was changed since, nobody has ticked.
    """
    params = call._asdict() | {
        "name": name,
        "schedule": schedule,
        "tick": ticks[0],
        "last": ticks[-1],
        "ticks": list(ticks),
        "following": following,
        "names": list(names),
        "set_by": made_as,
        "beside": json.dumps({} if told is None else {"schedule": told}),
        "patience": str(LOCK_PATIENCE_MILLISECONDS),
    }
    column = column_of(call)
    skips = bool(names) or column == "unique_key"
    return Statement(_TICKS[column, skips, call.limit_name is not None], params)


def move_up(seen: Scheduled, tick: datetime.datetime) -> Statement:
    """Move the next tick to an earlier time, if the row is as it was seen. Rows: one, or none."""
    sql = f"""
    {PATIENCE}
    UPDATE partisan_async_schedule s SET next_tick = %(tick)s::timestamptz FROM patience
    WHERE s.processor_class = %(processor_class)s AND s.queue_name = %(queue_name)s
        AND s.schedule = %(schedule)s AND s.next_tick = %(next_tick)s::timestamptz
    RETURNING s.processor_class
    """  # noqa: S608
    params = {"tick": tick, "patience": str(LOCK_PATIENCE_MILLISECONDS)}
    return Statement(sql, seen._asdict() | params)


def switch_schedules(names: Sequence[str], *, on: bool) -> Statement:
    """Switch schedules on or off. Rows: processor and queue of the changed ones."""
    # next_tick = NULL: ticks that would have come while a schedule was off are not caught up with.
    sql = """
    UPDATE partisan_async_schedule SET enabled = %(on)s, next_tick = NULL
    WHERE processor_class = ANY(%(names)s) AND enabled <> %(on)s
    RETURNING processor_class, queue_name
    """
    return Statement(sql, {"names": list(names), "on": on})


def recount_schedules() -> Statement:
    """Have those in the code count their next tick from now on: what they missed is not theirs."""
    sql = """
    UPDATE partisan_async_schedule SET next_tick = NULL
    WHERE arguments IS NULL AND next_tick IS NOT NULL
    """
    return Statement(sql, {})
