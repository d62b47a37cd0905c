"""Finds and mends rows that violate the table's constraints, and validates the constraints.

Such rows are older than the constraints, which a migration adds without a check of existing rows.
PostgreSQL refuses every update of such a row that does not correct it.
"""

from __future__ import annotations

from collections.abc import Sequence

from partisan_async.models.status import ENDED_SQL, KNOWN_SQL, Status
from partisan_async.store.kept import kept
from partisan_async.store.statement import Statement

MENDED_AT_ONCE = 1000
"""Maximum number of rows that one statement mends."""

_BROKEN = f"""
(t.status NOT IN {KNOWN_SQL} OR (t.status IN {ENDED_SQL}) <> (t.finished_at IS NOT NULL))
"""


def broken(behind: int, at_most: int) -> Statement:
    """Read the next ids of rows that violate a constraint; may read the whole table.

    :param behind: only ids greater than this one.
    """
    sql = f"""
    SELECT t.id FROM partisan_async_task t WHERE t.id > %(behind)s AND {_BROKEN}
    ORDER BY t.id LIMIT %(at_most)s
    """  # noqa: S608
    return Statement(sql, {"behind": behind, "at_most": at_most})


def mend(ids: Sequence[int]) -> Statement:
    """Correct the states of rows, except of locked ones. Rows: the ids of the changed rows.

    An unknown status becomes ``error``, with a failure that names it, so that an operator can retry
    the task. A missing ``finished_at`` becomes now; that of a task that has not ended is removed.
    """
    sql = f"""
    UPDATE partisan_async_task t
    SET status = CASE WHEN t.status IN {KNOWN_SQL} THEN t.status ELSE '{Status.ERROR}' END,
        finished_at = CASE WHEN t.status IN {KNOWN_SQL} AND t.status NOT IN {ENDED_SQL} THEN NULL
            ELSE COALESCE(t.finished_at, statement_timestamp()) END,
        errors = CASE WHEN t.status IN {KNOWN_SQL} THEN t.errors
            ELSE {kept("t.errors")} || jsonb_build_object(
                'exception_class', 'UnknownStatus', 'traceback', '', 'try', t.tries::bigint + 1,
                'message', format('Its status was %%L, which no release knows.', t.status),
                'at', statement_timestamp()) END
    WHERE t.id = ANY (ARRAY(
        SELECT t.id FROM partisan_async_task t
        WHERE t.id = ANY(%(ids)s) AND {_BROKEN} ORDER BY t.id FOR UPDATE SKIP LOCKED))
    RETURNING t.id
    """  # noqa: S608
    return Statement(sql, {"ids": list(ids)})


def validate(constraint: str) -> Statement:
    """Have PostgreSQL check all rows against a constraint; it blocks no enqueue and no run."""
    return Statement(f'ALTER TABLE partisan_async_task VALIDATE CONSTRAINT "{constraint}"', {})


def constraints() -> Statement:
    """Read the check constraints of the task table. Rows: name, and True if validated."""
    sql = """
    SELECT conname, convalidated FROM pg_constraint
    WHERE conrelid = 'partisan_async_task'::regclass AND contype = 'c'
    """
    return Statement(sql, {})
