"""Parks the ready rows of paused processors, and unparks them when the pause is over.

A claim reads ready rows in order, and would each time read 100,000 rows of a paused processor
before it reaches the others. So these rows are *parked*: scheduled for a time that never comes,
with their own time kept in ``parked_from``. Nothing else changes: identical calls find them
waiting. Each pause parks its rows at its own time, so the index of scheduled rows finds them at
once.

A pause that is over is *ending* while rows of it are still parked. No statement parks more for it:
parking locks the row of the pause, and skips a row that another transaction is ending.
"""

from __future__ import annotations

from partisan_async.models import NEVER_BEGINS, NEVER_ENDS
from partisan_async.models.readable import moment
from partisan_async.models.status import Status
from partisan_async.store.statement import Statement, queue_names, rank, waiting

NEVER = f"timestamptz '{NEVER_BEGINS}'"

PARKED_AT_ONCE = 1000
"""Maximum number of rows that one statement parks or unparks."""

# As many bits of the id as fit between NEVER_BEGINS and NEVER_ENDS: even an id set by hand stays
# inside.
_AT = f"{NEVER} + (id & {2**44 - 1}) * interval '1 microsecond' AS at"


def is_parked(name: str) -> str:
    """Return the condition that a scheduled row is parked, and not merely due in the far future."""
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

# status || '': else the planner may find the ids by reading all of an index of waiting rows, which
# it takes for empty.
_PARK = f"""
WITH {_HELD},
first AS MATERIALIZED (
    SELECT id, processor_class FROM partisan_async_task
    WHERE status = '{Status.NEW}' AND queue_name = %(queue_name)s
    ORDER BY priority, id LIMIT {PARKED_AT_ONCE}),
free AS MATERIALIZED (
    SELECT id, processor_class FROM partisan_async_task
    WHERE status || '' = '{Status.NEW}' AND id = ANY (ARRAY(
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
    # A range with ORDER BY, not "=": if one pause has parked most of the rows, the planner expects
    # a match for any pause early in a sequential scan, and reads the table until it finds one.
    return f"""
    SELECT {columns} FROM partisan_async_task t
    WHERE t.status = '{Status.SCHEDULED}' AND t.queue_name = {queue}
        AND t.execute_after >= {pause}.at AND t.execute_after <= {pause}.at
        AND t.parked_from IS NOT NULL
    ORDER BY t.execute_after LIMIT {at_most}
    """  # noqa: S608


# A row that another pause holds, too, stays parked, for that pause.
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
    SET status = CASE WHEN held.at IS NULL THEN {waiting("t")} ELSE '{Status.SCHEDULED}' END,
        finished_at = NULL, limit_rank = {rank("t")},
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
    """Park those of a queue's first ready rows whose processors are paused. One row: how many."""
    return Statement(_PARK, {"queue_name": queue_name})


def unpark(queue_name: str) -> Statement:
    """Unpark rows of a queue whose pauses are over. One row: how many."""
    return Statement(_UNPARK, {"queue_name": queue_name})


def end_pauses() -> Statement:
    """Remove pauses that are over and have no parked rows left. Rows: their processors."""
    return Statement(_END_PAUSES, {})


def parked_queues() -> Statement:
    """Read the names of the queues with parked rows."""
    return Statement(_PARKED_QUEUES, {})


def pauses(at_most: int) -> Statement:
    """Read the pauses of processors.

    Rows: processor, queue (empty: all), start, True if it is ending, and number of parked rows.

    :param at_most: number at which the count of parked rows stops.
    """
    return Statement(_PAUSES, {"at_most": at_most})
