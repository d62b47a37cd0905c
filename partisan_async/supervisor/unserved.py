"""Finds queues without a supervisor that have tasks, or will have them by their schedules."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import psycopg

from partisan_async import logs, store
from partisan_async.enqueue.scheduled import having_schedules
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.lease import Lease

LOOK_EVERY_SECONDS = 60.0


class Unserved:
    """Looks once a minute.

    :param on_found: called with each queue; ``None``: it is warned of once.
    """

    def __init__(
        self,
        queue_names: Iterable[str],
        connection: Connection,
        lease: Lease,
        on_found: Callable[[str], None] | None,
    ) -> None:
        self._connection = connection
        self._lease = lease
        self._known = set(queue_names)
        self._on_found = on_found or logs.queues.unserved
        self._given_up: set[str] = set()

    def warn_of(self, queue_name: str) -> None:
        """From now on look for a queue that was served here; it is warned of in any case."""
        self._given_up.add(queue_name)
        self._known.discard(queue_name)

    async def keep(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            try:
                await self._look()
            except psycopg.Error as error:
                logs.queues.unserved_not_sought(error)

    async def _look(self) -> None:
        scheduled = {each.QUEUE_NAME for each in having_schedules()}
        statement = store.unserved(self._lease.ttl, scheduled)
        for (name,) in await self._connection.execute(statement):
            if name not in self._known:
                tell = logs.queues.unserved if name in self._given_up else self._on_found
                tell(name)
                self._known.add(name)
