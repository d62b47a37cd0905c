"""Django's own tasks as rows: how they are written, read and run.

A row names the task by its dotted name, which no processor of ours can have, and ``arguments`` has
two keys more: ``backend``, the alias that it was enqueued by, and ``run_after`` where one was
given. Its processor is made when a row names it: a class of the same name around the function.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from inspect import iscoroutinefunction
from typing import Any, ClassVar

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from partisan_async import registry, signals, store
from partisan_async.claim import Call
from partisan_async.context import current_task
from partisan_async.django_tasks.fits import refuse_misfit
from partisan_async.enqueue import arguments, insert
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.models import Task as Row
from partisan_async.policy import Decision, Failed, Finished
from partisan_async.processor import BaseTaskProcessor, checked_time
from partisan_async.tasks_backend import (
    ATTRIBUTE,
    InvalidTask,
    Task,
    TaskContext,
    TaskError,
    TaskResult,
    TaskResultStatus,
    find_task,
    is_configured,
    normalize_json,
    task_finished,
    task_started,
)

STATUSES = {
    Row.STATUS_NEW: TaskResultStatus.READY,
    Row.STATUS_SCHEDULED: TaskResultStatus.READY,
    Row.STATUS_IN_PROCESS: TaskResultStatus.RUNNING,
    Row.STATUS_FINISHED: TaskResultStatus.SUCCESSFUL,
    Row.STATUS_ERROR: TaskResultStatus.FAILED,
}


def enqueue(
    task: Task[Any, Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> TaskResult[Any, Any]:
    """Insert the row of a task, in the caller's transaction."""
    return result_of(insert.enqueue(call_of(task, args, kwargs)), task)


def call_of(task: Task[Any, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
    """Return the call of a task.

    :raises TypeError, ValueError: the function does not take the arguments, or they are not JSON,
        or cannot be stored.
    :raises InvalidTask: its time is out of reach.
    """
    try:
        execute_after = checked_time("run_after", task.run_after)
    except ValueError as error:
        raise InvalidTask(str(error)) from None
    context = 1 if task.takes_context else 0
    refuse_misfit(task.func, args, kwargs, f"Task {task.module_path}", given=context)
    more = {"backend": task.backend}
    if task.run_after is not None:
        more["run_after"] = task.run_after.isoformat()
    encoded = arguments.encode(tuple(_json(args)), _json(kwargs), **more)
    arguments.require_size(encoded, task.queue_name)
    return Call(
        queue_name=task.queue_name,
        processor_class=task.module_path,
        arguments=encoded,
        priority=row_priority(task.priority),
        execute_after=execute_after,
        digest=None,
    )


def find(result_id: str) -> TaskResult[Any, Any] | None:
    """Return the result of a task, if a row with this id is one of Django's tasks."""
    if not (isinstance(result_id, str) and result_id.isdecimal() and len(result_id) < 19):
        return None
    row = Row.objects.using(store.database()).filter(pk=int(result_id)).first()
    if row is None or "." not in row.processor_class:
        return None
    if not (isinstance(row.arguments, dict) and "backend" in row.arguments):
        return None  # somebody wrote it by hand
    if find_task(row.processor_class) is None:
        registry.autodiscover()  # it may have been enqueued elsewhere
    return result_of(row)


def row_priority(priority: int) -> int:
    """Return Django's priority, larger first, as ours, smaller first; its 0 is our default."""
    return BaseTaskProcessor.PRIORITY - priority


def result_of(row: Row, task: Task[Any, Any] | None = None) -> TaskResult[Any, Any]:
    """Return a row as Django's API shows it.

    :raises ProcessorClassNotFound: no module that is imported has the task.
    """
    if task is None:
        run_after = row.arguments.get("run_after")
        task = _task(row.processor_class).using(
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
        errors=[_error(each) for each in row.errors if "postponed" not in each],
        worker_ids=_worker_ids(row),
    )
    _set(result, _return_value=row.result)
    return result


@cache
def processor_of(name: str) -> type[BaseTaskProcessor]:
    """Return the processor of a task, by its dotted name.

    :raises ProcessorClassNotFound: no module that is imported has it, or TASKS names no
        ``PartisanBackend``.
    """
    if not is_configured():
        raise ProcessorClassNotFound(name)
    task = _task(name)
    base = _AsyncTask if iscoroutinefunction(task.func) else _SyncTask
    return type(name, (base,), {"task": task, **getattr(task.func, ATTRIBUTE, {})})


class _DjangoTask(BaseTaskProcessor):
    UNIQUE_FOR_PARAMS = False
    STORE_RESULT = True

    task: ClassVar[Task[Any, Any]]
    _result: TaskResult[Any, Any] | None = None

    @classmethod
    def _is_heard(cls) -> bool:
        # Django logs each start and each end by receivers of its own.
        return True

    def _tell_start(self) -> None:
        super()._tell_start()
        running, row = current_task.get(), self.task_obj
        assert running is not None
        assert row is not None
        self._result = result = result_of(row)
        now = timezone.now()
        _set(
            result,
            started_at=row.started_at or now,
            last_attempted_at=now,
            worker_ids=[*result.worker_ids, running.worker_id],
        )
        signals.tell(task_started, "task_started", _sender(result), task_result=result)

    def _tell_end(self, decision: Decision) -> None:
        super()._tell_end(decision)
        if self._result is not None:
            _tell_end(self._result, decision)

    @classmethod
    def _tell_loss(cls, task: Row, decision: Decision) -> None:
        super()._tell_loss(task, decision)
        _tell_end(result_of(task), decision)

    def _arguments(self) -> list[Any]:
        context: list[Any] = []
        if self.task.takes_context:
            assert self._result is not None
            context = [TaskContext(task_result=self._result)]
        return [*context, *self.args]


class _SyncTask(_DjangoTask):
    def run(self) -> Any:
        return normalize_json(self.task.func(*self._arguments(), **self.kwargs))


class _AsyncTask(_DjangoTask):
    async def run(self) -> Any:
        return normalize_json(await self.task.func(*self._arguments(), **self.kwargs))


def _tell_end(result: TaskResult[Any, Any], decision: Decision) -> None:
    match decision:
        case Finished(encoded):
            value = None if encoded is None else json.loads(encoded)
            _set(result, status=TaskResultStatus.SUCCESSFUL, _return_value=value)
        case Failed(failure):
            result.errors.append(_error(asdict(failure)))
            _set(result, status=TaskResultStatus.FAILED)
        case _:
            return
    _set(result, finished_at=timezone.now())
    signals.tell(task_finished, "task_finished", _sender(result), task_result=result)


def _task(name: str) -> Task[Any, Any]:
    task = find_task(name)
    if task is None:
        raise ProcessorClassNotFound(name)
    return task


def _json(value: Any) -> Any:
    try:
        return normalize_json(value)
    except RecursionError:
        raise ValueError(arguments.TOO_DEEP) from None


def _sender(result: TaskResult[Any, Any]) -> type:
    return type(result.task.get_backend())


def _error(error: dict[str, str]) -> TaskError:
    told = f"{error['exception_class']}: {error['message']}"
    return TaskError(
        exception_class_path=error["exception_class"], traceback=error["traceback"] or told
    )


def _worker_ids(row: Row) -> list[str]:
    # Django counts attempts by them, and the row has the newest alone.
    forgotten = row.tries + row.postpones - len(row.worker_ids)
    return [*[""] * forgotten, *row.worker_ids]


def _set(result: TaskResult[Any, Any], **values: Any) -> None:
    # Django's backends do the same: for everybody else a result is read-only.
    for name, value in values.items():
        object.__setattr__(result, name, value)
