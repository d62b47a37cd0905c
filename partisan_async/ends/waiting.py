"""Waits for the end of a task, by NOTIFY.

Code that blocks has a connection of its own for it, coroutines one for all of an event loop.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from asgiref.sync import sync_to_async
from django.db import connections
from django.db.transaction import TransactionManagementError

from partisan_async import logs, registry, store
from partisan_async.ends import listening
from partisan_async.models import ENDED, Task
from partisan_async.postgres import parameters
from partisan_async.settings import queue_settings

LOOK_EVERY_SECONDS = 5.0
"""So often the row is looked at without a NOTIFY, too: one may be lost with its connection."""

LISTEN_AGAIN_SECONDS = 1.0
"""So long after its connection was lost another one is made."""


def wait(task: Task, timeout_seconds: float | None) -> None:
    """Wait for a task's end, and refresh it."""
    if _has_ended(task):
        return
    way = _way(task)
    with _explained(task, timeout_seconds) as deadline:
        while not _has_ended(task):
            try:
                _listen(task, way, deadline)
            except psycopg.OperationalError as error:
                _warn(task, error)
                time.sleep(_patience(deadline, LISTEN_AGAIN_SECONDS))


def _listen(task: Task, way: tuple[str, str | None], deadline: float | None) -> None:
    with psycopg.connect(**parameters.parameters(*way), autocommit=True) as connection:
        connection.execute(f'LISTEN "{store.ENDS_CHANNEL}"')
        while not _has_ended(task):
            for notification in connection.notifies(timeout=_patience(deadline)):
                if str(task.pk) in store.announced(notification.payload):
                    break


async def await_end(task: Task, timeout_seconds: float | None) -> None:
    """As ``wait``, in async code."""
    has_ended = sync_to_async(_has_ended)
    if await has_ended(task):
        return
    way = await sync_to_async(_way)(task)
    listener = listening.of_this_loop(*way, lambda: LISTEN_AGAIN_SECONDS, _warn)
    with _explained(task, timeout_seconds) as deadline:
        async with listener.waiter(task) as told:
            while not await has_ended(task):
                await listener.wait(told, _patience(deadline))
                told.clear()


def _warn(task: Task, error: psycopg.OperationalError) -> None:
    logs.tasks.unheard(task.pk, task.processor_class, error)


def _way(task: Task) -> tuple[str, str | None]:
    """Return which database tells its end, and what is laid over the parameters of that."""
    alias = store.database()
    registry.autodiscover()  # it may have been enqueued elsewhere
    if not registry.get(task.processor_class).STORE_RESULT:
        raise TypeError(
            f"Nobody tells the end of task {task.pk}: set STORE_RESULT = True on"
            f" {task.processor_class}."
        )
    if connections[alias].in_atomic_block:
        raise TransactionManagementError(
            f"Task {task.pk} would be waited for in vain: what its worker sees, and what it writes,"
            " comes after the end of this transaction. Wait outside of atomic()."
        )
    return alias, queue_settings(task.queue_name).LISTEN_DSN


@contextmanager
def _explained(task: Task, timeout_seconds: float | None) -> Iterator[float | None]:
    try:
        yield None if timeout_seconds is None else time.monotonic() + timeout_seconds
    except _TimeIsOverError:
        raise TimeoutError(
            f"Task {task.pk} {task.processor_class} has not ended within {timeout_seconds:g} s; it"
            f" is {task.get_status_display()!r}."
        ) from None


class _TimeIsOverError(Exception):
    pass


def _patience(deadline: float | None, at_most: float | None = None) -> float:
    longest = LOOK_EVERY_SECONDS if at_most is None else at_most
    if deadline is None:
        return longest
    left = deadline - time.monotonic()
    if left <= 0:
        raise _TimeIsOverError
    return min(left, longest)


def _has_ended(task: Task) -> bool:
    try:
        # Not from where reads go: a replica that lags does not know the row yet.
        task.refresh_from_db(using=store.database())
    except Task.DoesNotExist:
        raise Task.DoesNotExist(
            f"Task {task.pk} {task.processor_class} is gone: its row was deleted, and nothing tells"
            " how it ended."
        ) from None
    return task.status in ENDED
