"""Runs Django's own tasks: a processor of the same name is made around the function of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from inspect import iscoroutinefunction
from typing import Any, ClassVar

from django.utils import timezone

from partisan_async import signals
from partisan_async.claim import Call
from partisan_async.context import current_task
from partisan_async.django_tasks import options
from partisan_async.django_tasks.backends import is_configured, is_ours
from partisan_async.django_tasks.calls import (
    call_by_schedule,
    call_on_error,
    limit_key_of,
    subject_of,
)
from partisan_async.django_tasks.chosen import chosen
from partisan_async.django_tasks.compat import (
    Task,
    TaskContext,
    TaskResult,
    TaskResultStatus,
    normalize_json,
    task_finished,
    task_started,
)
from partisan_async.django_tasks.finding import known_task
from partisan_async.django_tasks.fits import refuse_wrong_call
from partisan_async.django_tasks.results import change, error_of, result_of, row_priority
from partisan_async.enqueue import limits
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.models import Task as Row
from partisan_async.policy import Cancelled, Decision, Failed, Finished
from partisan_async.processor import BaseTaskProcessor


@cache
def processor_of(name: str) -> type[BaseTaskProcessor]:
    """Return the processor of a task, by its dotted name.

    :raises ProcessorClassNotFound: no imported module has it, or TASKS names no
        ``PartisanBackend``.
    """
    if not is_configured():
        raise ProcessorClassNotFound(name)
    task = known_task(name)
    base = _AsyncTask if iscoroutinefunction(task.func) else _SyncTask
    attributes = {
        "task": task,
        "QUEUE_NAME": task.queue_name,
        "PRIORITY": row_priority(task.priority),
        **options.of_function(task.func),
    }
    return type(name, (base,), attributes)


def processors_of(tasks: Iterable[Task[Any, Any]]) -> list[type[BaseTaskProcessor]]:
    """Return the processors of those of these tasks that are our backend's."""
    return [processor_of(task.module_path) for task in tasks if is_ours(task.backend)]


class _DjangoTask(BaseTaskProcessor):
    UNIQUE_FOR_PARAMS = False
    STORE_RESULT = True

    limit_key_by: ClassVar[Callable[..., Any] | None] = None
    task: ClassVar[Task[Any, Any]]
    _result: TaskResult[Any, Any] | None = None

    @classmethod
    def _is_heard(cls) -> bool:
        # Django logs each start and each end by receivers of its own.
        return True

    @classmethod
    def _refuse_misfit(cls, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        refuse_wrong_call(cls.task, args, kwargs)

    def _tell_start(self) -> None:
        super()._tell_start()
        running, row = current_task.get(), self.task_obj
        assert running is not None
        assert row is not None
        self._result = result = result_of(row)
        now = timezone.now()
        change(
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

    @classmethod
    def _call_on_error(cls) -> Call:
        return limits.with_limit_unasked(call_on_error(cls.task), cls)

    @classmethod
    def _call_by_schedule(cls, encoded: str, queue_name: str, subject: str | None) -> Call:
        return call_by_schedule(cls.task, encoded, queue_name, subject)

    @classmethod
    def _refuse_other(cls, task: Task[Any, Any]) -> None:
        """Refuse a task that a schedule cannot enqueue as it is.

        :raises TypeError: it is another backend's, or ``using()`` has changed it.
        """
        name = task.module_path
        if not is_ours(task.backend):
            raise TypeError(
                f"The task {name} has backend={task.backend!r}, which is no PartisanBackend: no"
                " schedule can enqueue it."
            )
        if task != cls.task:
            raise TypeError(
                f"A schedule enqueues {name} as @task declares it, and keeps nothing of using(…):"
                " leave it out, or declare another task."
            )

    @classmethod
    def values_by(
        cls, args: Sequence[Any], kwargs: Mapping[str, Any], names: Iterable[str | int]
    ) -> dict[str, Any]:
        """Return what a call passes for these parameters of the function, as JSON."""
        return chosen(cls.task, args, kwargs, names)

    @classmethod
    def subject_of_call(cls, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
        """Return whose a call is, as the task's options say."""
        return subject_of(cls.task, args, kwargs)

    @classmethod
    def limit_key_of_call(cls, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
        """Return the key of a call under the task's limit, as its options say."""
        return limit_key_of(cls.task, args, kwargs)

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
            change(result, status=TaskResultStatus.SUCCESSFUL, _return_value=value)
        case Failed(failure) | Cancelled(failure):
            result.errors.append(error_of(asdict(failure)))
            change(result, status=TaskResultStatus.FAILED)
        case _:
            return
    change(result, finished_at=timezone.now())
    signals.tell(task_finished, "task_finished", _sender(result), task_result=result)


def _sender(result: TaskResult[Any, Any]) -> type:
    return type(result.task.get_backend())
