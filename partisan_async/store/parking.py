"""Takes the waiting rows of a paused processor out of the way, and brings them back.

A claim reads the ready rows in their order, and would read 100,000 of a paused processor each time
before it comes to the others. So they are *parked*: scheduled for a time that never comes, with
their own one kept beside it. Nothing else of them changes: identical calls find them waiting.

A pause that is over is *ending* as long as rows of it are parked. Then none is parked any more, by
anybody: whoever parks locks the pause's row, and passes over one that is being ended.
"""

from __future__ import annotations

from partisan_async.readable import moment
from partisan_async.store.statement import Statement

NEVER = "timestamptz '9999-01-01 00:00:00+00'"

PARKED_AT_ONCE = 1000
"""So many ready rows are looked at, and so many brought back, by one statement."""


def is_paused(processor: str, queue: str) -> str:
    """Return the condition that a processor is paused in a queue, of two SQL expressions."""
    return f"""
    EXISTS (SELECT 1 FROM partisan_async_pausedprocessor p
            WHERE p.resumed_at IS NULL AND p.processor_class = {processor}
                AND p.queue_name IN ('', {queue}))
    """  # noqa: S608


_PARK = f"""
WITH paused AS MATERIALIZED (
    SELECT processor_class FROM partisan_async_pausedprocessor
    WHERE resumed_at IS NULL AND queue_name IN ('', %(queue_name)s)
    FOR SHARE SKIP LOCKED),
first AS MATERIALIZED (
    SELECT id, processor_class FROM partisan_async_task
    WHERE status = 'new' AND queue_name = %(queue_name)s
    ORDER BY priority, id LIMIT {PARKED_AT_ONCE}),
free AS MATERIALIZED (
    SELECT id FROM partisan_async_task
    WHERE status = 'new' AND id = ANY (ARRAY(
        SELECT id FROM first WHERE processor_class IN (SELECT processor_class FROM paused)))
    FOR UPDATE SKIP LOCKED),
parked AS (
    UPDATE partisan_async_task t
    SET status = 'scheduled', parked_from = t.execute_after, execute_after = {NEVER}
    FROM free WHERE t.id = ANY (ARRAY[free.id]) RETURNING 1)
SELECT (SELECT count(*) FROM parked)
"""  # noqa: S608

_UNPARK = f"""
WITH free AS MATERIALIZED (
    SELECT id FROM partisan_async_task t
    WHERE status = 'scheduled' AND queue_name = %(queue_name)s AND execute_after = {NEVER}
        AND parked_from IS NOT NULL AND NOT {is_paused("t.processor_class", "t.queue_name")}
    LIMIT {PARKED_AT_ONCE} FOR UPDATE SKIP LOCKED),
back AS (
    UPDATE partisan_async_task t
    SET status = 'new', execute_after = t.parked_from, parked_from = NULL
    FROM free WHERE t.id = ANY (ARRAY[free.id]) RETURNING 1)
SELECT (SELECT count(*) FROM back)
"""  # noqa: S608

_END_PAUSES = f"""
DELETE FROM partisan_async_pausedprocessor ending
WHERE resumed_at IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM partisan_async_task t
    WHERE t.status = 'scheduled' AND t.execute_after = {NEVER} AND t.parked_from IS NOT NULL
        AND t.processor_class = ending.processor_class
        AND ending.queue_name IN ('', t.queue_name)
        AND NOT {is_paused("t.processor_class", "t.queue_name")})
RETURNING processor_class
"""  # noqa: S608

# By leaps over the index of what is scheduled, however much that is.
_PARKED_QUEUES = f"""
RECURSIVE names AS (
    (SELECT queue_name FROM partisan_async_task
     WHERE status = 'scheduled' ORDER BY queue_name LIMIT 1)
    UNION ALL
    SELECT next.queue_name FROM names CROSS JOIN LATERAL (
        SELECT t.queue_name FROM partisan_async_task t
        WHERE t.status = 'scheduled' AND t.queue_name > names.queue_name
        ORDER BY t.queue_name LIMIT 1) AS next),
parked AS (
    SELECT queue_name FROM names WHERE EXISTS (
        SELECT 1 FROM partisan_async_task t
        WHERE t.status = 'scheduled' AND t.queue_name = names.queue_name
            AND t.execute_after = {NEVER}))
"""  # noqa: S608

_PAUSES = f"""
WITH {_PARKED_QUEUES}
SELECT p.processor_class, p.queue_name, {moment("p.paused_at")}, p.resumed_at IS NOT NULL,
    (SELECT count(*) FROM (
        SELECT FROM parked q JOIN partisan_async_task t USING (queue_name)
        WHERE p.queue_name IN ('', q.queue_name) AND t.status = 'scheduled'
            AND t.execute_after = {NEVER} AND t.processor_class = p.processor_class
        LIMIT %(at_most)s) AS counted)
FROM partisan_async_pausedprocessor p ORDER BY p.processor_class, p.queue_name
"""  # noqa: S608


def park(queue_name: str) -> Statement:
    """Park the first ready rows of a queue that are of paused processors. One row: how many."""
    return Statement(_PARK, {"queue_name": queue_name})


def unpark(queue_name: str) -> Statement:
    """Bring back rows of a queue whose processors are not paused any more. One row: how many."""
    return Statement(_UNPARK, {"queue_name": queue_name})


def end_pauses() -> Statement:
    """Remove pauses that are over, and of which no row is parked any more."""
    return Statement(_END_PAUSES, {})


def parked_queues() -> Statement:
    """Read the names of the queues with parked rows."""
    return Statement(f"WITH {_PARKED_QUEUES} SELECT queue_name FROM parked", {})  # noqa: S608


def pauses(at_most: int) -> Statement:
    """Read the processors that are paused.

    Rows: name, queue (empty: all), since when, whether it is ending, and how many are parked.
    """
    return Statement(_PAUSES, {"at_most": at_most})


def pause_processor(name: str, queue_name: str) -> Statement:
    """Have nothing of a processor started. Rows: its name, if that is news.

    :param queue_name: empty: in every queue.
    """
    sql = """
    INSERT INTO partisan_async_pausedprocessor AS p (processor_class, queue_name)
    VALUES (%(name)s, %(queue_name)s)
    ON CONFLICT (processor_class, queue_name) DO UPDATE
    SET resumed_at = NULL, paused_at = statement_timestamp() WHERE p.resumed_at IS NOT NULL
    RETURNING processor_class
    """
    return Statement(sql, {"name": name, "queue_name": queue_name})


def resume_processor(name: str, queue_name: str | None) -> Statement:
    """End a processor's pause. Rows: its name, for each pause that is over now.

    :param queue_name: ``None``: wherever it is paused.
    """
    sql = """
    UPDATE partisan_async_pausedprocessor SET resumed_at = statement_timestamp()
    WHERE processor_class = %(name)s AND resumed_at IS NULL
        AND queue_name = COALESCE(%(queue_name)s::text, queue_name)
    RETURNING processor_class
    """
    return Statement(sql, {"name": name, "queue_name": queue_name})
