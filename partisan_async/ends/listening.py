"""Listens for the ends of tasks on one connection, for all coroutines of an event loop.

The connection is open while a coroutine waits. A *waiter* is a task and an event. The event is set
when the task's end is announced, or when that may have been missed: then the coroutine reads the
row.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import psycopg

from partisan_async.ends.channel import ENDS_CHANNEL, announced
from partisan_async.ends.waited import Waited
from partisan_async.postgres.cancelling import Session
from partisan_async.postgres.parameters import parameters

Waiter = tuple[Waited, asyncio.Event]


class Listener:
    """Listens while there are waiters.

    :param parameters: returns the parameters of a connection; called in a thread before each
        connection, since they may hold a token that expires.
    :param again_seconds: returns the time between the loss of a connection and the next attempt.
    :param warn: called with the task of each waiter when the connection is lost.
    :param on_end: called when the last waiter has gone.
    """

    def __init__(
        self,
        parameters: Callable[[], dict[str, Any]],
        again_seconds: Callable[[], float],
        warn: Callable[[Waited, psycopg.OperationalError], None],
        on_end: Callable[[], None],
    ) -> None:
        self._parameters = parameters
        self._again_seconds = again_seconds
        self._warn = warn
        self._on_end = on_end
        self._waiters: dict[str, list[Waiter]] = {}
        self._keeping: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def waiter(self, task: Waited) -> AsyncIterator[asyncio.Event]:
        """Return an event that is set when the task's end is announced, or may have been."""
        waiter = (task, asyncio.Event())
        self._waiters.setdefault(str(task.pk), []).append(waiter)
        if self._keeping is None:
            self._keeping = asyncio.ensure_future(self._keep())
        try:
            yield waiter[1]
        finally:
            others = self._waiters[str(task.pk)]
            others.remove(waiter)
            if not others:
                del self._waiters[str(task.pk)]
            if not self._waiters:
                self._on_end()
                await self._end()

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Return when the event is set, or when the time is over.

        :raises Exception: the error that ended the listening for good.
        """
        keeping = self._keeping
        assert keeping is not None
        told = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait(
                {told, keeping}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            told.cancel()
        if keeping.done():
            keeping.result()

    async def _end(self) -> None:
        keeping, self._keeping = self._keeping, None
        # More than once: psycopg may lose a cancel that arrives together with a notification.
        while keeping is not None and not keeping.done():
            keeping.cancel()
            await asyncio.wait({keeping}, timeout=1)

    async def _keep(self) -> None:
        while True:
            try:
                await self._listen()
            except psycopg.OperationalError as error:
                for task, _ in self._all():
                    self._warn(task, error)
                await asyncio.sleep(self._again_seconds())

    async def _listen(self) -> None:
        # Not sync_to_async(): its thread may end with the request that was the first to wait.
        parameters = await asyncio.to_thread(self._parameters)
        async with await Session.connect(**parameters, autocommit=True) as connection:
            await connection.execute(f'LISTEN "{ENDS_CHANNEL}"')
            self._set(self._all())  # messages from before the LISTEN were missed
            async with aclosing(connection.notifies()) as told:
                async for notification in told:
                    for pk in announced(notification.payload):
                        self._set(self._waiters.get(pk, ()))

    def _all(self) -> list[Waiter]:
        return [waiter for waiters in self._waiters.values() for waiter in waiters]

    def _set(self, waiters: Iterable[Waiter]) -> None:
        for _, event in waiters:
            event.set()


_Way = tuple[str, str | None]
_listeners: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Way, Listener]] = WeakKeyDictionary()


def of_this_loop(
    alias: str,
    listen_dsn: str | None,
    again_seconds: Callable[[], float],
    warn: Callable[[Waited, psycopg.OperationalError], None],
) -> Listener:
    """Return the running event loop's listener for a database; see ``Listener``.

    Enter ``waiter`` before the next ``await``: a listener without a waiter ends.

    :param alias, listen_dsn: see ``postgres.parameters``.
    """
    listeners = _listeners.setdefault(asyncio.get_running_loop(), {})
    way = (alias, listen_dsn)
    if way not in listeners:
        listeners[way] = Listener(
            partial(parameters, *way),
            again_seconds,
            warn,
            on_end=partial(listeners.__delitem__, way),
        )
    return listeners[way]
