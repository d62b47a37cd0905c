"""Queues, supervisors, pauses and failures as an operator reads them, each at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext

from partisan_async import registry
from partisan_async.operate import to_copy
from partisan_async.text.farewell import farewell


@dataclass(frozen=True)
class QueueState:
    """A queue at one moment.

    :param ready, scheduled: number of tasks, up to the limit of the count.
    :param oldest: seconds since the oldest ready task became ready; ``None``: none is ready; NaN:
        unknown.
    :param finished, failed: number of tasks that ended so in the last hour.
    :param per_minute: ended tasks per minute, over this minute and the last one.
    :param supervisors: number of live supervisors.
    :param parked: number of tasks that wait for the end of their processors' pause.
    :param limited: number of tasks that wait for their limits, up to the limit of the count.
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
    limited: int = 0

    @property
    def waits(self) -> int:
        """Number of tasks that wait for anything but the end of a pause."""
        return self.ready + self.scheduled + self.limited

    @property
    def is_unserved(self) -> bool:
        """True if tasks could start, and no supervisor starts them."""
        return not self.supervisors and bool(self.ready or self.limited)


@dataclass(frozen=True)
class PauseState:
    """A processor that is paused, or whose pause is ending.

    :param queue_name: empty: every queue.
    :param parked: number of its tasks that wait for the end of the pause, up to the limit of the
        count.
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
        """The command that ends the pause."""
        return to_copy.resume_processor(self.processor, self.queue_name)

    def is_of(self, processor: str, queue_name: str) -> bool:
        """Tell whether the pause holds back tasks of this processor in this queue."""
        if self.ending or self.queue_name not in ("", queue_name):
            return False
        return processor in registry.names(self.processor)


@dataclass(frozen=True)
class RunState:
    """A task in a worker process, as of its supervisor's last sign of life.

    :param seconds: how long it has run by now, if it still runs.
    """

    id: int
    processor: str
    seconds: float


@dataclass(frozen=True)
class WorkerState:
    """A worker process at one moment.

    :param pid: ``None``, with no tasks: the supervisor's row cannot be read.
    :param tasks: the first of its running tasks.
    :param memory_bytes: its share of the memory that it shares with others; ``None``: unknown.
    """

    pid: int | None
    running: int
    tasks: list[RunState]
    memory_bytes: int | None = None

    @property
    def more(self) -> int:
        """Number of its running tasks that are not in ``tasks``."""
        return self.running - len(self.tasks)


@dataclass(frozen=True)
class SupervisorState:
    """A supervisor at one moment.

    :param up, silent: seconds since its start and since its last sign of life; NaN: unknown.
    :param workers: as of its last sign of life.
    :param stopping_since: when it stopped starting tasks, to end; ``None``: it has not.
    :param memory_bytes: the memory of its host, that is its process and the forkserver, whichever
        queues that serves, without workers; ``None``: unknown.
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
    memory_bytes: int | None = None

    @property
    def workers_bytes(self) -> int | None:
        """The memory of its workers; ``None``: unknown, or there are none."""
        known = [each.memory_bytes for each in self.workers if each.memory_bytes is not None]
        return sum(known) if known else None

    @property
    def starts(self) -> bool:
        """True if it starts tasks: it is alive, and not about to end."""
        return self.alive and self.ending is None

    @property
    def ending(self) -> str | None:
        """``"draining"`` or ``"stopping"``; ``None``: it is not about to end."""
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

    :param error: the class of its last error; empty: unknown.
    """

    id: int
    queue_name: str
    processor: str
    error: str
    at: datetime
