"""Writes what the limits in this code allow, for all supervisors, as this one starts.

Of the supervisors that live, the one that started last says it; a limit that is in no code any more
stays as it is, until its rows have run. Where the order of a limit's tasks has changed, those that
wait get their new ranks first: until then none of them starts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

import psycopg

from partisan_async import registry, store
from partisan_async.declared import limit_of
from partisan_async.limits import Rate
from partisan_async.store import Numbers
from partisan_async.supervisor.agenda import Agenda
from partisan_async.supervisor.connection import Connection

LOOK_EVERY_SECONDS = 60.0
"""Interval of looks at limits whose rows still wait for their ranks."""

AGAIN_SECONDS = 0.2
"""Pause before the next attempt, while it has not beaten yet, or a limit is locked."""


class Allowances:
    """The limits that one supervisor's code knows."""

    def __init__(
        self, me: UUID, queue_name: str, connection: Connection, agenda: Agenda, ttl: timedelta
    ) -> None:
        self._me = me
        self._queue_name = queue_name
        self._connection = connection
        self._agenda = agenda
        self._ttl = ttl
        self._limits = declared_limits()
        agenda.has_limits = bool(self._limits)

    async def keep(self) -> None:
        """Write them, and have rows ranked, now and where another one has died over it."""
        if not self._limits:
            return
        statement = store.set_limits(self._me, self._limits, self._ttl)
        names = None
        while names is None:
            with suppress(psycopg.errors.LockNotAvailable):
                ((names,),) = await self._connection.execute(statement)
            if names is None:
                await asyncio.sleep(AGAIN_SECONDS)
        while True:
            unranked = await self._connection.execute(store.unranked())
            for (name,) in unranked:
                while (await self._connection.execute(store.rank(name)))[0][0]:
                    pass
            if names or unranked:
                await self._tell()
            names = None
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def _tell(self) -> None:
        """Have all look at what was closed, and may be open now: a limit may be of many queues."""
        self._agenda.on_notify("")
        queues = {name for (name,) in await self._connection.execute(store.limited_queues())}
        for queue_name in sorted(queues | {self._queue_name}):
            await self._connection.execute(store.notify(queue_name))


def declared_limits() -> list[Numbers]:
    """Return the limits of the processors that are known here, each once."""
    found = {}
    for processor in registry.processors_and_tasks():
        if (named := limit_of(processor)) is not None:
            name, limit = named
            found[name] = Numbers(
                name,
                limit.running,
                limit.running_per_key,
                _pairs(limit.rates),
                _pairs(limit.rates_per_key),
                limit.in_order,
            )
    return list(found.values())


def _pairs(rates: Iterable[Rate]) -> list[tuple[int, float]]:
    return [(rate.count, rate.per_seconds) for rate in rates]
