"""Has the schedules of the code tick: at each tick exactly one supervisor enqueues one task.

This host's clock only measures how long to sleep. Where a row and the code here differ about a
schedule, another release wrote the row, and that release ticks it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import psycopg

from partisan_async import logs, registry, store
from partisan_async.enqueue.scheduled import (
    having_schedules,
    names_to_skip,
    schedules_of,
    tick_of,
)
from partisan_async.models.readable import is_moment
from partisan_async.naming import name_of
from partisan_async.postgres.blame import Blame, whose
from partisan_async.processor import BaseTaskProcessor
from partisan_async.store import Scheduled
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.ticks import AGAIN_SECONDS, Plan, Ticks
from partisan_async.supervisor.turns import Turns

LOOK_EVERY_SECONDS = 30.0
"""Maximum time between two looks: another release's supervisors may be gone, or a NOTIFY lost."""


class Ticker:
    """Ticks the schedules of one queue; does nothing for a queue without schedules."""

    def __init__(
        self, me: UUID, queue_name: str, connection: Connection, *, ttl: timedelta
    ) -> None:
        self._me = me
        self._queue_name = queue_name
        self._connection = connection
        self._ttl = ttl
        self._ticks = Ticks(queue_name, connection, ttl=ttl)
        self._known: dict[str, Plan] = {}
        self._processors: dict[str, str] = {}
        for processor in having_schedules():
            if queue_name == processor.QUEUE_NAME:
                self._add(processor)
        self._turns = Turns(self.turn, tell_failed=logs.schedules.ticks_not_sought)
        self.hurry = self._turns.hurry
        """Have it look at once."""

    @property
    def keys(self) -> list[str]:
        """The keys of the schedules that the code has in this queue."""
        return list(self._known)

    @property
    def has_looked(self) -> bool:
        """Whether it has enqueued what was due when it began."""
        return self._turns.has_taken_one or not self._known

    async def turn(self) -> float:
        """Enqueue what is due; return in how many seconds to look again."""
        rows = await self._connection.execute(
            store.schedules(self._me, list(self._known), self._ttl)
        )
        seen = [Scheduled(*row) for row in rows]
        unset = [each for each in seen if self._is_to_be_set(each)]
        if unset and await self._set(unset):
            return 0.0
        seconds = AGAIN_SECONDS if unset else LOOK_EVERY_SECONDS
        for each in seen:
            if each.next_tick is None or not self._is_ours(each):
                continue
            if not is_moment(each.next_tick):
                continue  # set by hand, as to infinity: it never comes
            left = await self._ticks.take(each, self._known[each.processor_class])
            seconds = min(seconds, left)
        return seconds

    async def keep(self) -> None:
        """Tick until cancelled; wait for a database that is away."""
        if self._known:
            await self._turns.take()

    def _add(self, processor: type[BaseTaskProcessor]) -> None:
        lasting = registry.lasting_name(name_of(processor))
        for key, schedule in schedules_of(processor).items():
            told, names = None if key == lasting else key, names_to_skip(processor, schedule)
            self._known[key] = Plan(tick_of(processor, schedule), schedule, told, names)
            self._processors[key] = lasting

    def _is_ours(self, seen: Scheduled) -> bool:
        expected = (self._queue_name, str(self._known[seen.processor_class].schedule))
        return (seen.queue_name, seen.schedule) == expected

    def _is_to_be_set(self, seen: Scheduled) -> bool:
        uncounted = seen.enabled and seen.next_tick is None and self._is_ours(seen)
        return seen.may_set or uncounted or seen.schedule is None

    async def _set(self, unset: Sequence[Scheduled]) -> bool:
        schedules = []
        for seen in unset:
            key, known = seen.processor_class, self._known[seen.processor_class].schedule
            first = known.following(seen.now, seen.now)
            schedules.append((key, str(known), first, self._processors[key]))
        statement = store.set_schedules(self._me, self._queue_name, schedules, self._ttl)
        try:
            return bool(await self._connection.execute(statement))
        except psycopg.Error as error:
            match whose(error):
                case Blame.CONNECTION:
                    raise
                case Blame.CONTENTION:  # somebody ticks one of them, or switches it off
                    return False
            if len(unset) > 1:
                return any([await self._set([each]) for each in unset])
            self._ticks.trouble_of(unset[0].processor_class).meet(error)
            return False
