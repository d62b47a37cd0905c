"""``BaseTaskProcessor``: the class that users derive their tasks from."""

from __future__ import annotations

import abc
import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from asgiref.sync import sync_to_async

from partisan_async import signals
from partisan_async.config.processor_configs import ErrorsHandleConfig, PostponeConfig
from partisan_async.enqueue import refusals
from partisan_async.enqueue.batch import batch_of
from partisan_async.enqueue.bulk import bulk_enqueue
from partisan_async.enqueue.calls import call_of
from partisan_async.enqueue.insert import enqueue
from partisan_async.limits import Limit
from partisan_async.schedule import Cron, Every
from partisan_async.settings import DEFAULT_QUEUE_NAME
from partisan_async.telling import Telling
from partisan_async.unique import Unique

if TYPE_CHECKING:
    from partisan_async.models import Task


class BaseTaskProcessor(Telling, abc.ABC):
    """A task's code. Derive from it, write ``run()``, register it, and ``delay()`` its calls.

    :param args: what ``run()`` takes; JSON values where it has no parameters: see ``delay``. They
        are in ``self.args``, too.
    :param kwargs: likewise, and in ``self.kwargs``.
    """

    NAME: ClassVar[str | None] = None
    """What rows call it; with ``None``, or where the class itself has none, its bare name."""

    ALSO_KNOWN_AS: ClassVar[Sequence[str]] = ()
    """Its names of before, the first one first: rows that have them are run by it."""

    PRIORITY: ClassVar[int] = 10
    """Tasks with lower numbers run first."""

    QUEUE_NAME: ClassVar[str] = DEFAULT_QUEUE_NAME
    """The queue whose supervisors run these tasks."""

    UNIQUE_FOR_PARAMS: ClassVar[bool] = True
    """Whether a call is ignored while an identical one still waits."""

    UNIQUE: ClassVar[Unique | None] = None
    """Which calls are the same, and what one does to its twin; ``None``: ``UNIQUE_FOR_PARAMS``."""

    LIMIT: ClassVar[Limit | None] = None
    """How many of its tasks run at once, how often they start, in which order; ``None``: any."""

    RETRY_ON_ERROR_CONFIG: ClassVar[ErrorsHandleConfig | Sequence[ErrorsHandleConfig] | None] = None
    """Errors after which a task runs again, and how often; ``None``: every error is final. Of
    several the first that names the error holds."""

    POSTPONE_CONFIG: ClassVar[PostponeConfig | None] = None
    """How often a task may postpone itself; ``None``: the queue's ``DEFAULT_POSTPONES_COUNT``."""

    TIMEOUT_SECONDS: ClassVar[float | None] = None
    """Time limit of ``run()``, after which it gets ``TaskTimeout``. ``math.inf``: none. ``None``:
    the queue's ``DEFAULT_TIMEOUT_SECONDS``."""

    STORE_RESULT: ClassVar[bool] = False
    """Whether the row keeps what ``run()`` returns, as JSON; callers can then wait for its end."""

    ATOMIC: ClassVar[bool] = False
    """Whether a plain ``run()`` and the row's end are one transaction: both happen, or neither."""

    ON_MISSING: ClassVar[Literal["error", "finish"]] = "error"
    """What becomes of a call whose model instance is gone when it is to run: it ends with
    ``RowMissing``, or as finished without a run."""

    SENSITIVE: ClassVar[Sequence[str]] = ()
    """Names of parameters whose values are masked where arguments and errors are shown."""

    ON_ERROR: ClassVar[type[BaseTaskProcessor] | None] = None
    """The processor of which a call is enqueued, with the task's id, when a task of this one ends
    in ``error`` and has not been cancelled: exactly once for each such end."""

    SCHEDULE: ClassVar[str | Cron | Every | None] = None
    """When a call is enqueued by itself; a string is a cron expression."""

    SCHEDULES: ClassVar[Mapping[str, str | Cron | Every]] = {}
    """Several of these, by names: each may have its ``kwargs``, and is switched by itself."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.kwargs = kwargs

    # Typed so that type checkers take each run() that overrides it, whatever its parameters.
    @abc.abstractmethod
    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Do the work. It may be ``async def``. It may run twice: see the guarantees.

        Where it has parameters, it gets the values of the call, and calls are checked against them.
        Where it has none, they are in ``self.args`` and ``self.kwargs``.
        """

    def delay(
        self,
        *,
        priority: int = 0,
        execute_after: datetime.datetime | None = None,
        queue_name: str | None = None,
        subject: str | None = None,
    ) -> Task:
        """Enqueue this call, in the caller's transaction, and return its row.

        If an identical call still waits, in whatever queue, return its row: see ``UNIQUE``.

        :param priority: lower numbers run first; 0 takes the class's ``PRIORITY``.
        :param execute_after: the earliest time of the run; ``None`` is at once.
        :param queue_name: the queue whose supervisors run it; ``None``: the class's ``QUEUE_NAME``.
        :param subject: whose task it is, such as ``"customer:42"``; ``None``: whose the class's
            ``task_subject()`` says, called with those parameters of ``run()`` that it names.
        :raises TypeError: the call does not fit ``run()`` or is not JSON, the time or the subject
            has another type, or this object is itself running a task.
        :raises ValueError: something cannot be stored, or cannot be a priority or a queue; as
            ``ArgumentsTooLarge`` if there is more than the queue's ``MAX_ARGUMENTS_BYTES``.
        :raises ProcessorClassNotFound: the class is not registered, so no worker would know it.
        """
        try:
            call = call_of(self, priority, execute_after, queue_name, subject)
        except AttributeError:
            refusals.refuse_no_call(self, "delay", BaseTaskProcessor)
            raise
        task = enqueue(call)
        signals.tell_of_enqueued(type(self), [task])
        return task

    async def adelay(
        self,
        *,
        priority: int = 0,
        execute_after: datetime.datetime | None = None,
        queue_name: str | None = None,
        subject: str | None = None,
    ) -> Task:
        """Enqueue this call from async code, in a transaction of its own; else as ``delay``."""
        try:
            delay = self.delay
        except AttributeError:
            refusals.refuse_no_call(self, "adelay", BaseTaskProcessor)
            raise
        return await sync_to_async(delay)(
            priority=priority, execute_after=execute_after, queue_name=queue_name, subject=subject
        )

    @classmethod
    def bulk_delay(
        cls,
        processors: Iterable[Self],
        *,
        priority: int = 0,
        execute_after: datetime.datetime | None = None,
        queue_name: str | None = None,
        subject: str | None = None,
    ) -> list[Task]:
        """Enqueue these calls, all or none, and return their rows in the same order.

        One statement inserts a thousand calls, also of different processors. Where they are unique,
        identical calls share a row. All calls are checked before the first one is enqueued.

        :param processors: objects of this class, and of classes that derive from it:
            ``BaseTaskProcessor.bulk_delay()`` takes calls of any processor.
        :param priority, execute_after, queue_name, subject: of all calls; as in ``delay``.
        :raises TypeError, ValueError, ProcessorClassNotFound: as in ``delay``; the message says
            which call is wrong.
        """
        turn = priority, execute_after, queue_name, subject
        batch = batch_of(processors, cls, BaseTaskProcessor, *turn)
        tasks = bulk_enqueue(batch)
        for processor, own in batch.by_processor(tasks):
            signals.tell_of_enqueued(processor, own)
        return tasks

    @classmethod
    async def abulk_delay(
        cls,
        processors: Iterable[Self],
        *,
        priority: int = 0,
        execute_after: datetime.datetime | None = None,
        queue_name: str | None = None,
        subject: str | None = None,
    ) -> list[Task]:
        """Enqueue calls from async code, in a transaction of their own; else as ``bulk_delay``."""
        return await sync_to_async(cls.bulk_delay)(
            processors,
            priority=priority,
            execute_after=execute_after,
            queue_name=queue_name,
            subject=subject,
        )
