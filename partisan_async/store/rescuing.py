"""Rescues rows: claims them from a supervisor that is dead or silent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from partisan_async.models.status import Status
from partisan_async.policy import MAX_INTERRUPTED
from partisan_async.store.among import ALL, Among
from partisan_async.store.claiming import COLUMNS, I_LIVE, NEXT_SEQ
from partisan_async.store.statement import Statement, is_alive, rank

# The anti-join also finds rows whose supervisor's row is gone. The limit of `interrupted`: a task
# that ends each of its supervisors, or whose outcome none can write, must not run again for ever.
_ORPHANED = f"""
SELECT t.id FROM partisan_async_task t
LEFT JOIN partisan_async_supervisor s ON s.id = t.claimed_by AND {is_alive("s")}
WHERE t.status = '{Status.IN_PROCESS}' AND t.queue_name = %(queue_name)s
    AND t.claimed_by <> %(me)s AND t.interrupted < {MAX_INTERRUPTED}
    AND (t.claimed_by = ANY(%(dead)s::uuid[])
            AND (t.limit_name IS NULL OR t.claimed_by <> ALL(%(working)s::uuid[]))
        OR (%(by_clock)s AND s.id IS NULL)) {{others}}
"""  # noqa: S608

_IN_THEIR_ORDER = "ORDER BY t.priority, t.id LIMIT %(limit)s"

_RESCUE = f"""
WITH {I_LIVE}, orphaned AS MATERIALIZED (
    {_ORPHANED} AND EXISTS (SELECT 1 FROM me) {_IN_THEIR_ORDER} FOR UPDATE OF t SKIP LOCKED)
UPDATE partisan_async_task t
SET status = CASE WHEN t.limit_name IS NULL THEN t.status ELSE '{Status.LIMITED}' END,
    claimed_by = CASE WHEN t.limit_name IS NULL THEN %(me)s END,
    claimed_at = CASE WHEN t.limit_name IS NULL THEN statement_timestamp() END,
    {NEXT_SEQ}, limit_rank = {rank("t")}, interrupted = t.interrupted + 1
FROM orphaned WHERE t.id = ANY (ARRAY[orphaned.id])
RETURNING {COLUMNS}
"""  # noqa: S608


def rescue(
    me: UUID,
    queue_name: str,
    limit: int,
    ttl: timedelta,
    *,
    dead: Sequence[UUID],
    by_clock: bool,
    working: Sequence[UUID] = (),
    among: Among = ALL,
) -> Statement:
    """Claim rows whose supervisor is proven dead or, by the clock, silent for a TTL.

    Those with limits come back, too, but wait for their limits again: a run anew is a start.

    :param working: those of the dead whose workers may still run: their limited rows stay.
    """
    params = {"me": me, "queue_name": queue_name, "limit": limit, "ttl": ttl}
    params |= {"dead": list(dead), "by_clock": by_clock, "working": list(working)}
    return among.narrow(Statement(_RESCUE, params), "t.id")


def left_workers(dead: Sequence[UUID]) -> Statement:
    """Read what those of the dead told of their processes that hold limited rows.

    Rows: id, process and workers, as JSON text, which may be unreadable.
    """
    sql = f"""
    SELECT id, process::text, workers::text FROM partisan_async_supervisor s
    WHERE id = ANY(%(dead)s::uuid[]) AND EXISTS (
        SELECT 1 FROM partisan_async_task t WHERE t.status = '{Status.IN_PROCESS}'
            AND t.claimed_by = s.id AND t.limit_name IS NOT NULL)
    """  # noqa: S608
    return Statement(sql, {"dead": list(dead)})


def orphans(rescue: Statement, among: Among = ALL) -> Statement:
    """Read the ids of the rows that a rescue would take."""
    sql = f"{_ORPHANED} {_IN_THEIR_ORDER}"
    return among.narrow(Statement(sql, rescue.params), "t.id")
