"""Ends a run that takes longer than it may, from within its worker process.

A sync run gets ``TaskTimeout`` raised in it, by a signal. An async run is cancelled, and so is the
query that its thread for the ORM waits for. What heeds neither is the supervisor's to kill.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from asgiref.sync import SyncToAsync, ThreadSensitiveContext
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from partisan_async.exceptions import TaskTimeout

CANCEL_EVERY_SECONDS = 1.0
"""How often an async run is cancelled: asgiref's ``sync_to_async`` lets one get lost."""

CANCEL_QUERY_SECONDS = 2.0
"""So long a server may take to answer that it cancels a query."""


class Alarm:
    """Raises ``TaskTimeout`` in the main thread if its block takes longer than ``seconds``.

    :param seconds: ``None``: it may take as long as it likes.
    """

    def __init__(self, seconds: float | None) -> None:
        self.rang = False
        self._seconds = seconds
        self._armed = False

    def __enter__(self) -> None:
        if self._seconds is not None:
            # Each time: a task before may have put another handler there.
            signal.signal(signal.SIGALRM, self._ring)
            self._armed = True
            signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def __exit__(self, *_: object) -> None:
        # The flag first: a signal that is on its way has nothing to interrupt any more.
        self._armed = False
        disarm()

    def _ring(self, *_: Any) -> None:
        if self._armed:
            self._armed = False
            self.rang = True
            # Or what `finally` blocks do would meet "another command is already in progress".
            _drop_busy_connections()
            assert self._seconds is not None
            raise TaskTimeout(self._seconds)


def disarm() -> None:
    """See to it that no alarm goes off, whoever set it."""
    signal.setitimer(signal.ITIMER_REAL, 0)


async def run_within(seconds: float | None, run: Coroutine[Any, Any, None]) -> BaseException | None:
    """Return what an async run raised, ``TaskTimeout`` where its time was over, or ``None``.

    It has a task of its own, so that this one, which is to tell how it ended, goes on whatever is
    done to that.
    """
    raised: BaseException | None = asyncio.CancelledError("before it began")

    async def catch() -> None:
        # Here: a SystemExit that leaves its task ends the event loop.
        nonlocal raised
        try:
            await run
            raised = None
        except BaseException as error:  # noqa: BLE001
            raised = error

    running = asyncio.ensure_future(catch())
    await _wait_for(running, seconds)
    if running.done() or seconds is None:
        return raised
    while not running.done():
        running.cancel()
        await _cancel_queries()
        await _wait_for(running, CANCEL_EVERY_SECONDS)
    if isinstance(raised, asyncio.CancelledError) or _is_canceled_query(raised):
        timeout = TaskTimeout(seconds)
        timeout.__cause__ = raised
        return timeout
    return raised


async def _wait_for(running: asyncio.Future[Any], seconds: float | None) -> None:
    deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
    while not running.done():
        left = None
        if deadline is not None:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return
        # Somebody's "cancel all tasks" is not meant for this one.
        with suppress(asyncio.CancelledError):
            await asyncio.wait({running}, timeout=left)


_opened: WeakKeyDictionary[ThreadSensitiveContext, list[BaseDatabaseWrapper]] = WeakKeyDictionary()


def watch_connections() -> None:
    """From now on, know which async run opened which of Django's connections."""
    connection_created.connect(_on_connection_created, weak=False)


def _on_connection_created(connection: BaseDatabaseWrapper, **_: Any) -> None:
    # This is the context's own thread for the ORM, which no other thread can look into.
    if context := SyncToAsync.thread_sensitive_context.get(None):
        _opened[context] = [*_opened.get(context, ()), connection]


async def _cancel_queries() -> None:
    """Cancel what the current context's thread for the ORM is waiting for.

    asgiref waits for that thread before it lets the cancellation through.
    """
    loop = asyncio.get_running_loop()
    if context := SyncToAsync.thread_sensitive_context.get(None):
        for wrapper in _opened.get(context, ()):
            await loop.run_in_executor(None, _cancel_query, wrapper)


def _drop_busy_connections() -> None:
    for wrapper in connections.all(initialized_only=True):
        if _is_busy(wrapper):
            _cancel_query(wrapper)
            wrapper.close()


def _cancel_query(wrapper: BaseDatabaseWrapper) -> None:
    if _is_busy(wrapper):
        with suppress(psycopg.Error):
            wrapper.connection.cancel_safe(timeout=CANCEL_QUERY_SECONDS)


def _is_busy(wrapper: BaseDatabaseWrapper) -> bool:
    connection = wrapper.connection
    if not isinstance(connection, psycopg.Connection):  # it is closed, or not PostgreSQL's
        return False
    return connection.info.transaction_status == psycopg.pq.TransactionStatus.ACTIVE


def _is_canceled_query(error: BaseException | None) -> bool:
    cause = error and error.__cause__
    return isinstance(cause, psycopg.errors.QueryCanceled)
