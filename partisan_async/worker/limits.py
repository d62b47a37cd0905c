"""Ends a run that takes longer than it may, from within its worker process.

A sync run gets ``TaskTimeout`` raised in it, by a signal. An async run is cancelled, and so is the
query that its thread for the ORM waits for. What heeds neither is the supervisor's to kill.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from asgiref.sync import SyncToAsync, ThreadSensitiveContext
from django.db import DatabaseError, InterfaceError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from partisan_async.exceptions import TaskTimeout
from partisan_async.postgres import cancelling, in_flight

AGAIN_EVERY_SECONDS = 1.0
"""How often a run is told that its time is over: what it calls may swallow that once, as
``__del__`` methods and asgiref's ``sync_to_async`` do."""


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
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
            self._armed = True
            signal.setitimer(signal.ITIMER_REAL, self._seconds, AGAIN_EVERY_SECONDS)

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Do not ring any more, and see to it that no alarm of the task's own does."""
        # The flag first: a signal that is on its way has nothing to interrupt any more.
        self._armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _ring(self, *_: Any) -> None:
        if self._armed:
            self.rang = True
            # Or what follows in the run would meet "another command is already in progress".
            for wrapper in connections.all(initialized_only=True):
                in_flight.end_query(wrapper)
            assert self._seconds is not None
            raise TaskTimeout(self._seconds)

    def explain(self, error: BaseException) -> BaseException:
        """Return what ended the block: an error of the database may be the time limit's doing."""
        if isinstance(error, DatabaseError | InterfaceError) and _comes_from_timeout(error):
            assert self._seconds is not None
            return _timeout(self._seconds, error)
        return error


def forget_alarm() -> None:
    """In a child that a task forked: an alarm is its own, and ends it as elsewhere."""
    handler = signal.getsignal(signal.SIGALRM)
    if isinstance(getattr(handler, "__self__", None), Alarm):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


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
        await _wait_for(running, AGAIN_EVERY_SECONDS)
    if isinstance(raised, asyncio.CancelledError) or _is_canceled_query(raised):
        return _timeout(seconds, raised)
    return raised


async def finish(tidying: Coroutine[Any, Any, None]) -> None:
    """Wait for what follows a run in its thread for the ORM.

    A thread cannot be cancelled; the queries can be of which it still waits for the answers.
    """
    finishing = asyncio.ensure_future(tidying)
    await _wait_for(finishing, AGAIN_EVERY_SECONDS)
    while not finishing.done():
        await _cancel_queries()
        await _wait_for(finishing, AGAIN_EVERY_SECONDS)


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


_opened: WeakKeyDictionary[ThreadSensitiveContext, list[tuple[BaseDatabaseWrapper, Any]]] = (
    WeakKeyDictionary()
)


def watch_connections() -> None:
    """From now on, know which async run opened which of Django's connections."""
    connection_created.connect(_on_connection_created, weak=False)


def _on_connection_created(connection: BaseDatabaseWrapper, **_: Any) -> None:
    # This is a thread of that run's, which no other thread can look into. With the connection: the
    # wrapper of a thread that runs share may be the next one's by the time it is looked at.
    if context := SyncToAsync.thread_sensitive_context.get(None):
        _opened[context] = [*_opened.get(context, ()), (connection, connection.connection)]


async def _cancel_queries() -> None:
    """Cancel what the current context's threads are waiting for."""
    loop = asyncio.get_running_loop()
    if context := SyncToAsync.thread_sensitive_context.get(None):
        for wrapper, connection in _opened.get(context, ()):
            if wrapper.connection is connection and in_flight.is_busy(connection):
                await loop.run_in_executor(_canceller, _cancel_query, connection)


_canceller = ThreadPoolExecutor(1, "partisan cancel")
"""The event loop's own threads may all be taken by what is to be cancelled."""


def _cancel_query(connection: psycopg.Connection[Any]) -> None:
    with suppress(psycopg.Error):
        cancelling.cancel(connection, in_flight.CANCEL_SECONDS)


def _is_canceled_query(error: BaseException | None) -> bool:
    return error is not None and cancelling.comes_from_cancel(error.__cause__)


def _comes_from_timeout(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, TaskTimeout):
        error = error.__context__
    return error is not None


def _timeout(seconds: float, cause: BaseException | None) -> TaskTimeout:
    timeout = TaskTimeout(seconds)
    timeout.__cause__ = cause
    return timeout
