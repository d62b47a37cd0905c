"""Rescues: takes over the tasks of supervisors that are dead or silent, and removes their rows."""

from __future__ import annotations

import time
from functools import partial
from uuid import UUID

import psycopg

from partisan_async import logs, store
from partisan_async.postgres.blame import Blame, whose
from partisan_async.supervisor.agenda import Agenda
from partisan_async.supervisor.around import Around
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.dispatcher import Dispatcher
from partisan_async.supervisor.lease import Lease
from partisan_async.supervisor.survivors import LOOK_EVERY_SECONDS, Survivors


class Rescuer:
    """Rescues the tasks that one supervisor's agenda tells of."""

    def __init__(
        self,
        me: UUID,
        queue_name: str,
        connection: Connection,
        lease: Lease,
        agenda: Agenda,
        dispatcher: Dispatcher,
    ) -> None:
        self.rows = Around("rescue", connection)
        self._me = me
        self._queue_name = queue_name
        self._connection = connection
        self._lease = lease
        self._agenda = agenda
        self._dispatcher = dispatcher
        self._survivors = Survivors(connection)

    async def turn(self) -> None:
        """Rescue as many tasks as there is room for; when none is left, remove the dead's rows."""
        agenda = self._agenda
        working = await self._survivors.of(agenda.dead)
        agenda.rescue_at = time.monotonic() + LOOK_EVERY_SECONDS if working else None
        by_clock = agenda.orphans and self._lease.steady
        if agenda.dead or by_clock:
            room = self._dispatcher.demand.room_for_rescued()
            if room < 1 or await self._rescue(working, room, by_clock=by_clock) == room:
                return
            agenda.orphans = False
        gone = (agenda.dead | agenda.silent) - working
        agenda.dead, agenda.silent = working, set()
        if gone:
            # Whatever had come free with them, they may not have told of it.
            agenda.note_limited()
            await self._forget(gone)

    @property
    def is_due(self) -> bool:
        """Whether there is something to look at now."""
        agenda = self._agenda
        at = agenda.rescue_at
        if at is not None and time.monotonic() < at:
            return False
        return bool(agenda.dead or agenda.silent or agenda.orphans)

    async def _rescue(self, working: set[UUID], room: int, *, by_clock: bool) -> int:
        """Rescue up to so many tasks; return how many there were."""
        rescue = partial(
            store.rescue,
            *(self._me, self._queue_name, room, self._lease.ttl),
            dead=list(self._agenda.dead),
            by_clock=by_clock,
            working=list(working),
        )
        orphans = partial(store.orphans, rescue())
        rows = await self.rows.take(lambda among: rescue(among=among), orphans, room)
        claims = store.claims(rows)
        if limited := [claim.id for claim in claims if claim.limit_name is not None]:
            # They wait for their limits again; how long they have waited here, nobody knows.
            self._agenda.keys.note_own_rows(limited)
            self._agenda.keys.note_some()
        if own := [claim for claim in claims if claim.limit_name is None]:
            self._dispatcher.admit(own, "rescued", first=True)
        return len(claims)

    async def _forget(self, gone: set[UUID]) -> None:
        try:
            await self._connection.execute(store.forget(list(gone)))
        except psycopg.Error as error:
            if whose(error) is Blame.CONNECTION:
                raise
            logs.supervisor.rows_stay(error)
