"""The class that users derive their tasks from."""

from __future__ import annotations

import abc
import datetime
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

from asgiref.sync import sync_to_async
from django.db import connections

from partisan_async import signals
from partisan_async.config.processor_configs import ErrorsHandleConfig, PostponeConfig
from partisan_async.enqueue import refusals
from partisan_async.enqueue.bulk import bulk_enqueue
from partisan_async.enqueue.calls import call_of, encoded_of
from partisan_async.enqueue.insert import enqueue
from partisan_async.policy import Decision
from partisan_async.schedule import Cron, Every
from partisan_async.settings import DEFAULT_QUEUE_NAME

if TYPE_CHECKING:
    from partisan_async.models import Task


class BaseTaskProcessor(abc.ABC):
    """A task's code. Derive from it, write ``run()``, register it, and ``delay()`` its calls.

    :param args: kept as ``self.args``. They and ``kwargs`` must be JSON: see ``delay``.
    :param kwargs: kept as ``self.kwargs``.
    """

    NAME: ClassVar[str | None] = None
    """What rows call it; with ``None``, or where the class itself has none, its bare name."""

    ALSO_KNOWN_AS: ClassVar[Sequence[str]] = ()
    """Its names of before, the first one first: rows that have them are run by it."""

    PRIORITY: ClassVar[int] = 10
    """Lower number first."""

    QUEUE_NAME: ClassVar[str] = DEFAULT_QUEUE_NAME
    """The queue whose supervisors run it."""

    UNIQUE_FOR_PARAMS: ClassVar[bool] = True
    """Whether a call is ignored while an identical one still waits."""

    RETRY_ON_ERROR_CONFIG: ClassVar[ErrorsHandleConfig | None] = None
    """Which errors are tried again; with ``None`` every error is final."""

    POSTPONE_CONFIG: ClassVar[PostponeConfig | None] = None
    """How often it may postpone; with ``None`` the queue's ``DEFAULT_POSTPONES_COUNT`` holds."""

    TIMEOUT_SECONDS: ClassVar[float | None] = None
    """Time that ``run()`` may take before it gets ``TaskTimeout``; ``math.inf``: no limit; with
    ``None`` the queue's ``DEFAULT_TIMEOUT_SECONDS`` holds."""

    STORE_RESULT: ClassVar[bool] = False
    """Whether what ``run()`` returns is kept on the row, as JSON; its end can be waited for."""

    ATOMIC: ClassVar[bool] = False
    """Whether a plain ``run()`` and the row's end are one transaction: both are there, or neither,
    whenever the worker may die."""

    SCHEDULE: ClassVar[str | Cron | Every | None] = None
    """When a call without arguments is enqueued by itself; a string is a cron expression."""

    _claimed: Callable[[], Task] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.kwargs = kwargs

    @cached_property
    def task_obj(self) -> Task | None:
        """While it runs: the row, as it was claimed; ``(id, claim_seq)`` is unique to this run."""
        # Made when asked for: it costs as much as the rest of a small task.
        return None if self._claimed is None else self._claimed()

    @abc.abstractmethod
    def run(self) -> Any:
        """Do the work. It may be ``async def``. It may run twice: see the guarantees."""

    def delay(self, *, priority: int = 0, execute_after: datetime.datetime | None = None) -> Task:
        """Enqueue this call, in the caller's transaction, and return its row.

        Where ``UNIQUE_FOR_PARAMS`` holds and an identical call still waits, return that call's row.

        :param priority: lower number first; 0 takes the class's ``PRIORITY``.
        :param execute_after: not to be run before; ``None`` is at once.
        :raises TypeError: an argument is not JSON, or this processor is itself running a task.
        :raises ValueError: an argument cannot be stored, ``execute_after`` is naive though USE_TZ
            is on or is out of reach, or ``priority`` is no 32-bit number.
        :raises ArgumentsTooLarge: a ``ValueError``, too: the arguments are more than
            ``MAX_ARGUMENTS_BYTES`` of the queue.
        :raises ProcessorClassNotFound: the class is not registered, and no worker would know it.
        """
        try:
            call = call_of(self, priority, execute_after)
        except AttributeError:
            refusals.refuse_no_call(self, "delay", BaseTaskProcessor)
            raise
        task = enqueue(call)
        signals.tell_of_enqueued(type(self), [task])
        return task

    async def adelay(
        self, *, priority: int = 0, execute_after: datetime.datetime | None = None
    ) -> Task:
        """Enqueue this call from async code, where it commits by itself; else as ``delay``."""
        try:
            delay = self.delay
        except AttributeError:
            refusals.refuse_no_call(self, "adelay", BaseTaskProcessor)
            raise
        return await sync_to_async(delay)(priority=priority, execute_after=execute_after)

    @classmethod
    def bulk_delay(
        cls,
        processors: Iterable[Self],
        *,
        priority: int = 0,
        execute_after: datetime.datetime | None = None,
    ) -> list[Task]:
        """Enqueue these calls, all or none, and return their rows in the same order.

        One statement inserts a thousand. Calls that are identical share a row where
        ``UNIQUE_FOR_PARAMS`` holds. What is wrong with one of them is told before any is enqueued.

        :param processors: of this very class.
        :param priority: of all of them; as in ``delay``.
        :param execute_after: of all of them; as in ``delay``.
        :raises TypeError, ValueError, ProcessorClassNotFound: as in ``delay``; the message says
            which call it is about.
        """
        common, encoded = None, []
        refusals.refuse_single_call(processors, cls, BaseTaskProcessor)
        for position, processor in enumerate(processors):
            if type(processor) is not cls:
                raise refusals.foreign_call(position, processor, cls)
            try:
                common = common or call_of(processor, priority, execute_after)
                encoded.append(encoded_of(processor))
            except (TypeError, ValueError) as error:
                raise type(error)(f"Call {position}: {error}") from None
        tasks = bulk_enqueue(common, encoded) if common else []
        signals.tell_of_enqueued(cls, tasks)
        return tasks

    @classmethod
    async def abulk_delay(
        cls,
        processors: Iterable[Self],
        *,
        priority: int = 0,
        execute_after: datetime.datetime | None = None,
    ) -> list[Task]:
        """Enqueue these calls from async code, where they commit by themselves; else as
        ``bulk_delay``."""
        bulk_delay = sync_to_async(cls.bulk_delay)
        return await bulk_delay(processors, priority=priority, execute_after=execute_after)

    async def release_connections(self) -> None:
        """Give the database's connections back that this run has, in an ``async def run()``.

        Before it waits long for something else: the next query gets one anew. One that is in a
        transaction stays, as in a test.
        """
        await sync_to_async(_close_idle)()

    # For the running side: its own part of what signals tell.

    @classmethod
    def _is_heard(cls) -> bool:
        """Tell whether anybody may be told of its tasks."""
        return signals.is_anybody_there()

    def _tell_start(self) -> None:
        """Tell that a run begins."""
        if self.task_obj is not None and self._is_heard():
            signals.tell(signals.task_started, "task_started", type(self), task=self.task_obj)

    def _tell_end(self, decision: Decision) -> None:
        """Tell what becomes of the task after a run."""
        if self.task_obj is not None:
            signals.send_decision(type(self), self.task_obj, decision)

    @classmethod
    def _tell_loss(cls, task: Task, decision: Decision) -> None:
        """Tell of an end that no worker has seen."""
        signals.send_decision(cls, task, decision)


def _close_idle() -> None:
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()
