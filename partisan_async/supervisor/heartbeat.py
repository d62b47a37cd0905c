"""The *heartbeat*: this supervisor's sign of life, and how it learns what goes on.

One statement updates the supervisor's own row, and returns what it sees: of its queue, of other
supervisors, and of what an operator wants.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

import psycopg

from partisan_async import logs, store
from partisan_async.postgres.blame import Blame, is_nobodys, whose
from partisan_async.supervisor.agenda import Agenda
from partisan_async.supervisor.backoff import Backoff
from partisan_async.supervisor.claimer import Claimer
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.dispatcher import Dispatcher
from partisan_async.supervisor.lease import Lease
from partisan_async.supervisor.sight import Lookout
from partisan_async.supervisor.status import Status
from partisan_async.supervisor.stop import Stop
from partisan_async.supervisor.timetable import Timetable
from partisan_async.supervisor.trouble import Trouble
from partisan_async.supervisor.wakeup import Wakeup


class NotAtHome(Exception):  # noqa: N818
    """The database belongs to another home by now: it was replaced by a copy, or adopted."""

    def __init__(self) -> None:
        super().__init__(
            "The database belongs to another home by now: it was replaced by a copy, or adopted"
            " elsewhere. `manage.py partisan doctor` says to which, and what to do."
        )


class Heartbeat:
    """Beats until it is ended.

    :param every: interval of the beats.
    :param home: the home that the database must belong to, if it has one; ``None``: any home.
    """

    def __init__(
        self,
        me: UUID,
        queue_name: str,
        connection: Connection,
        lease: Lease,
        agenda: Agenda,
        wakeup: Wakeup | None,
        dispatcher: Dispatcher,
        claimer: Claimer,
        stop: Stop,
        status: Status,
        timetable: Timetable,
        *,
        every: timedelta,
        home: str | None,
    ) -> None:
        self._me = me
        self._queue_name = queue_name
        self._connection = connection
        self._lease = lease
        self._agenda = agenda
        self._wakeup = wakeup
        self._dispatcher = dispatcher
        self._claimer = claimer
        self._stop = stop
        self._status = status
        self._timetable = timetable
        self._every = every.total_seconds()
        self._home = home
        self._lookout = Lookout()
        self._trouble = Trouble("beat", connection.role)
        self._ended = False
        self._lapsed = False
        self._turned = time.monotonic()

    def ailment(self) -> str:
        """Say why the supervisor should be ended; empty: there is no reason."""
        # Each attempt to beat ends within seconds, so after two TTLs without an attempt the loop is
        # stuck. A database that is away is no reason: ending all runs on all hosts would not help.
        stuck = time.monotonic() - self._turned >= 2 * self._lease.ttl.total_seconds()
        return "the heartbeat is stuck" if stuck else ""

    def end(self) -> None:
        """Have ``keep()`` return after the beat that is under way."""
        self._ended = True
        self._lease.hurry()

    async def keep(self) -> None:
        """Beat until ``end()``; wait for a database that is away."""
        backoff = Backoff(0.2, self._every)
        while not self._ended:
            self._lease.wanted.clear()
            began = time.monotonic()
            try:
                await self.beat()
                backoff.reset()
                every = self._every
                self._trouble.end()
            except psycopg.Error as error:
                every = backoff.next()
                if backoff.count == 1 or is_nobodys(error):
                    self._trouble.meet(error)
            self._see_lapse()
            self._turned = time.monotonic()
            # Even if the database did not answer: a restart would not bring it back, and would end
            # the runs.
            self._status.tell("WATCHDOG=1")
            pause = max(0.1, every - (time.monotonic() - began))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._lease.wanted.wait(), pause)

    async def beat(self) -> None:
        """Beat once.

        :raises NotAtHome: the database belongs to another home.
        """
        statement = self._statement()
        sent = time.monotonic()
        rows = await self._connection.execute(statement)
        if not rows:
            raise NotAtHome
        ((*seen, now),) = rows
        regained = self._lease.renew(sent, now)
        self._lapsed = False
        if regained:
            logs.supervisor.lease_regained()
            self._agenda.doubt()
        sight = self._lookout.read(seen)
        self._claimer.on_sight(sight)
        self._timetable.on_sight(sight.timetable_seconds)
        if sight.draining:
            self._stop.drain()

    async def take_leave(self) -> None:
        """Remove the supervisor's row, and notify others of the tasks that were given back."""
        while True:
            try:
                await self._connection.execute(store.forget([self._me]))
                await self._connection.execute(store.notify(self._queue_name))
            except psycopg.Error as error:
                if whose(error) not in (Blame.CONNECTION, Blame.CONTENTION):
                    logs.supervisor.row_stays(error)
                    return
                await asyncio.sleep(0.1)  # a connection may have ended since it was last used
            else:
                return

    def _statement(self) -> store.Statement:
        wakeup, pool = self._wakeup, self._dispatcher.pool
        return store.beat(
            self._me,
            hostname=socket.gethostname(),
            process=json.dumps(self._lookout.process),
            queue_name=self._queue_name,
            ttl=self._lease.ttl,
            probe_channel="" if wakeup is None else wakeup.probe_channel,
            nonce=None if wakeup is None else wakeup.nonce(),
            known={claim.id for claim in self._dispatcher.holdings.claims()},
            workers=json.dumps(pool.running()),
            stopping=self._stop.begun.is_set(),
            home=self._home,
        )

    def _see_lapse(self) -> None:
        if not self._lease.held and not self._lapsed:
            self._lapsed = True
            logs.supervisor.lease_lost(self._lease.ttl.total_seconds())
