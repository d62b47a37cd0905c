"""The *claimer*: works off the agenda in a fixed order, and sleeps when there is nothing to do.

No other part takes rows. The other parts note on the agenda what there may be to do.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from uuid import UUID

import psycopg

from partisan_async import logs, store
from partisan_async.settings import QueueSettings
from partisan_async.supervisor.agenda import Agenda
from partisan_async.supervisor.around import MORE, Around
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.dispatcher import Dispatcher
from partisan_async.supervisor.lease import Lease
from partisan_async.supervisor.limited import Limited
from partisan_async.supervisor.parking import Parking
from partisan_async.supervisor.promoter import Promoter
from partisan_async.supervisor.rescuer import Rescuer
from partisan_async.supervisor.sight import Sight
from partisan_async.supervisor.stock import Stock
from partisan_async.supervisor.trouble import Trouble
from partisan_async.supervisor.wakeup import Wakeup


class Claimer:
    """Claims until it is stopped; sleeps while there is nothing to claim.

    :param wakeup: wakes it by NOTIFY, once NOTIFY is proven to work; until then it polls.
    """

    def __init__(
        self,
        me: UUID,
        queue_name: str,
        settings: QueueSettings,
        connection: Connection,
        lease: Lease,
        agenda: Agenda,
        dispatcher: Dispatcher,
        wakeup: Wakeup | None,
    ) -> None:
        self._me = me
        self._queue_name = queue_name
        self._settings = settings
        self._connection = connection
        self._lease = lease
        self._agenda = agenda
        self._dispatcher = dispatcher
        self._wakeup = wakeup
        self._trouble = Trouble("claim", connection.role)
        self._ready = Around("claim", connection)
        self._promoter = Promoter(queue_name, connection, agenda)
        self._limited = Limited(me, queue_name, connection, lease, agenda, dispatcher)
        self._rescuer = Rescuer(me, queue_name, connection, lease, agenda, dispatcher)
        self._parking = Parking(queue_name, connection)
        deletes = settings.DELETE_TASKS_ON_COMPLETE
        self._stock = Stock(me, connection, agenda, dispatcher, deletes_finished=deletes)
        self.is_asleep = False
        """Whether it waits for a reason to look."""
        self._stopped = False
        self._claims_since_renewal = 0
        self._renewing: asyncio.Task[None] | None = None

    def on_sight(self, sight: Sight) -> None:
        """Take what a beat saw into account."""
        was_paused = self._dispatcher.pauses.queue
        self._dispatcher.pause_queue(sight.paused)
        if was_paused and not sight.paused:
            self._agenda.note_limited()  # a claim during the pause looked at keys in vain
        self._pause_processors(sight)
        self._agenda.on_sight(sight, trusts_clock=self._lease.trusts_clock)
        self._stock.on_sight(sight)
        self._dispatcher.on_beat()
        # Not at every beat: in a flood of tasks that would be once a second.
        enough = self._claims_since_renewal >= self._settings.CHECKS_BEFORE_CLEANUP
        if enough and self._renewing is None and not self._stopped:
            self._claims_since_renewal = 0
            self._renewing = asyncio.ensure_future(self._renew())
        self._agenda.wake.set()

    def stop(self) -> None:
        """Have ``keep()`` return after the statement that is under way."""
        self._stopped = True
        self._agenda.wake.set()

    async def left(self) -> int:
        """Return how many rows are ready or due that it would take; it counts up to ``MORE``."""
        ready = store.ready(self._queue_name, MORE, self._ready.others())
        found = len(await self._connection.execute(ready))
        found = found or len(await self._connection.execute(self._promoter.due()))
        return found or int(self._agenda.keys.is_any_open)

    async def keep(self) -> None:
        """Claim until ``stop()``."""
        try:
            await self._keep()
        finally:
            if self._renewing is not None:
                self._renewing.cancel()
                await asyncio.gather(self._renewing, return_exceptions=True)

    async def _keep(self) -> None:
        while not self._stopped:
            self._agenda.wake.clear()
            try:
                again = self._lease.held and await self._take()
                self._trouble.end()
            except psycopg.Error as error:
                # A claim whose answer was lost may have taken effect. Then a live supervisor has
                # rows that it does not know about.
                self._agenda.doubtful = self._agenda.ready = True
                await asyncio.sleep(self._trouble.meet(error))
                continue
            if not again and not self._stopped:
                await self._sleep()

    async def _take(self) -> bool:
        """Take the rows that there is room for; return whether to go on at once."""
        agenda = self._agenda
        if self._renewing is not None and self._renewing.done():
            self._renewing = None
        if agenda.doubtful:
            await self._stock.take()
        if self._rescuer.is_due:
            await self._rescuer.turn()
        if agenda.due_at is not None and time.monotonic() >= agenda.due_at:
            await self._promoter.turn()
        more = await self._parking.turn()
        # Before the others: it leaves room for those that come before its own.
        await self._limited.turn()
        if agenda.ready and (room := self._dispatcher.demand.room()):
            await self._claim(room)
        elif agenda.look_for_due and not agenda.ready:
            await self._promoter.turn()
        self._dispatcher.dispatch()
        if more:
            # Look again: no NOTIFY tells of rows that are next in line now, or were brought back.
            agenda.ready = True
            agenda.note_limited()
            return True
        if self._limited.room:
            return True
        if agenda.ready:
            return self._dispatcher.demand.room() > 0
        return agenda.look_for_due

    async def _claim(self, room: int) -> None:
        agenda = self._agenda
        agenda.ready = False
        claim = partial(store.claim, self._me, self._queue_name, room, self._lease.ttl)
        ready = partial(store.ready, self._queue_name, room + MORE)
        rows = await self._ready.take(claim, ready, room)
        claims = store.claims(rows)
        agenda.ready = agenda.ready or self._ready.went_around
        if claims:
            agenda.ready = agenda.ready or len(claims) == room
            self._limited.admit_ready(claims)
        self._claims_since_renewal += 1

    async def _renew(self) -> None:
        # While claims go on: connecting takes as long as a dozen claims, and no task may wait.
        nothing = store.claim(self._me, self._queue_name, 0, self._lease.ttl)
        try:
            await self._connection.renew(nothing)
        except psycopg.Error as error:
            logs.database.claim_connection_not_renewed(error)

    def _pause_processors(self, sight: Sight) -> None:
        names = sight.paused_processors
        self._ready.paused = self._rescuer.rows.paused = self._limited.rows.paused = names
        self._parking.on_sight(names, ending=sight.pauses_end)
        if self._dispatcher.pause_processors(names):
            self._agenda.ready = True

    async def _sleep(self) -> None:
        """Wait for the next reason to look."""
        agenda = self._agenda
        hears = self._wakeup is not None and self._wakeup.proven.is_set()
        poll = None if hears else self._settings.SLEEP_DELAY_SECONDS
        due = None
        has_room = self._dispatcher.demand.room_under_limits() > 0
        if (at := agenda.next_at(has_room=has_room)) is not None and self._lease.held:
            due = max(0.0, at - time.monotonic())
        limits = [limit for limit in (poll, due) if limit is not None]
        self.is_asleep = True
        try:
            await asyncio.wait_for(agenda.wake.wait(), min(limits, default=None))
        except TimeoutError:
            if due is None or (poll is not None and poll <= due):
                agenda.ready = agenda.look_for_due = True
                agenda.note_limited()
        finally:
            self.is_asleep = False
