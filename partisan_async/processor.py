"""The class that users derive their tasks from."""

from __future__ import annotations

import abc
import datetime
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connections
from django.utils import timezone

from partisan_async import registry, signals
from partisan_async.claim import Call
from partisan_async.config.processor_configs import ErrorsHandleConfig, PostponeConfig
from partisan_async.enqueue import arguments
from partisan_async.enqueue.bulk import bulk_enqueue
from partisan_async.enqueue.insert import enqueue
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.policy import Decision
from partisan_async.schedule import Cron, Every
from partisan_async.settings import DEFAULT_QUEUE_NAME
from partisan_async.validation import check_priority, check_queue_name

if TYPE_CHECKING:
    from partisan_async.models import Task


class BaseTaskProcessor(abc.ABC):
    """A task's code. Derive from it, write ``run()``, register it, and ``delay()`` its calls.

    :param args: kept as ``self.args``. They and ``kwargs`` must be JSON: see ``delay``.
    :param kwargs: kept as ``self.kwargs``.
    """

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
    """So long ``run()`` may take before it gets ``TaskTimeout``; ``math.inf``: as long as it likes;
    with ``None`` the queue's ``DEFAULT_TIMEOUT_SECONDS`` holds."""

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
            call = self._call(priority, execute_after)
        except AttributeError:
            _refuse_no_call(self, "delay")
            raise
        task = enqueue(call)
        _tell_of(type(self), [task])
        return task

    async def adelay(
        self, *, priority: int = 0, execute_after: datetime.datetime | None = None
    ) -> Task:
        """Enqueue this call from async code, where it commits by itself; else as ``delay``."""
        try:
            delay = self.delay
        except AttributeError:
            _refuse_no_call(self, "adelay")
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
        if isinstance(processors, BaseTaskProcessor):
            raise TypeError(
                f"{cls.__name__}.bulk_delay() takes a list of calls, and got a single one; pass"
                f" [{cls.__name__}(…), {cls.__name__}(…)], or call its delay()."
            )
        for position, processor in enumerate(processors):
            if type(processor) is not cls:
                raise TypeError(
                    f"Call {position} is {processor!r}, which is no {cls.__name__}; pass"
                    f" {cls.__name__}.bulk_delay([{cls.__name__}(…), {cls.__name__}(…)])."
                )
            try:
                common = common or processor._call(priority, execute_after)  # noqa: SLF001
                encoded.append(processor._encoded())  # noqa: SLF001
            except (TypeError, ValueError) as error:
                raise type(error)(f"Call {position}: {error}") from None
        tasks = bulk_enqueue(common, encoded) if common else []
        _tell_of(cls, tasks)
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

    def _call(self, priority: int, execute_after: datetime.datetime | None) -> Call:
        encoded = self._encoded()
        name = type(self).__name__
        if registry.get(name) is not type(self):
            raise ProcessorClassNotFound(name)
        if wrong := check_queue_name(self.QUEUE_NAME):
            raise ValueError(f"{name}.QUEUE_NAME is {self.QUEUE_NAME!r}; it {wrong}.")
        return Call(
            queue_name=self.QUEUE_NAME,
            processor_class=name,
            arguments=encoded,
            priority=_checked_priority(priority or self.PRIORITY),
            execute_after=checked_time("execute_after", execute_after),
            digest=arguments.digest(name, encoded) if self.UNIQUE_FOR_PARAMS else None,
        )

    def _encoded(self) -> str:
        if self._claimed is not None:
            name = type(self).__name__
            raise TypeError(
                f"This {name} is running a task and cannot be delayed; make a new one,"
                f" {name}(…).delay(), or raise PostponeTask to run again later."
            )
        encoded = arguments.encode(self.args, self.kwargs)
        arguments.require_size(encoded, self.QUEUE_NAME)
        return encoded


def _close_idle() -> None:
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


def _refuse_no_call(found: object, method: str) -> None:
    """Refuse ``Processor.delay(5)``: the method is a call's, and 5 took the place of that.

    And a call that has kept no arguments.
    """
    if isinstance(found, BaseTaskProcessor) and not {"args", "kwargs"} <= vars(found).keys():
        raise TypeError(
            f"This {type(found).__name__} has no arguments: its own __init__() must call"
            " super().__init__(…) with those that a worker is to make it with."
        )
    if not isinstance(found, BaseTaskProcessor):
        raise TypeError(
            f"{method}() is called on the class. Make a call first, with its arguments, and enqueue"
            f" that: Processor({reprlib.repr(found)}).{method}()."
        )


def _tell_of(sender: type[BaseTaskProcessor], tasks: Sequence[Task]) -> None:
    if signals.task_enqueued.receivers:
        # Identical calls share a row.
        for task in {task.pk: task for task in tasks if not task.is_twin}.values():
            signals.tell(signals.task_enqueued, "task_enqueued", sender, task=task)


def load(
    processor_class: type[BaseTaskProcessor],
    encoded: Mapping[str, Any],
    claimed: Callable[[], Task],
) -> BaseTaskProcessor:
    """Return a processor of a claimed row, ready to run.

    :param claimed: makes the row that it is to see.
    """
    processor = processor_class(*encoded["args"], **encoded["kwargs"])
    processor._claimed = claimed  # noqa: SLF001  its other half
    processor.__dict__.pop("task_obj", None)  # its __init__ may have looked
    return processor


def tick_of(processor_class: type[BaseTaskProcessor]) -> Call:
    """Return the call that a tick of a scheduled processor enqueues: the one without arguments."""
    processor = processor_class.__new__(processor_class)
    # Not its own, which may do anything: a supervisor asks, and not a worker.
    BaseTaskProcessor.__init__(processor)
    return processor._call(0, None)  # noqa: SLF001  its other half


def _checked_priority(priority: int) -> int:
    if wrong := check_priority(priority):
        raise ValueError(f"priority={priority!r} {wrong}.")
    return priority


def checked_time(name: str, moment: datetime.datetime | None) -> datetime.datetime | None:
    """Return the time before which a call is not to be run, as PostgreSQL takes it.

    :param name: what the caller knows it by.
    :raises TypeError, ValueError: it cannot be.
    """
    if moment is None:
        return None
    if not isinstance(moment, datetime.datetime):
        raise TypeError(
            f"{name}={moment!r} must be a datetime, such as timezone.now() + timedelta(minutes=5)."
        )
    if settings.USE_TZ and timezone.is_naive(moment):
        raise ValueError(
            f"{name}={moment!r} is naive, though USE_TZ is on; pass"
            " timezone.make_aware(…), or timezone.now() plus a timedelta."
        )
    if not 1 < moment.year <= 9000:
        raise ValueError(
            f"{name}={moment!r} is out of reach; pass a time in the years 2 to 9000, or None"
            " for at once."
        )
    # PostgreSQL takes no offset beyond 15:59, and Python does.
    return moment if timezone.is_naive(moment) else moment.astimezone(datetime.UTC)
