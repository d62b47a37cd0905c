"""Tells which task the calling code belongs to, for users' own logs."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import NamedTuple


class CurrentTask(NamedTuple):
    """A run: ``(id, claim_seq)`` is unique to it."""

    id: int
    claim_seq: int
    processor_class: str
    queue_name: str
    worker_id: str


current_task: ContextVar[CurrentTask | None] = ContextVar("partisan_async_task", default=None)
"""The task that runs here, also in threads and asyncio tasks that it starts; ``None`` outside."""


class TaskFilter(logging.Filter):
    """Adds ``task_id``, ``claim_seq``, ``processor_class``, ``queue_name`` and ``worker_id`` to
    each record, ``None`` outside a task; put it on a handler."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        task = current_task.get()
        for name in CurrentTask._fields:
            attribute = "task_id" if name == "id" else name
            # The supervisor's own records say which task they are about.
            if not hasattr(record, attribute):
                setattr(record, attribute, None if task is None else getattr(task, name))
        return True
