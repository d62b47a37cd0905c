"""Hears of the ends of tasks for all coroutines of an event loop, on one connection.

It is there as long as one of them waits. A *waiter* is a task and an event that is set when its end
is told, and whenever one may have gone unheard: whoever waits looks at the row then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

import psycopg

from partisan_async import store
from partisan_async.cancelling import Session
from partisan_async.models import Task

Waiter = tuple[Task, asyncio.Event]


class Listener:
    """Listens while anybody waits.

    :param parameters: of the connection.
    :param again_seconds: asked how long after its connection was lost another one is made.
    :param warn: called with each task that is waited for then.
    """

    def __init__(
        self,
        parameters: dict[str, Any],
        again_seconds: Callable[[], float],
        warn: Callable[[Task, psycopg.OperationalError], None],
    ) -> None:
        self._parameters = parameters
        self._again_seconds = again_seconds
        self._warn = warn
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
        async with await Session.connect(**self._parameters, autocommit=True) as connection:
            await connection.execute(f'LISTEN "{store.ENDS_CHANNEL}"')
            self._set(self._all())  # what was told before is not heard
            async with aclosing(connection.notifies()) as told:
                async for notification in told:
                    for pk in notification.payload.split(","):
                        self._set(self._waiters.get(pk, ()))

    def _all(self) -> list[Waiter]:
        return [waiter for waiters in self._waiters.values() for waiter in waiters]

    def _set(self, waiters: Iterable[Waiter]) -> None:
        for _, event in waiters:
            event.set()


_listeners: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Listener]] = WeakKeyDictionary()


def of_this_loop(
    parameters: dict[str, Any],
    again_seconds: Callable[[], float],
    warn: Callable[[Task, psycopg.OperationalError], None],
) -> Listener:
    """Return the listener of the running event loop that goes this way; see ``Listener``."""
    listeners = _listeners.setdefault(asyncio.get_running_loop(), {})
    way = repr(sorted(parameters.items()))
    if way not in listeners:
        listeners[way] = Listener(parameters, again_seconds, warn)
    return listeners[way]
