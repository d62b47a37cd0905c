"""Takes the waiting rows of a paused processor out of the way, and brings them back.

A claim reads the ready rows in their order, and would read 100,000 of a paused processor each time
before it comes to the others. So they are *parked*: scheduled for a time that never comes, with
their own one kept beside it. Nothing else of them changes: identical calls find them waiting.
Each pause parks its rows at a moment of its own, so the index of scheduled rows leads straight to
them.

A pause that is over is *ending* as long as rows of it are parked. Then none is parked any more, by
anybody: whoever parks locks the pause's row, and passes over one that is being ended.
"""

from __future__ import annotations

from partisan_async.models import NEVER_BEGINS, NEVER_ENDS
from partisan_async.models.readable import moment
from partisan_async.models.status import Status
from partisan_async.store.statement import Statement, queue_names

NEVER = f"timestamptz '{NEVER_BEGINS}'"

PARKED_AT_ONCE = 1000
"""Maximum number of rows that one statement parks, or brings back."""

# All bits that fit between the two: no id, whoever set it, leads out of there.
_AT = f"{NEVER} + (id & {2**44 - 1}) * interval '1 microsecond' AS at"


def is_parked(name: str) -> str:
    """Return the condition that a scheduled row waits for the end of a pause; others may be far."""
    at = f"{name}.execute_after"
    return f"""
    ({name}.parked_from IS NOT NULL AND {at} >= {NEVER} AND {at} < timestamptz '{NEVER_ENDS}')
    """


_HELD = f"""
paused AS MATERIALIZED (
    SELECT processor_class, {_AT} FROM partisan_async_pausedprocessor
    WHERE resumed_at IS NULL AND queue_name IN ('', %(queue_name)s)
    FOR SHARE SKIP LOCKED),
held AS MATERIALIZED (SELECT processor_class, min(at) AS at FROM paused GROUP BY processor_class)
"""  # noqa: S608

_PARK = f"""
WITH {_HELD},
first AS MATERIALIZED (
    SELECT id, processor_class FROM partisan_async_task
    WHERE status = '{Status.NEW}' AND queue_name = %(queue_name)s
    ORDER BY priority, id LIMIT {PARKED_AT_ONCE}),
free AS MATERIALIZED (
    SELECT id, processor_class FROM partisan_async_task
    WHERE status = '{Status.NEW}' AND id = ANY (ARRAY(
        SELECT id FROM first WHERE processor_class IN (SELECT processor_class FROM held)))
    FOR UPDATE SKIP LOCKED),
parked AS (
    UPDATE partisan_async_task t
    SET status = '{Status.SCHEDULED}', finished_at = NULL,
        parked_from = t.execute_after, execute_after = held.at
    FROM free JOIN held USING (processor_class) WHERE t.id = ANY (ARRAY[free.id]) RETURNING 1)
SELECT (SELECT count(*) FROM parked)
"""  # noqa: S608


def _rows_of(pause: str, queue: str, columns: str, at_most: object) -> str:
    # A range, and in order: with `=` the planner would take any row for one of a pause that has
    # most of them, and read the table until it finds another's.
    return f"""
    SELECT {columns} FROM partisan_async_task t
    WHERE t.status = '{Status.SCHEDULED}' AND t.queue_name = {queue}
        AND t.execute_after >= {pause}.at AND t.execute_after <= {pause}.at
        AND t.parked_from IS NOT NULL
    ORDER BY t.execute_after LIMIT {at_most}
    """  # noqa: S608


# What another pause holds goes over to that one.
_UNPARK = f"""
WITH {_HELD},
over AS MATERIALIZED (
    SELECT {_AT} FROM partisan_async_pausedprocessor
    WHERE resumed_at IS NOT NULL AND queue_name IN ('', %(queue_name)s)),
free AS MATERIALIZED (
    SELECT each.* FROM over CROSS JOIN LATERAL (
        {_rows_of("over", "%(queue_name)s", "t.id, t.processor_class", PARKED_AT_ONCE)}
        FOR UPDATE SKIP LOCKED) AS each
    LIMIT {PARKED_AT_ONCE}),
back AS (
    UPDATE partisan_async_task t
    SET status = CASE WHEN held.at IS NULL THEN '{Status.NEW}' ELSE '{Status.SCHEDULED}' END,
        finished_at = NULL,
        execute_after = COALESCE(held.at, t.parked_from),
        parked_from = CASE WHEN held.at IS NOT NULL THEN t.parked_from END
    FROM free LEFT JOIN held USING (processor_class)
    WHERE t.id = ANY (ARRAY[free.id]) RETURNING 1)
SELECT (SELECT count(*) FROM back)
"""  # noqa: S608

_QUEUES = "RECURSIVE" + queue_names("names", f"status = '{Status.SCHEDULED}'")

_END_PAUSES = f"""
WITH {_QUEUES},
over AS (
    SELECT id, queue_name, {_AT} FROM partisan_async_pausedprocessor WHERE resumed_at IS NOT NULL)
DELETE FROM partisan_async_pausedprocessor ending
USING over WHERE ending.id = over.id AND ending.resumed_at IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM names CROSS JOIN LATERAL ({_rows_of("over", "names.queue_name", "t.id", 1)}) AS t
    WHERE over.queue_name IN ('', names.queue_name))
RETURNING ending.processor_class
"""  # noqa: S608

_PARKED_QUEUES = f"""
WITH {_QUEUES}
SELECT queue_name FROM names WHERE EXISTS (
    SELECT 1 FROM partisan_async_task t
    WHERE t.status = '{Status.SCHEDULED}' AND t.queue_name = names.queue_name AND {is_parked("t")})
"""  # noqa: S608

_PAUSES = f"""
WITH {_QUEUES},
pause AS (SELECT *, {_AT} FROM partisan_async_pausedprocessor)
SELECT p.processor_class, p.queue_name, {moment("p.paused_at")}, p.resumed_at IS NOT NULL,
    (SELECT count(*) FROM (
        SELECT FROM names q JOIN pause o ON o.processor_class = p.processor_class
        CROSS JOIN LATERAL ({_rows_of("o", "q.queue_name", "t.id", "%(at_most)s")}) AS t
        WHERE p.queue_name IN ('', q.queue_name)
        LIMIT %(at_most)s) AS counted)
FROM pause p ORDER BY p.processor_class, p.queue_name
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
    return Statement(_PARKED_QUEUES, {})


def pauses(at_most: int) -> Statement:
    """Read the processors that are paused.

    Rows: name, queue (empty: all), since when, whether it is ending, and how many are parked.
    """
    return Statement(_PAUSES, {"at_most": at_most})
