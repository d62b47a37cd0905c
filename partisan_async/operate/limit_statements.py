"""The SQL that reads limits and their keys; fast also with ten thousand keys."""

from __future__ import annotations

from partisan_async.models.readable import moment
from partisan_async.models.status import Status
from partisan_async.store.rates import OF_ALL, OF_KEY, rate

LIMITS_COUNTED = 1000
"""Maximum number of limits of all queues that are told of: one that waits in two counts twice."""

SHOWN = 50
"""Maximum number of keys that are told of, besides those with numbers of their own."""

COUNTED_OF_ALL = 300_000
"""About how many waiting tasks of one limit are counted to find its fullest keys."""

_WAITS = f"t.status = '{Status.LIMITED}' AND t.queue_name = p.queue_name"

# By leaps over the index of those that wait.
_PAIRS = f"""
pair AS (
    (SELECT queue_name, limit_name AS name, 1 AS n FROM partisan_async_task
     WHERE status = '{Status.LIMITED}' ORDER BY queue_name, limit_name LIMIT 1)
    UNION ALL
    SELECT next.queue_name, next.name, n + 1 FROM pair CROSS JOIN LATERAL (
        SELECT t.queue_name, t.limit_name AS name FROM partisan_async_task t
        WHERE t.status = '{Status.LIMITED}'
            AND (t.queue_name, t.limit_name) > (pair.queue_name, pair.name)
        ORDER BY t.queue_name, t.limit_name LIMIT 1) AS next
    WHERE n < {LIMITS_COUNTED})
"""  # noqa: S608

# From key to key, however many tasks each has.
_KEYS = f"""
WITH RECURSIVE k (key, n) AS (
    (SELECT t.limit_key, 1 FROM partisan_async_task t
     WHERE {_WAITS} AND t.limit_name = p.name AND t.limit_key IS NOT NULL
     ORDER BY t.limit_key LIMIT 1)
    UNION ALL
    SELECT next.key, n + 1 FROM k CROSS JOIN LATERAL (
        SELECT t.limit_key AS key FROM partisan_async_task t
        WHERE {_WAITS} AND t.limit_name = p.name AND t.limit_key > k.key
        ORDER BY t.limit_key LIMIT 1) AS next
    WHERE n < %(keys)s)
SELECT key FROM k
"""  # noqa: S608

WAITED_FOR = f"WITH RECURSIVE {_PAIRS} SELECT DISTINCT name FROM pair WHERE name IS NOT NULL"  # noqa: S608

LIMITS = f"""
WITH RECURSIVE {_PAIRS},
waits AS (
    SELECT p.name, sum(c.waiting)::bigint AS waiting
    FROM pair AS p CROSS JOIN LATERAL (
        SELECT count(*) AS waiting FROM (
            SELECT FROM partisan_async_task t WHERE {_WAITS} AND t.limit_name = p.name
            ORDER BY t.limit_key LIMIT %(at_most)s) AS w) AS c
    GROUP BY p.name),
keys AS (
    SELECT p.name, count(DISTINCT k.key) AS keys
    FROM pair AS p CROSS JOIN LATERAL ({_KEYS}) AS k GROUP BY p.name),
runs AS (
    SELECT limit_name AS name, count(*) AS running FROM partisan_async_task
    WHERE status = '{Status.IN_PROCESS}' AND limit_name IS NOT NULL GROUP BY limit_name),
own AS (
    SELECT name, max(running) FILTER (WHERE key IS NULL) AS running, count(key) AS keys
    FROM partisan_async_limitoverride GROUP BY name),
paused AS (
    SELECT name, count(*) AS keys FROM partisan_async_limitpause
    WHERE until > statement_timestamp() GROUP BY name),
w AS (
    SELECT n.name, l.name IS NOT NULL AS known, COALESCE(l.rates, '[]') AS rates,
        l.running, l.running_per_key, COALESCE(l.rates_per_key, '[]') AS rates_per_key,
        COALESCE(l.in_order, false) AS in_order, COALESCE(l.ranked, true) AS ranked,
        statement_timestamp() AS at
    FROM (SELECT name FROM partisan_async_limit UNION SELECT name FROM waits
          UNION SELECT name FROM runs UNION SELECT name FROM own) AS n
        LEFT JOIN partisan_async_limit l USING (name)
    WHERE n.name IS NOT NULL)
SELECT w.name, COALESCE(runs.running, 0), w.running,
    LEAST(COALESCE(waits.waiting, 0), %(at_most)s), LEAST(COALESCE(keys.keys, 0), %(keys)s),
    w.running_per_key, w.rates::text, w.rates_per_key::text, w.in_order, own.running,
    COALESCE(own.keys, 0), COALESCE(paused.keys, 0), {moment("rate.next")}, w.known, w.ranked
FROM w CROSS JOIN LATERAL ({rate("w.rates", OF_ALL)}) AS rate
    LEFT JOIN runs USING (name) LEFT JOIN waits USING (name) LEFT JOIN keys USING (name)
    LEFT JOIN own USING (name) LEFT JOIN paused USING (name)
ORDER BY name LIMIT {LIMITS_COUNTED}
"""  # noqa: S608

# Those with numbers of their own come in any case: they are to be seen, and cleared.
KEYS = f"""
WITH RECURSIVE {_PAIRS},
walked AS MATERIALIZED (
    SELECT p.queue_name, p.name, k.key
    FROM (SELECT * FROM pair WHERE name = %(name)s) AS p CROSS JOIN LATERAL ({_KEYS}) AS k),
size AS (SELECT GREATEST(10, {COUNTED_OF_ALL} / GREATEST(1, count(*))) AS most FROM walked),
waits AS (
    SELECT p.key, sum(c.waiting)::bigint AS waiting
    FROM walked AS p CROSS JOIN size CROSS JOIN LATERAL (
        SELECT count(*) AS waiting FROM (
            SELECT FROM partisan_async_task t
            WHERE {_WAITS} AND t.limit_name = p.name AND t.limit_key = p.key
            ORDER BY t.limit_rank LIMIT size.most) AS w) AS c
    GROUP BY p.key),
runs AS (
    SELECT limit_key AS key, count(*) AS running FROM partisan_async_task
    WHERE status = '{Status.IN_PROCESS}' AND limit_name = %(name)s AND limit_key IS NOT NULL
    GROUP BY limit_key),
own AS (
    SELECT key, running AS most FROM partisan_async_limitoverride
    WHERE name = %(name)s AND key IS NOT NULL),
paused AS (
    SELECT key, until FROM partisan_async_limitpause
    WHERE name = %(name)s AND key IS NOT NULL AND until > statement_timestamp()),
found AS (
    SELECT key, COALESCE(runs.running, 0) AS running, COALESCE(waits.waiting, 0) AS waiting,
        own.most, paused.until, count(*) OVER () AS total, row_number() OVER (
            ORDER BY COALESCE(waits.waiting, 0) DESC, COALESCE(runs.running, 0) DESC, key) AS place
    FROM waits FULL JOIN runs USING (key) FULL JOIN own USING (key) FULL JOIN paused USING (key)),
w AS (
    SELECT found.*, %(name)s::text AS name, statement_timestamp() AS at, COALESCE((
        SELECT rates_per_key FROM partisan_async_limit WHERE name = %(name)s), '[]') AS rates
    FROM found WHERE place <= {SHOWN} OR most IS NOT NULL ORDER BY place LIMIT 2 * {SHOWN})
SELECT w.key, w.running, w.waiting, (SELECT most FROM size), w.most, {moment("w.until")},
    {moment("rate.next")}, w.total
FROM w CROSS JOIN LATERAL ({rate("w.rates", OF_KEY)}) AS rate
ORDER BY w.place
"""  # noqa: S608

ROOM = f"""
SELECT {moment("whole.next")}, {moment("own.next")}
FROM (SELECT name, rates, rates_per_key, %(key)s::text AS key, statement_timestamp() AS at
      FROM partisan_async_limit WHERE name = %(name)s) AS w
    CROSS JOIN LATERAL ({rate("w.rates", OF_ALL)}) AS whole
    CROSS JOIN LATERAL ({rate("w.rates_per_key", OF_KEY)}) AS own
"""  # noqa: S608
