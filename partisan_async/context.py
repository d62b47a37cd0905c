"""Tells which task the calling code belongs to, and whether its supervisor is stopping."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
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

_stopping = False
_waiting: set[asyncio.Future[None]] = set()
"""What ``until_stopping`` waits for, in whatever event loop."""


def stopping() -> bool:
    """Tell whether the supervisor of this worker process is stopping, so that runs should end.

    It is true from the moment that the supervisor's grace begins, and in no other process. It only
    reads a variable.
    """
    return _stopping


async def until_stopping() -> None:
    """Wait until the supervisor of this worker process is stopping; see ``stopping``."""
    heard = asyncio.get_running_loop().create_future()
    # No lock, which a child that a task forks might inherit locked. Added first, then looked:
    # whoever sets the variable looks here afterwards.
    _waiting.add(heard)
    try:
        if not _stopping:
            await heard
    finally:
        _waiting.discard(heard)


def note_stopping(is_stopping: bool) -> None:
    """Note whether the supervisor is stopping, in whatever thread; wake those who wait for it."""
    global _stopping
    _stopping = is_stopping
    for heard in list(_waiting) if is_stopping else ():
        with suppress(RuntimeError):  # its event loop is closed
            heard.get_loop().call_soon_threadsafe(_wake, heard)


def _wake(heard: asyncio.Future[None]) -> None:
    if not heard.done():
        heard.set_result(None)


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
