"""Hears of the ends of tasks for all coroutines of an event loop, on one connection.

It is there as long as one of them waits. A *waiter* is a task and an event that is set when its end
is told, and whenever one may have gone unheard: whoever waits looks at the row then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import psycopg

from partisan_async import store
from partisan_async.models import Task
from partisan_async.postgres import parameters
from partisan_async.postgres.cancelling import Session

Waiter = tuple[Task, asyncio.Event]


class Listener:
    """Listens while anybody waits.

    :param parameters: asked for those of each connection, in a thread: a token may be in them.
    :param again_seconds: asked how long after its connection was lost another one is made.
    :param warn: called with each task that is waited for then.
    :param on_end: called when nobody waits any more.
    """

    def __init__(
        self,
        parameters: Callable[[], dict[str, Any]],
        again_seconds: Callable[[], float],
        warn: Callable[[Task, psycopg.OperationalError], None],
        on_end: Callable[[], None],
    ) -> None:
        self._parameters = parameters
        self._again_seconds = again_seconds
        self._warn = warn
        self._on_end = on_end
        self._waiters: dict[str, list[Waiter]] = {}
        self._keeping: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def waiter(self, task: Task) -> AsyncIterator[asyncio.Event]:
        """Have an event be set when the task's end is told, or may have been."""
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
        """Return when the event is set, or so many seconds are over.

        :raises Exception: what ended the listening, and that does not pass.
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
        # More than once: psycopg may lose a cancel that comes with a notification.
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
        # Not by sync_to_async(): its thread may end with the request that waited first.
        parameters = await asyncio.to_thread(self._parameters)
        async with await Session.connect(**parameters, autocommit=True) as connection:
            await connection.execute(f'LISTEN "{store.ENDS_CHANNEL}"')
            self._set(self._all())  # what was told before is not heard
            async with aclosing(connection.notifies()) as told:
                async for notification in told:
                    for pk in store.announced(notification.payload):
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
    warn: Callable[[Task, psycopg.OperationalError], None],
) -> Listener:
    """Return the listener of the running event loop that goes this way; see ``Listener``.

    Have it wait before anything is awaited: it is there as long as somebody does.

    :param alias, listen_dsn: see ``database.parameters``.
    """
    listeners = _listeners.setdefault(asyncio.get_running_loop(), {})
    way = (alias, listen_dsn)
    if way not in listeners:
        listeners[way] = Listener(
            partial(parameters.parameters, *way),
            again_seconds,
            warn,
            on_end=partial(listeners.__delitem__, way),
        )
    return listeners[way]
