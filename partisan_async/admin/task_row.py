"""What a task's page shows of its row, line by line."""

from __future__ import annotations

from partisan_async.models import Task

Line = str | tuple[str, ...]

_CALL: Line = ("queue_name", "priority", "state", "whose")

_LIMIT: Line = ("limit_name", "told_limit_key", "limit_rank")

_COURSE: tuple[Line, ...] = (
    ("told_created_at", "told_execute_after", "told_parked_from"),
    ("told_started_at", "told_last_attempted_at", "told_finished_at"),
    ("tries", "told_first_tried_at", "postpones"),
    ("lost", "is_suspect", "unrecognised", "interrupted"),
    ("stops", "told_stopped_at"),
    ("claim_seq", "claimed_by", "told_claimed_at"),
    "workers",
)


def lines_of(task: Task | None) -> tuple[Line, ...]:
    """Return the fields of each line; those of a limit only where the task starts under one."""
    limit = () if task is None or task.limit_name is None else (_LIMIT,)
    return (_CALL, *limit, *_COURSE)
