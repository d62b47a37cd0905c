"""Has a settle enqueue the call that tells of a task's end in ``error``: its ``ON_ERROR``.

Both are one statement: whoever ends the row has enqueued the call, and nobody else does, whatever
dies when, and however often the statement is sent again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from partisan_async.claim import Settlement
from partisan_async.models.status import Status

ARRAYS = """,
        %(told_queue)s::text[], %(told_class)s::text[], %(told_arguments)s::text[],
        %(told_priority)s::int[], %(told_traceparent)s::text[], %(told_limit_name)s::text[],
        %(told_limit_rank)s::int[]"""

COLUMNS = (
    ", told_queue, told_class, told_arguments, told_priority, told_traceparent, told_limit_name,"
    " told_limit_rank"
)

# The id is drawn here, so that the answer says which row tells of which.
_TELL = f"""
told AS MATERIALIZED (
    SELECT settled.*, nextval(
        (SELECT pg_get_serial_sequence('partisan_async_task', 'id')::regclass)) AS told_id
    FROM (SELECT * FROM settled WHERE told_queue IS NOT NULL ORDER BY id) AS settled),
inserted AS (
    INSERT INTO partisan_async_task
        (id, queue_name, processor_class, arguments, priority, traceparent, subject, limit_name,
        limit_rank, execute_after, status)
    SELECT told_id, told_queue, told_class,
        told_arguments::jsonb || jsonb_build_object('args', jsonb_build_array(id)),
        told_priority, told_traceparent, subject, told_limit_name, told_limit_rank,
        statement_timestamp(),
        CASE WHEN told_limit_name IS NOT NULL THEN '{Status.LIMITED}' ELSE '{Status.NEW}' END
    FROM told)
SELECT settled.id, told.told_id FROM settled LEFT JOIN told USING (id)
"""  # noqa: S608


def telling(head: str, update: str) -> str:
    """Return the statement of a settle, which enqueues what tells of the rows that it ends.

    :param head: its ``WITH``, up to the settlements, ``d``.
    :param update: writes these, without a ``RETURNING``.
    """
    returned = ", ".join(f"d.{name}" for name in COLUMNS.removeprefix(", ").split(", "))
    return f"{head}, settled AS ({update} RETURNING t.id, t.subject, {returned}),{_TELL}"


def params(settlements: Sequence[Settlement]) -> dict[str, Any]:
    """Return the parameters of ``ARRAYS``: of each settlement the call that tells of it, if any."""
    calls = [(settlement.told_by, settlement.claim.traceparent) for settlement in settlements]
    return {
        "told_queue": [call and call.queue_name for call, _ in calls],
        "told_class": [call and call.processor_class for call, _ in calls],
        "told_arguments": [call and call.arguments for call, _ in calls],
        "told_priority": [call and call.priority for call, _ in calls],
        "told_limit_name": [call and call.limit_name for call, _ in calls],
        "told_limit_rank": [call and call.limit_rank for call, _ in calls],
        "told_traceparent": [traceparent if call else None for call, traceparent in calls],
    }
