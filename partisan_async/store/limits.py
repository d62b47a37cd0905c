"""Writes the numbers of limits, and tells which rows wait for what an end has freed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from partisan_async.models.status import Status
from partisan_async.store.limiting import MOST_OF_ALL, MOST_OF_KEY, Key
from partisan_async.store.notifying import channel, limited_payload
from partisan_async.store.patience import LOCK_PATIENCE_MILLISECONDS, PATIENCE
from partisan_async.store.statement import (
    Statement,
    array,
    array_of_texts,
    is_alive,
    queue_names,
)

RANKED_AT_ONCE = 1000
"""Maximum number of rows that one statement gives another rank."""

TOLD_AT_ONCE = 20
"""Maximum number of keys whose rows one statement looks for."""


class Numbers(NamedTuple):
    """What a limit allows, as the code says.

    :param rates, rates_per_key: pairs: so many starts within so many seconds.
    """

    name: str
    running: int | None
    running_per_key: int | None
    rates: Sequence[tuple[int, float]]
    rates_per_key: Sequence[tuple[int, float]]
    in_order: bool


_SAME = """
(l.running, l.running_per_key, l.rates, l.rates_per_key, l.in_order) IS NOT DISTINCT FROM
(excluded.running, excluded.running_per_key, excluded.rates, excluded.rates_per_key,
    excluded.in_order)
"""

# Of the live supervisors whose code has a limit, the one that started last says its numbers, as of
# schedules. ORDER BY: two supervisors that lock rows in different orders could deadlock.
_SET = f"""
{PATIENCE}, me AS (
    SELECT id, started_at FROM partisan_async_supervisor WHERE id = %(me)s AND {is_alive()}),
changed AS (
INSERT INTO partisan_async_limit AS l
    (name, running, running_per_key, rates, rates_per_key, in_order, set_by)
SELECT p.name, p.running, p.running_per_key, p.rates, p.rates_per_key, p.in_order, me.id
FROM patience, me, jsonb_to_recordset(%(limits)s::jsonb) AS p (name text, running int,
    running_per_key int, rates jsonb, rates_per_key jsonb, in_order boolean)
ORDER BY p.name
ON CONFLICT (name) DO UPDATE
SET running = excluded.running, running_per_key = excluded.running_per_key,
    rates = excluded.rates, rates_per_key = excluded.rates_per_key, in_order = excluded.in_order,
    ranked = l.ranked AND l.in_order = excluded.in_order, set_by = excluded.set_by
WHERE NOT ({_SAME} AND l.set_by = excluded.set_by) AND NOT EXISTS (
    SELECT 1 FROM partisan_async_supervisor setter, me
    WHERE setter.id = l.set_by AND {is_alive("setter")}
        AND (setter.started_at, setter.id) > (me.started_at, me.id))
RETURNING l.name)
SELECT CASE WHEN EXISTS (SELECT 1 FROM me) THEN ARRAY(SELECT name FROM changed) END
"""  # noqa: S608

_QUEUES = queue_names("names", f"status = '{Status.LIMITED}'")

# A head in order holds its place until its own time. Without an order what is not due waits as
# everywhere.
_RANK = f"""
WITH RECURSIVE {_QUEUES},
wrong AS MATERIALIZED (
    SELECT t.id, t.rank, t.has_time
    FROM partisan_async_limit l CROSS JOIN names CROSS JOIN LATERAL (
        SELECT t.id, r.rank, r.has_time FROM partisan_async_task t
            CROSS JOIN LATERAL (
                SELECT CASE WHEN l.in_order THEN 0 ELSE t.priority END AS rank,
                    NOT l.in_order AND t.execute_after > statement_timestamp() AS has_time) AS r
        WHERE t.status = '{Status.LIMITED}' AND t.queue_name = names.queue_name
            AND t.limit_name = l.name AND (t.limit_rank IS DISTINCT FROM r.rank OR r.has_time)
        LIMIT {RANKED_AT_ONCE}) AS t
    WHERE l.name = %(name)s AND NOT l.ranked LIMIT {RANKED_AT_ONCE}),
changed AS (
    UPDATE partisan_async_task t SET limit_rank = wrong.rank,
        status = CASE WHEN wrong.has_time THEN '{Status.SCHEDULED}' ELSE t.status END
    FROM wrong WHERE t.id = ANY (ARRAY[wrong.id]) RETURNING 1),
done AS (
    UPDATE partisan_async_limit SET ranked = true
    WHERE name = %(name)s AND NOT ranked AND NOT EXISTS (SELECT 1 FROM wrong) RETURNING 1)
SELECT (SELECT count(*) FROM changed)
"""  # noqa: S608

_UNRANKED = "SELECT name FROM partisan_async_limit WHERE NOT ranked ORDER BY name"


def _was_full(most: str, key: str) -> str:
    # Nothing is counted where there is no such number.
    return f"""
    CASE WHEN {most} IS NOT NULL THEN {most} <= f.n + (
        SELECT count(*) FROM partisan_async_task o
        WHERE o.limit_name = l.name AND {key} o.status = '{Status.IN_PROCESS}') ELSE false END
    """  # noqa: S608


_WHOLE_WAS_FULL = _was_full(MOST_OF_ALL, "")

_KEY_WAS_FULL = _was_full(MOST_OF_KEY, "o.limit_key = f.key AND")

# Of a key that was not full before, nobody waits for news. Of a limit that was full as a whole, any
# of its rows says so.
_FREED = f"""
WITH RECURSIVE {_QUEUES},
freed AS MATERIALIZED (
    SELECT l.name, f.key, {_WHOLE_WAS_FULL} AS was_full
    FROM unnest(%(names)s::text[], %(keys)s::text[], %(counts)s::int[]) AS f (name, key, n)
        JOIN partisan_async_limit l ON l.name = f.name
        LEFT JOIN partisan_async_limitoverride whole ON whole.name = l.name AND whole.key IS NULL
        LEFT JOIN partisan_async_limitoverride own ON own.name = l.name AND own.key = f.key
    WHERE {_WHOLE_WAS_FULL} OR {_KEY_WAS_FULL})
SELECT DISTINCT names.queue_name, waiting.id
FROM freed CROSS JOIN names CROSS JOIN LATERAL (
    SELECT id FROM (
        (SELECT t.id FROM partisan_async_task t
         WHERE t.status = '{Status.LIMITED}' AND t.queue_name = names.queue_name
             AND t.limit_name = freed.name AND t.limit_key = freed.key
         ORDER BY t.limit_rank, t.id LIMIT 1)
        UNION ALL
        (SELECT t.id FROM partisan_async_task t
         WHERE t.status = '{Status.LIMITED}' AND t.queue_name = names.queue_name
             AND t.limit_name = freed.name AND freed.was_full
         ORDER BY t.limit_key, t.limit_rank, t.id LIMIT 1)) AS first LIMIT 1) AS waiting
"""  # noqa: S608


def set_limits(me: UUID, limits: Sequence[Numbers], ttl: timedelta) -> Statement:
    """Set what limits allow as my code says, if I may.

    One row: the names of those that were set; ``None`` if I have not beaten yet.
    """
    told = json.dumps([each._asdict() for each in limits])
    params = {"me": me, "limits": told, "ttl": ttl, "patience": str(LOCK_PATIENCE_MILLISECONDS)}
    return Statement(_SET, params)


def pause_keys(pauses: Mapping[Key, float]) -> Statement:
    """Have nothing of these keys start for so many seconds, or longer if that is said already."""
    sql = """
    INSERT INTO partisan_async_limitpause AS p (name, key, until)
    SELECT u.name, u.key, statement_timestamp() + make_interval(secs => u.seconds)
    FROM unnest(%(names)s::text[], %(keys)s::text[], %(seconds)s::float8[])
        AS u (name, key, seconds)
    ORDER BY u.name, u.key
    ON CONFLICT (name, key) DO UPDATE SET until = GREATEST(p.until, excluded.until)
    """
    params: dict[str, Any] = {
        "names": array_of_texts(name for name, _ in pauses),
        "keys": array_of_texts(key for _, key in pauses),
        "seconds": array(pauses.values()),
    }
    return Statement(sql, params)


def unranked() -> Statement:
    """Read which limits wait for their rows to get other ranks: nothing of them starts."""
    return Statement(_UNRANKED, {})


def rank(name: str) -> Statement:
    """Give some rows of such a limit their ranks. One row: how many; none: it is done."""
    return Statement(_RANK, {"name": name})


def freed(keys: Mapping[Key, int]) -> Statement:
    """Read which rows wait for what has ended. Rows: queue and id, one or two for each key.

    :param keys: how many have ended of each, at most ``TOLD_AT_ONCE``.
    """
    params: dict[str, Any] = {
        "names": array_of_texts(name for name, _ in keys),
        "keys": array_of_texts(key for _, key in keys),
        "counts": array(keys.values()),
    }
    return Statement(_FREED, params)


def tell_limited(ids: Mapping[str, Sequence[int]]) -> Statement:
    """Notify the supervisors of queues that these rows may start."""
    sql = """
    SELECT set_config('synchronous_commit', 'off', true), pg_notify(u.channel, u.payload)
    FROM unnest(%(channels)s::text[], %(payloads)s::text[]) AS u (channel, payload)
    """
    payloads = [limited_payload(own) for own in ids.values()]
    return Statement(sql, {"channels": [channel(name) for name in ids], "payloads": payloads})
