"""Waits for the end of a task.

Each blocking wait has its own connection; all coroutines of an event loop share one. They read the
row after each NOTIFY of its end, and every few seconds without one.
"""

from __future__ import annotations

import time

import psycopg
from asgiref.sync import sync_to_async

from partisan_async import logs
from partisan_async.ends import listening
from partisan_async.ends.channel import ENDS_CHANNEL, announced
from partisan_async.ends.waited import Waited, patience
from partisan_async.postgres.parameters import parameters

LISTEN_AGAIN_SECONDS = 1.0
"""Time between the loss of a connection and the next attempt to open one."""


def wait(task: Waited, timeout_seconds: float | None) -> None:
    """Return when a task has ended, and its row was read."""
    if task.has_ended():
        return
    way = task.way()
    with task.deadline(timeout_seconds) as deadline:
        while not task.has_ended():
            try:
                _listen(task, way, deadline)
            except psycopg.OperationalError as error:
                _warn(task, error)
                time.sleep(patience(deadline, LISTEN_AGAIN_SECONDS))


async def await_end(task: Waited, timeout_seconds: float | None) -> None:
    """As ``wait``, in async code."""
    has_ended = sync_to_async(task.has_ended)
    if await has_ended():
        return
    way = await sync_to_async(task.way)()
    listener = listening.of_this_loop(*way, lambda: LISTEN_AGAIN_SECONDS, _warn)
    with task.deadline(timeout_seconds) as deadline:
        async with listener.waiter(task) as told:
            while not await has_ended():
                await listener.wait(told, patience(deadline))
                told.clear()


def _listen(task: Waited, way: tuple[str, str | None], deadline: float | None) -> None:
    with psycopg.connect(**parameters(*way), autocommit=True) as connection:
        connection.execute(f'LISTEN "{ENDS_CHANNEL}"')
        while not task.has_ended():
            for notification in connection.notifies(timeout=patience(deadline)):
                if str(task.pk) in announced(notification.payload):
                    break


def _warn(task: Waited, error: psycopg.OperationalError) -> None:
    logs.tasks.unheard(task.pk, task.processor_class, error)
