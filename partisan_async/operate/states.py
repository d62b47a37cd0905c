"""What an operator reads of queues, supervisors, pauses and failures, each at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext

from partisan_async import registry
from partisan_async.operate import to_copy
from partisan_async.text.farewell import farewell


@dataclass(frozen=True)
class QueueState:
    """A queue at one moment; the ages are in seconds.

    :param ready, scheduled: as far as was counted.
    :param oldest: how long the first of the ready ones has been ready; ``None``: there is none;
        NaN: nobody can say.
    :param finished, failed: ends of the last hour.
    :param per_minute: ends of this minute and the last one, to the minute.
    :param supervisors: those that are alive.
    :param parked: those that wait for the end of their processors' pause.
    """

    name: str
    ready: int
    scheduled: int
    running: int
    oldest: float | None
    finished: int
    failed: int
    per_minute: float
    supervisors: int
    paused: bool
    parked: int = 0


@dataclass(frozen=True)
class PauseState:
    """A processor that is paused, or whose pause is ending.

    :param queue_name: empty: every queue.
    :param parked: how many of its tasks wait for the end of the pause, as far as was counted.
    """

    processor: str
    queue_name: str
    since: datetime
    ending: bool
    parked: int

    @property
    def where(self) -> str:
        """The queue, in words."""
        if not self.queue_name:
            return gettext("every queue")
        return gettext("queue %(queue)r") % {"queue": self.queue_name}

    @property
    def way_out(self) -> str:
        """The command that ends it."""
        return to_copy.resume_processor(self.processor, self.queue_name)

    def is_of(self, processor: str, queue_name: str) -> bool:
        """Tell whether it holds back such a task."""
        if self.ending or self.queue_name not in ("", queue_name):
            return False
        return processor in registry.names(self.processor)


@dataclass(frozen=True)
class RunState:
    """A task in a worker process, as of its supervisor's last sign of life.

    :param seconds: how long it has run for by now, if it still does.
    """

    id: int
    processor: str
    seconds: float


@dataclass(frozen=True)
class WorkerState:
    """A worker process at one moment.

    :param pid: ``None``, with no tasks: what its supervisor says of it cannot be read.
    :param tasks: the first of those that it runs.
    """

    pid: int | None
    running: int
    tasks: list[RunState]

    @property
    def more(self) -> int:
        """How many it runs besides."""
        return self.running - len(self.tasks)


@dataclass(frozen=True)
class SupervisorState:
    """A supervisor at one moment.

    :param up, silent: seconds since its start and its last sign of life; NaN: nobody can say.
    :param workers: as of that.
    :param stopping_since: since when it starts nothing more, and is about to end.
    """

    id: str
    process: str
    queue_name: str
    running: int
    up: float
    alive: bool
    draining: bool
    silent: float
    workers: list[WorkerState]
    stopping_since: datetime | None = None

    @property
    def starts(self) -> bool:
        """Whether it starts tasks: it lives, and is not about to end."""
        return self.alive and self.ending is None

    @property
    def ending(self) -> str | None:
        """How it is about to end, in a word; ``None``: it is not."""
        if self.draining:
            return "draining"
        return None if self.stopping_since is None else "stopping"

    @property
    def farewell(self) -> str:
        """How it ends, in words."""
        return farewell(self.ending, self.stopping_since, self.running)


@dataclass(frozen=True)
class FailedTask:
    """A task that ended in error.

    :param error: the class of its last error; empty: nobody can say.
    """

    id: int
    queue_name: str
    processor: str
    error: str
    at: datetime
