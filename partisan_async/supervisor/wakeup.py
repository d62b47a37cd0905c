"""Wakes supervisors on NOTIFY, and knows whether NOTIFY can be trusted.

LISTEN has a connection of its own, one for all queues of the process. Silence proves nothing:
behind a transaction pooler LISTEN succeeds and no notification ever arrives. So a *probe* goes
around: the heartbeat sends a *nonce* to a channel that only this process listens to. Until the
nonce has come back, and whenever one does not, the supervisors poll.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from partisan_async import logs, store
from partisan_async.postgres.cancelling import hang_up
from partisan_async.supervisor.agenda import Agenda
from partisan_async.supervisor.backoff import Backoff
from partisan_async.supervisor.lease import Lease
from partisan_async.supervisor.opening import connect
from partisan_async.text.one_line import explain

PROBE_EVERY_SECONDS = 10
PROBE_PATIENCE_SECONDS = 4
"""Below a beat, so that a probe is judged by the next one."""


class Ear(NamedTuple):
    """Who is told of a queue's notifications.

    :param agenda: told of each NOTIFY about rows; and after each LISTEN, that there may be rows:
        notifications from before are lost.
    :param on_order: called after a NOTIFY about an operator's order.
    """

    queue_name: str
    agenda: Agenda
    on_order: Callable[[], None]


class Wakeup:
    """Listens until it is cancelled.

    :param lease: its beat sends the probes; an operator's order hurries it.
    :param dsn: overrides parameters of the database, to go around a pooler.
    """

    def __init__(self, alias: str, lease: Lease, dsn: str | None = None) -> None:
        self.probe_channel = f"partisan_async.probe.{uuid.uuid4().hex}"
        self.proven = asyncio.Event()
        self._alias = alias
        self._lease = lease
        self._dsn = dsn
        self._ears: dict[str, Ear] = {}
        self._begins_anew = False
        self._suspicion = "as behind a transaction pooler: LISTEN_DSN may lead around it"
        if dsn:
            self._suspicion = "as if LISTEN_DSN led to another database, or to a transaction pooler"
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._sent: tuple[str, float] | None = None
        self._heard_at = 0.0
        self._backoff = Backoff(0.2, 30.0)
        self._complained = False

    @property
    def queue_names(self) -> list[str]:
        """The queues that it listens for."""
        return [ear.queue_name for ear in self._ears.values()]

    def join(self, ear: Ear) -> None:
        """Listen for one more queue."""
        self._ears[store.channel(ear.queue_name)] = ear
        if self._connection is not None:
            self._begins_anew = hang_up(self._connection)

    def nonce(self) -> str | None:
        """Return the nonce that the next beat is to send, if any; judge the last probe."""
        now = time.monotonic()
        if self._connection is None:
            return None
        if self._sent is not None:
            if now - self._sent[1] > PROBE_PATIENCE_SECONDS:
                self._distrust(f"a probe did not come back, {self._suspicion}")
                return None
            return self._sent[0]  # again: the beat that should have sent it may have failed
        if self.proven.is_set() and now - self._heard_at < PROBE_EVERY_SECONDS:
            return None
        self._sent = (uuid.uuid4().hex, now)
        return self._sent[0]

    async def keep(self) -> None:
        """Listen for ever; a connection that ends is opened again."""
        while True:
            try:
                await self._listen()
            except psycopg.Error as error:
                if self._begins_anew:
                    self._begins_anew = False
                    self.proven.clear()
                    continue
                self._distrust(explain(error))
            self.proven.clear()
            await asyncio.sleep(self._backoff.next())

    async def _listen(self) -> None:
        self._sent = None
        connection = await connect(self._alias, f"{' '.join(self.queue_names)} listen", self._dsn)
        try:
            # Behind a transaction pooler LISTEN stays with the server connection, and notifications
            # go to its next client or to the pooler's log. So do not listen to the queues' channels
            # before the proof.
            await self._subscribe(connection, self.probe_channel)
            self._connection = connection
            self._lease.hurry()
            async with aclosing(connection.notifies()) as probes:
                async for probe in probes:
                    if self._recognises(probe.payload):
                        break
            for channel in list(self._ears):
                await self._subscribe(connection, channel)
            self._trust()
            self._look()
            async for notification in connection.notifies():
                if (ear := self._ears.get(notification.channel)) is not None:
                    self._wake(ear, notification.payload)
                elif self._recognises(notification.payload):
                    self._trust()
        finally:
            self._connection = None
            await connection.close()

    def _wake(self, ear: Ear, payload: str) -> None:
        if payload == store.STEERED:
            self._lease.hurry()
            ear.on_order()
        else:
            ear.agenda.on_notify(payload)

    def _look(self) -> None:
        for ear in self._ears.values():
            ear.agenda.on_notify("")

    async def _subscribe(self, connection: psycopg.AsyncConnection[Any], channel: str) -> None:
        await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))

    def _recognises(self, nonce: str) -> bool:
        return self._sent is not None and nonce == self._sent[0]

    def _trust(self) -> None:
        self._sent = None
        self._heard_at = time.monotonic()
        self._backoff.reset()
        self._complained = False
        if not self.proven.is_set():
            self.proven.set()
            logs.supervisor.listening(self.queue_names)

    def _distrust(self, why: str) -> None:
        if not self._complained:
            self._complained = True
            logs.supervisor.polling(self.queue_names, why)
        if self.proven.is_set():
            self.proven.clear()
            # Claimers may be asleep until a NOTIFY: wake them, since they must poll from now on.
            self._look()
        if self._connection is not None:
            connection, self._connection = self._connection, None
            hang_up(connection)
