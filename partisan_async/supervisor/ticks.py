"""Takes the ticks of schedules, each once: whoever moves the schedule's row on enqueues the task.

The row decides which supervisor that is, and the database's clock when.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import psycopg

from partisan_async import logs, schedule, store
from partisan_async.claim import Call
from partisan_async.models import Status
from partisan_async.models.readable import is_moment
from partisan_async.postgres.blame import Blame, whose
from partisan_async.store import Scheduled
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.trouble import Trouble
from partisan_async.text.printable import plain

AGAIN_SECONDS = 1.0
"""Pause after what cannot be done yet: a row is locked, or the first beat has not come."""

CAUGHT_UP_AT_ONCE = 100
"""Maximum number of missed ticks that one statement enqueues."""


class Plan(NamedTuple):
    """What a schedule's ticks enqueue, and when they are.

    :param told: what the tasks' rows tell of the schedule: its key, if that is no processor's name.
    :param names: of the processor, if a tick enqueues nothing while a task of it runs.
    """

    call: Call
    schedule: schedule.Cron | schedule.Every
    told: str | None = None
    names: Sequence[str] = ()


class Ticks:
    """Takes the ticks of one queue's schedules."""

    def __init__(self, queue_name: str, connection: Connection, *, ttl: timedelta) -> None:
        self._queue_name = queue_name
        self._connection = connection
        self._ttl = ttl
        self._troubles: dict[str, Trouble] = {}

    async def take(self, seen: Scheduled, plan: Plan) -> float:
        """Enqueue what is due of a schedule; return in how many seconds to look at it again.

        0: it has ticked, or is another one by now.
        """
        assert seen.next_tick is not None
        if seen.next_tick > seen.now:
            return await self._seconds_to(seen, plan, seen.next_tick)
        return await self._tick(seen, plan, seen.next_tick)

    def trouble_of(self, key: str) -> Trouble:
        """Return what keeps a schedule from ticking."""
        trouble = self._troubles.get(key)
        if trouble is None:
            what = f"the tick of {plain(key)}"
            trouble = self._troubles[key] = Trouble(what, self._connection.role)
        return trouble

    async def _seconds_to(self, seen: Scheduled, plan: Plan, next_tick: datetime) -> float:
        """Return the seconds to the next tick; move it up if a clock that was ahead set it too far.

        A tick that came early by the wrong clock does not come again; but if the clock was ahead by
        more than the TTL, all ticks come at their right times, whatever came before.
        """
        known = plan.schedule
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
                return self.trouble_of(seen.processor_class).meet(error)
            if moved:
                logs.schedules.moved_up(seen.processor_class, next_tick, own)
            next_tick = own
        return (next_tick - seen.now).total_seconds()

    async def _tick(self, seen: Scheduled, plan: Plan, due: datetime) -> float:
        known = plan.schedule
        ticks, following = [due], known.following(due, due)
        if known.catch_up:
            while following <= seen.now and len(ticks) < CAUGHT_UP_AT_ONCE:
                ticks.append(following)
                following = known.following(following, following)
        missed = following <= seen.now
        if missed and not known.catch_up:
            following = known.following(due, seen.now)
        statement = store.tick(
            *(plan.call, seen.processor_class, str(known), ticks, following),
            told=plan.told,
            names=plan.names,
            made_as=seen.made_as,
        )
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
            return self.trouble_of(seen.processor_class).meet(error)
        if (trouble := self._troubles.pop(seen.processor_class, None)) is not None:
            trouble.end()
        if ticked:
            skips = known.skip_while_running or plan.call.unique_key is not None
            logs.schedules.ticked(seen.processor_class, ticks, ids or [], skips=skips)
            if missed and not known.catch_up:
                logs.schedules.missed(seen.processor_class, due, following)
            if ids:
                waits = plan.call.limit_name is not None
                payload = store.limited_payload(ids) if waits else Status.NEW.value
                await self._connection.execute(store.notify(self._queue_name, payload))
        return 0.0
