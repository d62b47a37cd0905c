"""Takes rows for a supervisor: claims, rescues, and makes ready what is due."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from datetime import timedelta
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

from partisan_async.claim import Claim
from partisan_async.policy import MAX_INTERRUPTED
from partisan_async.store.statement import DUE_SECONDS, Statement, is_alive

HISTORY = ("created_at", "started_at", "worker_ids", "errors")
"""What runs of Django's own tasks are told besides: it is in what they pass to users."""


PROMOTED_AT_ONCE = 1000
"""So many due rows are made ready by one statement."""


# Between nothing and a month, and so finite: see DUE_SECONDS.
_WAITED_SECONDS = """
extract(epoch FROM statement_timestamp() - LEAST(statement_timestamp(), GREATEST(
    t.execute_after, t.created_at, statement_timestamp() - interval '30 days')))::float8
"""

LARGE_BYTES = 2 * 2**20
"""Arguments of more do not pass through the supervisor, which would have to hold those of many."""

# By its size as it is stored, which is read without the value itself. That of a number is 16 bytes,
# and its text as long as 147,457: so many digits NUMERIC has. What is compressed may have thousands
# of them in as little. What is larger than that as it is, is not looked at.
SURELY_SMALL_BYTES = 200

# OFFSET 0: the text is made once.
_ARGUMENTS = f"""
CASE WHEN pg_column_size(t.arguments) < {SURELY_SMALL_BYTES}
        AND pg_column_compression(t.arguments) IS NULL THEN t.arguments::text
    WHEN pg_column_size(t.arguments) < {LARGE_BYTES} THEN (
        SELECT CASE WHEN octet_length(made.text) <= {LARGE_BYTES} THEN made.text END
        FROM (SELECT t.arguments::text AS text OFFSET 0) AS made) END
"""  # noqa: S608

_COLUMNS = f"""
t.id, t.claim_seq, t.queue_name, t.processor_class, {_ARGUMENTS}, t.priority, t.tries, t.postpones,
    t.lost, t.suspect, t.unrecognised, t.interrupted, {_WAITED_SECONDS},
    CASE WHEN strpos(t.processor_class, '.') > 0 THEN jsonb_build_array(
        t.created_at, t.started_at, t.worker_ids, t.errors)::text END,
    t.traceparent
"""

# Alive, and not told to start nothing.
_ALIVE = f"""
me AS (SELECT 1 FROM partisan_async_supervisor
       WHERE id = %(me)s AND {is_alive()}
           AND NOT EXISTS (SELECT 1 FROM partisan_async_pausedqueue
                           WHERE queue_name = %(queue_name)s))
"""  # noqa: S608

# After the largest number it begins again at 1: all that matters is that it is another one, and a
# row whose number was set by hand must not keep the others from being claimed.
_NEXT_SEQ = "claim_seq = mod(t.claim_seq, 2147483647) + 1"

# {others} leaves rows out, or all but one: see ``Among``.
_READY = """
SELECT id FROM partisan_async_task
WHERE status = 'new' AND queue_name = %(queue_name)s {others}
ORDER BY priority, id LIMIT %(limit)s
"""

# MATERIALIZED: an inlined subquery may be run again for each row of the join, and LIMIT with it.
# ANY (ARRAY[…]) and not a plain "=": that lets the planner join by hashes, and then each claim
# reads a small table to its end, dead rows too; 20,000 rows cost three times what 250 lookups do.
_CLAIM = f"""
WITH {_ALIVE}, due AS MATERIALIZED (
    SELECT id FROM partisan_async_task
    WHERE status = 'new' AND queue_name = %(queue_name)s AND EXISTS (SELECT 1 FROM me) {{others}}
    ORDER BY priority, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
UPDATE partisan_async_task t
SET status = 'in_process', claimed_by = %(me)s, claimed_at = statement_timestamp(), {_NEXT_SEQ}
FROM due WHERE t.id = ANY (ARRAY[due.id])
RETURNING {_COLUMNS}
"""  # noqa: S608

# The anti-join also finds the rows whose supervisor's row is gone. One that all its supervisors end
# under, or whose outcome none of them can write, must not be run again for ever.
_ORPHANED = f"""
SELECT t.id FROM partisan_async_task t
LEFT JOIN partisan_async_supervisor s ON s.id = t.claimed_by AND {is_alive("s")}
WHERE t.status = 'in_process' AND t.queue_name = %(queue_name)s
    AND t.claimed_by <> %(me)s AND t.interrupted < {MAX_INTERRUPTED}
    AND (t.claimed_by = ANY(%(dead)s::uuid[]) OR (%(by_clock)s AND s.id IS NULL)) {{others}}
"""  # noqa: S608

_IN_THEIR_ORDER = "ORDER BY t.priority, t.id LIMIT %(limit)s"

_RESCUE = f"""
WITH {_ALIVE}, orphaned AS MATERIALIZED (
    {_ORPHANED} AND EXISTS (SELECT 1 FROM me) {_IN_THEIR_ORDER} FOR UPDATE OF t SKIP LOCKED)
UPDATE partisan_async_task t
SET claimed_by = %(me)s, claimed_at = statement_timestamp(), {_NEXT_SEQ},
    interrupted = t.interrupted + 1
FROM orphaned WHERE t.id = ANY (ARRAY[orphaned.id])
RETURNING {_COLUMNS}
"""  # noqa: S608


_HELD = f"""
SELECT {_COLUMNS} FROM partisan_async_task t WHERE status = 'in_process' AND claimed_by = %(me)s
"""  # noqa: S608

_DUE = """
SELECT id FROM partisan_async_task
WHERE status = 'scheduled' AND queue_name = %(queue_name)s
    AND execute_after <= statement_timestamp() {others}
ORDER BY execute_after
"""

_PROMOTE = f"""
WITH due AS MATERIALIZED (
    {_DUE} LIMIT {PROMOTED_AT_ONCE} FOR UPDATE SKIP LOCKED),
promoted AS (
    UPDATE partisan_async_task t SET status = 'new' FROM due WHERE t.id = ANY (ARRAY[due.id])
    RETURNING 1)
SELECT (SELECT count(*) FROM promoted),
    (SELECT {DUE_SECONDS}
     FROM partisan_async_task
     WHERE status = 'scheduled' AND queue_name = %(queue_name)s
         AND execute_after > statement_timestamp()
     ORDER BY execute_after LIMIT 1)
"""  # noqa: S608


class Among(NamedTuple):
    """Which of the rows that a statement would take it may take: what one refuses spoils all.

    :param but: all but these.
    :param only: this one, if it is among them.
    :param paused: none of these processors.
    """

    but: Sequence[int] = ()
    only: int | None = None
    paused: Sequence[str] = ()

    def narrow(self, statement: Statement, name: str = "id") -> Statement:
        """Return the statement for these rows alone."""
        # Without any the statement is the same as ever, and so is its plan.
        others, params = "", statement.params
        if self.but:
            others = f"AND {name} <> ALL(%(but)s::bigint[])"
            params = params | {"but": list(self.but)}
        if self.only is not None:
            others += f" AND {name} = %(only)s"
            params = params | {"only": self.only}
        if self.paused:
            others += f" AND {name.removesuffix('id')}processor_class <> ALL(%(paused)s::text[])"
            params = params | {"paused": list(self.paused)}
        return Statement(statement.sql.replace("{others}", others), params)


ALL = Among()


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
    SET status = 'in_process', claimed_by = %(me)s, claimed_at = statement_timestamp(), {_NEXT_SEQ}
    WHERE id = %(id)s AND status IN ('new', 'scheduled')
    RETURNING {_COLUMNS}
    """  # noqa: S608
    return Statement(sql, {"me": me, "id": task_id})


def rescue(
    me: UUID,
    queue_name: str,
    limit: int,
    ttl: timedelta,
    *,
    dead: Sequence[UUID],
    by_clock: bool,
    among: Among = ALL,
) -> Statement:
    """Claim rows whose supervisor is proven dead or, by the clock, silent for a TTL."""
    params = {"me": me, "queue_name": queue_name, "limit": limit, "ttl": ttl}
    params |= {"dead": list(dead), "by_clock": by_clock}
    return among.narrow(Statement(_RESCUE, params), "t.id")


def orphans(rescue: Statement, among: Among = ALL) -> Statement:
    """Read the ids of the rows that a rescue would take."""
    sql = f"{_ORPHANED} {_IN_THEIR_ORDER}"
    return among.narrow(Statement(sql, rescue.params), "t.id")


def claims(rows: Iterable[Sequence[Any]]) -> list[Claim]:
    """Return the rows of a claim or a rescue in the order they should start: RETURNING has none."""
    return sorted(map(Claim._make, rows), key=_ORDER)


_ORDER = attrgetter("priority", "id")


def arguments_of(me: UUID, claim: Claim) -> Statement:
    """Read the arguments of a row that came without. Row: JSON, or none: it is another's."""
    sql = """
    SELECT arguments::text FROM partisan_async_task
    WHERE id = %(id)s AND claim_seq = %(claim_seq)s AND claimed_by = %(me)s
    """
    return Statement(sql, {"id": claim.id, "claim_seq": claim.claim_seq, "me": me})


def look(claims: Sequence[Claim]) -> Statement:
    """Read what has become of rows: their id, claim_seq, holder and status."""
    sql = (
        "SELECT id, claim_seq, claimed_by, status FROM partisan_async_task WHERE id = ANY(%(ids)s)"
    )
    return Statement(sql, {"ids": [claim.id for claim in claims]})


def promote(queue_name: str, among: Among = ALL) -> Statement:
    """Make due rows ready. One row: how many, and in how many seconds the next one is due."""
    return among.narrow(Statement(_PROMOTE, {"queue_name": queue_name}))


def due(queue_name: str, among: Among = ALL) -> Statement:
    """Read the ids of the rows that would be made ready."""
    sql = f"{_DUE} LIMIT {PROMOTED_AT_ONCE}"
    return among.narrow(Statement(sql, {"queue_name": queue_name}))


def advance(queue_name: str | None, until: datetime.datetime) -> Statement:
    """Make the next row ready that is scheduled, if it is due by then. Rows: its time, or none.

    :param queue_name: ``None``: of all queues.
    """
    sql = """
    UPDATE partisan_async_task SET status = 'new' WHERE id = (
        SELECT id FROM partisan_async_task
        WHERE status = 'scheduled' AND execute_after <= %(until)s
            AND (%(queue_name)s::text IS NULL OR queue_name = %(queue_name)s)
        ORDER BY execute_after, priority, id LIMIT 1)
    RETURNING execute_after
    """
    return Statement(sql, {"queue_name": queue_name, "until": until})


def named(pk: int) -> Statement:
    """Read what a log line tells of a row. Rows: claim_seq, processor_class and queue_name."""
    sql = """
    SELECT claim_seq, processor_class, queue_name FROM partisan_async_task WHERE id = %(id)s
    """
    return Statement(sql, {"id": pk})


def held(me: UUID) -> Statement:
    """Read the claims I hold; see ``claims``."""
    return Statement(_HELD, {"me": me})
