"""The running side's half of a processor: its row and connections, what is told, calls by us."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from asgiref.sync import sync_to_async
from django.db import connections

from partisan_async import context, signals
from partisan_async.claim import Call
from partisan_async.enqueue import on_error, scheduled
from partisan_async.policy import Decision

if TYPE_CHECKING:
    from partisan_async.models import Task


class Telling:
    """What a processor is while it runs a task."""

    stopping: bool = False
    """While it runs: whether its supervisor is stopping, and kills the run at the end of its grace.
    """

    _claimed: Callable[[], Task] | None = None

    @cached_property
    def task_obj(self) -> Task | None:
        """While it runs: the row, as it was claimed; ``(id, claim_seq)`` is unique to this run."""
        # Made when asked for: it costs as much as the rest of a small task.
        return None if self._claimed is None else self._claimed()

    async def until_stopping(self) -> None:
        """Wait until ``stopping`` is true, in an ``async def run()``."""
        await context.until_stopping()

    async def release_connections(self) -> None:
        """Give back the database connections of this ``async def run()``.

        Call it before a long wait for something else; the next query opens a connection again. A
        connection that is in a transaction stays open, as in a test.
        """
        await sync_to_async(_close_idle)()

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
    def _call_on_error(cls) -> Call:
        """Return the call of this processor as an ``ON_ERROR``, without the id."""
        return on_error.call_of(cls)

    @classmethod
    def _call_by_schedule(cls, encoded: str, queue_name: str, subject: str | None) -> Call:
        """Return the call of this processor that a schedule enqueues, with stored arguments."""
        return scheduled.call_by_schedule(cls, encoded, queue_name, subject)

    @classmethod
    def _tell_loss(cls, task: Task, decision: Decision) -> None:
        """Tell of an end that no worker has seen."""
        signals.send_decision(cls, task, decision)


def _close_idle() -> None:
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()
