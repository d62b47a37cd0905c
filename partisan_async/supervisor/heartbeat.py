"""The *heartbeat*: the sign of life of this process's supervisors, and how they learn what goes on.

One statement updates the row of each supervisor, and returns what each sees: of its queue, of other
supervisors, and of what an operator wants. The *pulse* of a supervisor is its part of that.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg

from partisan_async import logs, store
from partisan_async.postgres.blame import Blame, is_nobodys, whose
from partisan_async.supervisor.agenda import Agenda
from partisan_async.supervisor.backoff import Backoff
from partisan_async.supervisor.claimer import Claimer
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.dispatcher import Dispatcher
from partisan_async.supervisor.host_process import identify_process, start_time
from partisan_async.supervisor.lease import Lease
from partisan_async.supervisor.memory import Memory
from partisan_async.supervisor.sight import Lookout
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


class Pulse:
    """What a beat says of one supervisor, and what becomes of what it sees."""

    def __init__(
        self,
        me: UUID,
        queue_name: str,
        agenda: Agenda,
        wakeup: Wakeup | None,
        dispatcher: Dispatcher,
        claimer: Claimer,
        stop: Stop,
        timetable: Timetable,
        memory: Memory,
    ) -> None:
        self.me = me
        self.queue_name = queue_name
        self.wakeup = wakeup
        self._agenda = agenda
        self._dispatcher = dispatcher
        self._claimer = claimer
        self._stop = stop
        self._timetable = timetable
        self._memory = memory
        self._lookout = Lookout()

    def said(self, nonce: str | None) -> store.Beat:
        """Return what the next beat says.

        :param nonce: what it sends to the wakeup's channel.
        """
        return store.Beat(
            self.me,
            self.queue_name,
            probe_channel="" if self.wakeup is None else self.wakeup.probe_channel,
            nonce=nonce,
            known={claim.id for claim in self._dispatcher.holdings.claims()},
            workers=json.dumps([self._described(each) for each in self._dispatcher.pool.running()]),
            stopping=self._stop.begun.is_set(),
            mark=self._agenda.newcomers.mark,
        )

    def doubt(self) -> None:
        """Have the claims compared with the database's: others may have taken them over."""
        self._agenda.doubt()

    def hear(self, seen: store.Seen) -> None:
        """Take what a beat saw."""
        sight = self._lookout.read(seen)
        self._claimer.on_sight(sight)
        self._timetable.on_sight(sight.timetable_seconds)
        if sight.draining:
            self._stop.drain()

    def _described(self, worker: dict[str, Any]) -> dict[str, Any]:
        pid = worker["pid"]
        # When it started tells it from a later process with its pid, when this supervisor is dead.
        return worker | {"memory_bytes": self._memory.of(pid), "started": start_time(pid)}


class Heartbeat:
    """Beats until it is cancelled.

    :param tell: called after each attempt.
    :param every: interval of the beats.
    :param home: the home that the database must belong to, if it has one; ``None``: any home.
    """

    def __init__(
        self,
        connection: Connection,
        lease: Lease,
        memory: Memory,
        tell: Callable[[], None],
        *,
        every: timedelta,
        home: str | None,
    ) -> None:
        self._connection = connection
        self._lease = lease
        self._memory = memory
        self._tell = tell
        self._every = every.total_seconds()
        self._home = home
        self._pulses: list[Pulse] = []
        # That it knows of limits: a release before says nothing of them.
        self._process = identify_process() | {"limits": True}
        self._trouble = Trouble("beat", connection.role)
        self._beating = asyncio.Lock()
        self._lapsed = False
        self._turned = time.monotonic()

    def ailment(self) -> str:
        """Say why the process should be ended; empty: there is no reason."""
        # Each attempt to beat ends within seconds, so after two TTLs without an attempt the loop is
        # stuck. A database that is away is no reason: ending all runs on all hosts would not help.
        stuck = time.monotonic() - self._turned >= 2 * self._lease.ttl.total_seconds()
        return "the heartbeat is stuck" if stuck else ""

    def join(self, pulse: Pulse) -> None:
        """Beat for one more supervisor, beginning now."""
        self._pulses.append(pulse)
        self._lease.hurry()

    async def leave(self, pulse: Pulse) -> None:
        """Beat no more for a supervisor, and remove its row.

        Others are notified of the tasks that were given back.
        """
        if pulse in self._pulses:
            self._pulses.remove(pulse)
        async with self._beating:
            pass  # a beat under way would insert the row again, for a supervisor that is gone
        while True:
            try:
                await self._connection.execute(store.forget([pulse.me]))
                await self._connection.execute(store.notify(pulse.queue_name))
            except psycopg.Error as error:
                if whose(error) not in (Blame.CONNECTION, Blame.CONTENTION):
                    logs.supervisor.row_stays(error)
                    return
                await asyncio.sleep(0.1)  # a connection may have ended since it was last used
            else:
                return

    async def keep(self) -> None:
        """Beat for ever; wait for a database that is away."""
        backoff = Backoff(0.2, self._every)
        while True:
            self._lease.wanted.clear()
            began = time.monotonic()
            try:
                async with self._beating:
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
            self._tell()
            pause = max(0.1, every - (time.monotonic() - began))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._lease.wanted.wait(), pause)

    async def beat(self) -> None:
        """Beat once.

        :raises NotAtHome: the database belongs to another home.
        """
        pulses = {pulse.me: pulse for pulse in self._pulses}
        if not pulses:
            return
        statement = self._statement(list(pulses.values()))
        sent = time.monotonic()
        rows = [store.Seen(*row) for row in await self._connection.execute(statement)]
        if not rows:
            raise NotAtHome
        regained = self._lease.renew(sent, rows[0].at)
        self._lapsed = False
        if regained:
            logs.supervisor.lease_regained()
            for pulse in pulses.values():
                pulse.doubt()
        for seen in rows:
            pulses[seen.me].hear(seen)

    def _statement(self, pulses: Sequence[Pulse]) -> store.Statement:
        # Each wakeup is probed once, whichever queues it listens for.
        probed: set[Wakeup] = set()
        said = []
        for pulse in pulses:
            wakeup, nonce = pulse.wakeup, None
            if wakeup is not None and wakeup not in probed:
                probed.add(wakeup)
                nonce = wakeup.nonce()
            said.append(pulse.said(nonce))
        return store.beat(
            said,
            hostname=socket.gethostname(),
            process=json.dumps(self._process | {"memory_bytes": self._memory.of_host()}),
            ttl=self._lease.ttl,
            home=self._home,
        )

    def _see_lapse(self) -> None:
        if self._pulses and not self._lease.held and not self._lapsed:
            self._lapsed = True
            logs.supervisor.lease_lost(self._lease.ttl.total_seconds())
