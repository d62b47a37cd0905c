"""The *timetable*: has the schedules tick that were made at run time, and are in no code.

The beat sees whether the queue has any, and when the first one is due. Until it has seen one, no
statement is made here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import psycopg

from partisan_async import logs, registry, schedule, store
from partisan_async.enqueue.scheduled import Called, made_tick_of, names_to_skip
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.models import readable
from partisan_async.postgres.blame import Blame, whose
from partisan_async.store import Scheduled
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.ticks import AGAIN_SECONDS, Plan, Ticks
from partisan_async.supervisor.turns import Turns

AT_ONCE = 20
"""Maximum number of schedules that one look reads, with their arguments."""

ASIDE_SECONDS = 30.0
"""Time for which one is passed over that cannot tick here, and between two looks at all the others:
a clock that was ahead may have set them too far."""

EARLIER_SECONDS = 0.05
"""By so much, what a beat saw may be earlier than what was seen here, and be the same."""


class _Row(NamedTuple):
    seen: Scheduled
    processor: str | None
    arguments: str
    rule: str | None
    subject: str | None
    limit_key: str | None
    is_keyed: bool


class Timetable:
    """Ticks the schedules of one queue that were made at run time.

    :param on_first: called when the queue has the first one.
    """

    def __init__(
        self,
        queue_name: str,
        connection: Connection,
        *,
        ttl: timedelta,
        on_first: Callable[[], None],
    ) -> None:
        self._queue_name = queue_name
        self._connection = connection
        self._on_first = on_first
        self._ticks = Ticks(queue_name, connection, ttl=ttl)
        self._turns = Turns(self.turn, tell_failed=logs.schedules.ticks_not_sought)
        self.has_any = False
        """Whether the queue has any, as the last beat saw it."""
        self._aside: dict[str, float] = {}
        self._told: dict[str, tuple[UUID | None, str]] = {}
        self._looked_at = ""
        self._look_at = 0.0

    @property
    def has_looked(self) -> bool:
        """Whether it has enqueued what was due when it began."""
        return self._turns.has_taken_one

    def on_sight(self, due_seconds: float | None) -> None:
        """Take into account in how many seconds the first one is due; ``None``: there is none."""
        if due_seconds is None:
            self.has_any = False
            return
        if not self.has_any:
            self.has_any = True
            self._on_first()
            self._turns.hurry()
            return
        at = self._turns.at
        if at is None or time.monotonic() + due_seconds < at - EARLIER_SECONDS:
            self._turns.hurry()

    async def keep(self) -> None:
        """Tick until cancelled; wait for a database that is away."""
        await self._turns.take()

    async def turn(self) -> float | None:
        """Enqueue what is due; return when to look again, in seconds; ``None``: there is none."""
        if not self.has_any:
            return None
        await self._look_around()
        now = time.monotonic()
        self._aside = {key: until for key, until in self._aside.items() if until > now}
        statement = store.soonest(self._queue_name, list(self._aside), AT_ONCE)
        seconds = max(0.0, self._look_at - now)
        rows = _rows(await self._connection.execute(statement))
        for row in rows:
            seconds = min(seconds, await self._take(row))
        if len(rows) == AT_ONCE and not _is_later(rows[-1].seen):
            return 0.0  # others are due behind these, which have ticked or are passed over
        return min([seconds, *(until - now for until in self._aside.values())])

    async def _take(self, row: _Row) -> float:
        """Take what is due of one; return in how many seconds to look at it again."""
        seen = row.seen
        plan = self._plan(row)
        if plan is None:
            return self._put_aside(seen.processor_class, ASIDE_SECONDS)
        if seen.next_tick is None:
            return await self._count(seen, plan)
        if not _comes(seen):
            return self._put_aside(seen.processor_class, ASIDE_SECONDS)
        left = await self._ticks.take(seen, plan)
        if left and seen.next_tick <= seen.now:
            return self._put_aside(seen.processor_class, left)  # it could not be taken
        return left

    def _plan(self, row: _Row) -> Plan | None:
        """Return what one is to do; ``None``: it cannot be told here, and why is said once."""
        seen, rule = row.seen, readable.load(row.rule)
        key = seen.processor_class
        try:
            processor = registry.get(row.processor or "")
            known = schedule.of_rule(rule)
            if str(known) != seen.schedule:
                raise ValueError(f"its rule is {known}, and its schedule {seen.schedule}")
            called = Called(row.arguments, row.subject, row.limit_key)
            call = made_tick_of(
                *(processor, called, self._queue_name, known), is_keyed=row.is_keyed
            )
        except (ProcessorClassNotFound, LookupError, TypeError, ValueError) as error:
            told = (seen.made_as, str(error))
            if self._told.get(key) != told:
                self._told[key] = told
                logs.schedules.cannot_tick(key, error)
            return None
        self._told.pop(key, None)
        return Plan(call, known, key, names_to_skip(processor, known))

    async def _count(self, seen: Scheduled, plan: Plan) -> float:
        """Set the first tick of one that was switched on."""
        assert seen.made_as is not None
        key, first = seen.processor_class, plan.schedule.following(seen.now, seen.now)
        try:
            await self._connection.execute(store.count_from(key, seen.made_as, first))
        except psycopg.Error as error:
            match whose(error):
                case Blame.CONNECTION:
                    raise
                case Blame.CONTENTION:
                    return self._put_aside(key, AGAIN_SECONDS)
            return self._put_aside(key, self._ticks.trouble_of(key).meet(error))
        return 0.0

    async def _look_around(self) -> None:
        """Look at some of those that are not due, now and then: all of them in the course of time.

        What a clock that was ahead has set too far is moved up.
        """
        if (now := time.monotonic()) < self._look_at:
            return
        self._look_at = now + ASIDE_SECONDS
        statement = store.behind(self._queue_name, self._looked_at, AT_ONCE)
        rows = _rows(await self._connection.execute(statement))
        self._looked_at = rows[-1].seen.processor_class if len(rows) == AT_ONCE else ""
        for row in rows:
            is_later = _is_later(row.seen) and _comes(row.seen)
            if is_later and (plan := self._plan(row)) is not None:
                await self._ticks.take(row.seen, plan)

    def _put_aside(self, key: str, seconds: float) -> float:
        self._aside[key] = time.monotonic() + seconds
        return seconds


def _is_later(seen: Scheduled) -> bool:
    return seen.next_tick is not None and seen.next_tick > seen.now


def _comes(seen: Scheduled) -> bool:
    """Tell whether it has a next tick that comes: somebody may have set it to infinity."""
    return seen.next_tick is not None and readable.is_moment(seen.next_tick)


def _rows(rows: Iterable[Sequence[Any]]) -> list[_Row]:
    return [_Row(Scheduled(*row[:9]), *row[9:]) for row in rows]
