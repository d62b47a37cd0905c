"""Claims rows for a supervisor. ``COLUMNS`` is what a claim hands to the worker."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from operator import attrgetter
from typing import Any
from uuid import UUID

from partisan_async.claim import Claim
from partisan_async.models.status import WAITING_SQL, Status
from partisan_async.store.among import ALL, Among
from partisan_async.store.statement import Statement, is_alive

HISTORY = ("created_at", "started_at", "worker_ids", "errors")
"""Columns that only tasks of Django's task API get: their ``TaskResult`` shows them to users."""

# Limited to 0 to 30 days, so that it is finite: see DUE_SECONDS.
_WAITED_SECONDS = """
extract(epoch FROM statement_timestamp() - LEAST(statement_timestamp(), GREATEST(
    t.execute_after, t.created_at, statement_timestamp() - interval '30 days')))::float8
"""

# Likewise: nobody asks for more than ten years.
_TRYING_SECONDS = """
CASE WHEN t.tries > 0 AND t.first_tried_at IS NOT NULL
    THEN extract(epoch FROM statement_timestamp() - LEAST(statement_timestamp(), GREATEST(
        t.first_tried_at, statement_timestamp() - interval '4000 days')))::float8 END
"""

LARGE_BYTES = 2 * 2**20
"""Size above which arguments bypass the supervisor: it would hold those of many tasks in memory."""

# PostgreSQL reads the size of a stored value without reading the value. But a number stored in 16
# bytes may be 147,457 characters of text, the most digits of a NUMERIC, and a compressed value may
# hold thousands of such numbers. So only a stored value this small and uncompressed is surely small
# as text. A stored value of LARGE_BYTES or more is never turned into text.
SURELY_SMALL_BYTES = 200

# OFFSET 0: otherwise the planner inlines the subquery and makes the text twice.
_ARGUMENTS = f"""
CASE WHEN pg_column_size(t.arguments) < {SURELY_SMALL_BYTES}
        AND pg_column_compression(t.arguments) IS NULL THEN t.arguments::text
    WHEN pg_column_size(t.arguments) < {LARGE_BYTES} THEN (
        SELECT CASE WHEN octet_length(made.text) <= {LARGE_BYTES} THEN made.text END
        FROM (SELECT t.arguments::text AS text OFFSET 0) AS made) END
"""  # noqa: S608

COLUMNS = f"""
t.id, t.claim_seq, t.queue_name, t.processor_class, {_ARGUMENTS}, t.priority, t.tries, t.postpones,
    t.lost, t.suspect, t.unrecognised, t.interrupted, {_WAITED_SECONDS},
    CASE WHEN strpos(t.processor_class, '.') > 0 THEN jsonb_build_array(
        t.created_at, t.started_at, t.worker_ids, t.errors)::text END,
    t.traceparent, {_TRYING_SECONDS}, t.limit_name, t.limit_key
"""

# No row if this supervisor's lease has expired or its queue is paused.
I_LIVE = f"""
me AS (SELECT 1 FROM partisan_async_supervisor
       WHERE id = %(me)s AND {is_alive()}
           AND NOT EXISTS (SELECT 1 FROM partisan_async_pausedqueue
                           WHERE queue_name = %(queue_name)s))
"""  # noqa: S608

# After the largest number it starts again at 1. It only has to differ from the number before, and a
# row whose number was set by hand must not make the whole claim fail.
NEXT_SEQ = "claim_seq = mod(t.claim_seq, 2147483647) + 1"

_MINE = f"status = '{Status.IN_PROCESS}', claimed_by = %(me)s, claimed_at = statement_timestamp()"

# {others} leaves out some rows, or all but one: see ``Among``.
_READY = f"""
SELECT id FROM partisan_async_task
WHERE status = '{Status.NEW}' AND queue_name = %(queue_name)s {{others}}
ORDER BY priority, id LIMIT %(limit)s
"""  # noqa: S608

# MATERIALIZED: the planner may run an inlined subquery, with its LIMIT, once per row of the join.
# ANY (ARRAY[…]) instead of "=": with "=" the planner may choose a hash join, and then each claim
# reads a small table to its end, dead rows too; 20,000 rows cost three times what 250 lookups do.
_CLAIM = f"""
WITH {I_LIVE}, due AS MATERIALIZED (
    SELECT id FROM partisan_async_task
    WHERE status = '{Status.NEW}' AND queue_name = %(queue_name)s
        AND EXISTS (SELECT 1 FROM me) {{others}}
    ORDER BY priority, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
UPDATE partisan_async_task t
SET {_MINE}, {NEXT_SEQ}
FROM due WHERE t.id = ANY (ARRAY[due.id])
RETURNING {COLUMNS}
"""  # noqa: S608


def claim(me: UUID, queue_name: str, limit: int, ttl: timedelta, among: Among = ALL) -> Statement:
    """Claim the next rows of a queue; none if my lease has expired. Rows: see ``claims``."""
    params = {"me": me, "queue_name": queue_name, "limit": limit, "ttl": ttl}
    return among.narrow(Statement(_CLAIM, params))


def ready(queue_name: str, limit: int, among: Among = ALL) -> Statement:
    """Read the ids of the rows that a claim would take."""
    return among.narrow(Statement(_READY, {"queue_name": queue_name, "limit": limit}))


def claim_only(me: UUID, task_id: int) -> Statement:
    """Claim this row if it waits. Rows: see ``claims``."""
    sql = f"""
    UPDATE partisan_async_task t
    SET {_MINE}, {NEXT_SEQ}
    WHERE id = %(id)s AND status IN {WAITING_SQL}
    RETURNING {COLUMNS}
    """  # noqa: S608
    return Statement(sql, {"me": me, "id": task_id})


def claims(rows: Iterable[Sequence[Any]]) -> list[Claim]:
    """Return the rows of a claim or a rescue in the order they start: RETURNING keeps no order."""
    return sorted(map(Claim._make, rows), key=_ORDER)


_ORDER = attrgetter("priority", "id")
