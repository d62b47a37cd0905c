"""Shows rows as Django's task API does: as the results of its tasks."""

from __future__ import annotations

from typing import Any

from django.utils.dateparse import parse_datetime

from partisan_async.django_tasks.compat import Task, TaskError, TaskResult, TaskResultStatus
from partisan_async.django_tasks.finding import known_task
from partisan_async.models import Task as Row
from partisan_async.processor import BaseTaskProcessor

STATUSES = {
    Row.STATUS_NEW: TaskResultStatus.READY,
    Row.STATUS_SCHEDULED: TaskResultStatus.READY,
    Row.STATUS_LIMITED: TaskResultStatus.READY,
    Row.STATUS_IN_PROCESS: TaskResultStatus.RUNNING,
    Row.STATUS_FINISHED: TaskResultStatus.SUCCESSFUL,
    Row.STATUS_ERROR: TaskResultStatus.FAILED,
}


def result_of(row: Row, task: Task[Any, Any] | None = None) -> TaskResult[Any, Any]:
    """Return a row as Django's API shows it.

    :raises ProcessorClassNotFound: no imported module has the task.
    """
    if task is None:
        run_after = row.arguments.get("run_after")
        task = known_task(row.processor_class).using(
            priority=row_priority(row.priority),
            queue_name=row.queue_name,
            run_after=run_after and parse_datetime(run_after),
            backend=row.arguments["backend"],
        )
    result: TaskResult[Any, Any] = TaskResult(
        task=task,
        id=str(row.pk),
        status=STATUSES[row.status],
        enqueued_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        last_attempted_at=row.last_attempted_at,
        args=row.args,
        kwargs=row.kwargs,
        backend=task.backend,
        errors=[error_of(each) for each in row.errors if "postponed" not in each],
        worker_ids=_worker_ids(row),
    )
    change(result, _return_value=row.result)
    return result


def row_priority(priority: int) -> int:
    """Turn Django's priority, higher first, into ours, lower first; or back. 0 is our default."""
    return BaseTaskProcessor.PRIORITY - priority


def error_of(error: dict[str, str]) -> TaskError:
    """Return an error of a row, or a failure as a dict, as Django's API shows it."""
    told = f"{error['exception_class']}: {error['message']}"
    return TaskError(
        exception_class_path=error["exception_class"], traceback=error["traceback"] or told
    )


def change(result: TaskResult[Any, Any], **values: Any) -> None:
    """Change a result, which is read-only for everybody else."""
    # Django's backends do the same.
    for name, value in values.items():
        object.__setattr__(result, name, value)


def _worker_ids(row: Row) -> list[str]:
    # Django counts attempts by them, but the row keeps only the newest ones.
    forgotten = row.tries + row.postpones - len(row.worker_ids)
    return [*[""] * forgotten, *row.worker_ids]
