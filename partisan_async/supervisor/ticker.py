"""Has scheduled processors tick: at each tick exactly one supervisor enqueues one task.

The schedule's row decides which supervisor, and the database's clock when; this host's clock only
measures how long to sleep. Where the row and the code here differ about a schedule, another release
wrote the row, and that release ticks it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import psycopg

from partisan_async import logs, registry, schedule, store
from partisan_async.claim import Call
from partisan_async.enqueue.calls import call_of
from partisan_async.models.readable import is_moment
from partisan_async.naming import name_of
from partisan_async.postgres.blame import Blame, whose
from partisan_async.processor import BaseTaskProcessor
from partisan_async.store import Scheduled
from partisan_async.supervisor.backoff import Backoff
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.trouble import Trouble
from partisan_async.text.printable import plain

LOOK_EVERY_SECONDS = 30.0
"""Maximum time between two looks: another release's supervisors may be gone, or a NOTIFY lost."""

AGAIN_SECONDS = 1.0
"""Pause after what cannot be done yet: a row is locked, or the first beat has not come."""

CAUGHT_UP_AT_ONCE = 100
"""Maximum number of missed ticks that one statement enqueues."""


class _Known(NamedTuple):
    call: Call
    schedule: schedule.Cron | schedule.Every


class Ticker:
    """Ticks the schedules of one queue; does nothing for a queue without schedules."""

    def __init__(
        self, me: UUID, queue_name: str, connection: Connection, *, ttl: timedelta
    ) -> None:
        self._me = me
        self._queue_name = queue_name
        self._connection = connection
        self._ttl = ttl
        self._known = {
            registry.lasting_name(name_of(processor)): _Known(
                tick_of(processor), schedule.of(processor.SCHEDULE)
            )
            for processor in registry.processors()
            if processor.SCHEDULE is not None and queue_name == processor.QUEUE_NAME
        }
        self._troubles: dict[str, Trouble] = {}
        self._hurry = asyncio.Event()

    def hurry(self) -> None:
        """Have it look at once."""
        self._hurry.set()

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
            if each.next_tick > each.now:
                left = await self._seconds_to(each, each.next_tick)
            else:
                left = await self._tick(each, each.next_tick)
            seconds = min(seconds, left)
        return seconds

    async def keep(self) -> None:
        """Tick until cancelled; wait for a database that is away."""
        backoff = Backoff(0.1, 5.0)
        while self._known:
            self._hurry.clear()
            try:
                seconds = await self.turn()
                backoff.reset()
            except psycopg.Error as error:
                logs.schedules.ticks_not_sought(error)
                seconds = backoff.next()
            if seconds > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._hurry.wait(), seconds)

    def _is_ours(self, seen: Scheduled) -> bool:
        expected = (self._queue_name, str(self._known[seen.processor_class].schedule))
        return (seen.queue_name, seen.schedule) == expected

    def _is_to_be_set(self, seen: Scheduled) -> bool:
        uncounted = seen.enabled and seen.next_tick is None and self._is_ours(seen)
        return seen.may_set or uncounted or seen.schedule is None

    async def _seconds_to(self, seen: Scheduled, next_tick: datetime) -> float:
        """Return the seconds to the next tick; move it up if a clock that was ahead set it too far.

        A tick that came early by the wrong clock does not come again; but if the clock was ahead by
        more than the TTL, all ticks come at their right times, whatever came before.
        """
        known = self._known[seen.processor_class].schedule
        own = known.following(next_tick, seen.now)
        last = seen.last_tick
        if (
            last is not None
            and is_moment(last)
            and (last == own or seen.now < last <= seen.now + self._ttl)
        ):
            own = known.following(last, last)
        if own < next_tick:
            try:
                moved = await self._connection.execute(store.move_up(seen, own))
            except psycopg.Error as error:
                if whose(error) is Blame.CONNECTION:
                    raise
                return self._trouble_of(seen.processor_class).meet(error)
            if moved:
                logs.schedules.moved_up(seen.processor_class, next_tick, own)
            next_tick = own
        return (next_tick - seen.now).total_seconds()

    async def _set(self, unset: Sequence[Scheduled]) -> bool:
        schedules = []
        for seen in unset:
            known = self._known[seen.processor_class].schedule
            schedules.append(
                (seen.processor_class, str(known), known.following(seen.now, seen.now))
            )
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
            self._trouble_of(unset[0].processor_class).meet(error)
            return False

    def _trouble_of(self, name: str) -> Trouble:
        trouble = self._troubles.get(name)
        if trouble is None:
            what = f"the tick of {plain(name)}"
            trouble = self._troubles[name] = Trouble(what, self._connection.role)
        return trouble

    async def _tick(self, seen: Scheduled, due: datetime) -> float:
        call, known = self._known[seen.processor_class]
        ticks, following = [due], known.following(due, due)
        if known.catch_up:
            # Somebody counts on a task for each tick, so none may be dropped as identical.
            call = call.beside_twins()
            while following <= seen.now and len(ticks) < CAUGHT_UP_AT_ONCE:
                ticks.append(following)
                following = known.following(following, following)
        missed = following <= seen.now
        if missed and not known.catch_up:
            following = known.following(due, seen.now)
        statement = store.tick(call, seen.processor_class, str(known), ticks, following)
        try:
            ((ticked, ids),) = await self._connection.execute(statement)
        except psycopg.Error as error:
            match whose(error):
                case Blame.CONNECTION:
                    raise
                case Blame.CONTENTION:
                    # A transaction that is still open switches the row off, or enqueues an
                    # identical call.
                    return AGAIN_SECONDS
            return self._trouble_of(seen.processor_class).meet(error)
        self._trouble_of(seen.processor_class).end()
        if ticked:
            logs.schedules.ticked(seen.processor_class, ticks, ids or [])
            if missed and not known.catch_up:
                logs.schedules.missed(seen.processor_class, due, following)
            if ids:
                await self._connection.execute(store.notify(self._queue_name, "new"))
        return 0.0


def tick_of(processor_class: type[BaseTaskProcessor]) -> Call:
    """Return the call that a tick of a scheduled processor enqueues: the one without arguments."""
    processor = processor_class.__new__(processor_class)
    # Not the class's own __init__: it is project code, which may do anything in a supervisor.
    BaseTaskProcessor.__init__(processor)
    return call_of(processor, 0, None)
