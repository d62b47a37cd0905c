"""Claims rows for a supervisor, and says what a claim hands to the worker: ``COLUMNS``."""

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
"""Columns that only runs of Django's own tasks get: their ``TaskResult`` shows these to users."""

# Between nothing and a month, and so finite: see DUE_SECONDS.
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
"""Larger arguments do not pass through the supervisor, which would have to hold those of many."""

# The size of the stored value, which PostgreSQL reads without the value itself. A number may be
# stored in 16 bytes and be 147,457 characters as text, the most digits of a NUMERIC; a compressed
# value may have thousands of such numbers. So text is surely small only if the stored value is
# this small and not compressed. A stored value of LARGE_BYTES or more is not even turned into text.
SURELY_SMALL_BYTES = 200

# OFFSET 0: the text is made once.
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
    t.traceparent, {_TRYING_SECONDS}
"""

# Alive, and not told to start nothing.
I_LIVE = f"""
me AS (SELECT 1 FROM partisan_async_supervisor
       WHERE id = %(me)s AND {is_alive()}
           AND NOT EXISTS (SELECT 1 FROM partisan_async_pausedqueue
                           WHERE queue_name = %(queue_name)s))
"""  # noqa: S608

# After the largest number it begins again at 1: all that matters is that it is another one, and a
# row whose number was set by hand must not keep the others from being claimed.
NEXT_SEQ = "claim_seq = mod(t.claim_seq, 2147483647) + 1"

_MINE = f"status = '{Status.IN_PROCESS}', claimed_by = %(me)s, claimed_at = statement_timestamp()"

# {others} leaves rows out, or all but one: see ``Among``.
_READY = f"""
SELECT id FROM partisan_async_task
WHERE status = '{Status.NEW}' AND queue_name = %(queue_name)s {{others}}
ORDER BY priority, id LIMIT %(limit)s
"""  # noqa: S608

# MATERIALIZED: an inlined subquery may be run again for each row of the join, and LIMIT with it.
# ANY (ARRAY[…]) and not a plain "=": that lets the planner join by hashes, and then each claim
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
    """Claim the next rows of a queue, if my last beat is younger than the TTL; see ``claims``."""
    params = {"me": me, "queue_name": queue_name, "limit": limit, "ttl": ttl}
    return among.narrow(Statement(_CLAIM, params))


def ready(queue_name: str, limit: int, among: Among = ALL) -> Statement:
    """Read the ids of the rows that a claim would take."""
    return among.narrow(Statement(_READY, {"queue_name": queue_name, "limit": limit}))


def claim_only(me: UUID, task_id: int) -> Statement:
    """Claim this row; see ``claims``."""
    sql = f"""
    UPDATE partisan_async_task t
    SET {_MINE}, {NEXT_SEQ}
    WHERE id = %(id)s AND status IN {WAITING_SQL}
    RETURNING {COLUMNS}
    """  # noqa: S608
    return Statement(sql, {"me": me, "id": task_id})


def claims(rows: Iterable[Sequence[Any]]) -> list[Claim]:
    """Return the rows of a claim or a rescue in the order they should start: RETURNING has none."""
    return sorted(map(Claim._make, rows), key=_ORDER)


_ORDER = attrgetter("priority", "id")
