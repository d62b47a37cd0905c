"""Wakes the supervisor on NOTIFY, and knows whether NOTIFY can be trusted.

LISTEN has a connection of its own. Silence proves nothing: behind a transaction pooler LISTEN
succeeds and no notification ever arrives. So a *probe* goes around: the heartbeat sends a *nonce*
to a channel that only this supervisor listens to. Until the nonce has come back, and whenever one
does not, the supervisor polls.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import aclosing
from typing import Any

import psycopg
from psycopg import sql

from partisan_async import logs, store
from partisan_async.postgres.cancelling import hang_up
from partisan_async.supervisor.agenda import Agenda
from partisan_async.supervisor.backoff import Backoff
from partisan_async.supervisor.lease import Lease
from partisan_async.supervisor.opening import connect
from partisan_async.supervisor.ticker import Ticker
from partisan_async.text.one_line import explain

PROBE_EVERY_SECONDS = 10
PROBE_PATIENCE_SECONDS = 4
"""Below a beat, so that a probe is judged by the next one."""


class Wakeup:
    """Listens until it is cancelled.

    :param agenda: told of each NOTIFY about rows; and after each LISTEN, that there may be rows:
        notifications from before are lost.
    :param lease, ticker: hurried by a NOTIFY about an operator's order; the lease's beat also sends
        the probes.
    :param dsn: overrides parameters of the database, to go around a pooler.
    """

    def __init__(
        self,
        alias: str,
        queue_name: str,
        agenda: Agenda,
        lease: Lease,
        ticker: Ticker,
        dsn: str | None = None,
    ) -> None:
        self.probe_channel = f"partisan_async.probe.{uuid.uuid4().hex}"
        self.proven = asyncio.Event()
        self._alias = alias
        self._queue_name = queue_name
        self._agenda = agenda
        self._lease = lease
        self._ticker = ticker
        self._dsn = dsn
        self._suspicion = "as behind a transaction pooler: LISTEN_DSN may lead around it"
        if dsn:
            self._suspicion = "as if LISTEN_DSN led to another database, or to a transaction pooler"
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._sent: tuple[str, float] | None = None
        self._heard_at = 0.0
        self._backoff = Backoff(0.2, 30.0)
        self._complained = False

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
                self._distrust(explain(error))
            self.proven.clear()
            await asyncio.sleep(self._backoff.next())

    async def _listen(self) -> None:
        self._sent = None
        connection = await connect(self._alias, f"{self._queue_name} listen", self._dsn)
        try:
            # Behind a transaction pooler LISTEN stays with the server connection, and notifications
            # go to its next client or to the pooler's log. So do not listen to the queue's channel
            # before the proof.
            await self._subscribe(connection, self.probe_channel)
            self._connection = connection
            self._lease.hurry()
            async with aclosing(connection.notifies()) as probes:
                async for probe in probes:
                    if self._recognises(probe.payload):
                        break
            await self._subscribe(connection, store.channel(self._queue_name))
            self._trust()
            self._agenda.on_notify("")
            async for notification in connection.notifies():
                if notification.channel != self.probe_channel:
                    self._wake(notification.payload)
                elif self._recognises(notification.payload):
                    self._trust()
        finally:
            self._connection = None
            await connection.close()

    def _wake(self, payload: str) -> None:
        if payload == store.STEERED:
            self._lease.hurry()
            self._ticker.hurry()
        else:
            self._agenda.on_notify(payload)

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
            logs.supervisor.listening(self._queue_name)

    def _distrust(self, why: str) -> None:
        if not self._complained:
            self._complained = True
            logs.supervisor.polling(self._queue_name, why)
        if self.proven.is_set():
            self.proven.clear()
            # The claimer may be asleep until a NOTIFY: wake it, since it must poll from now on.
            self._agenda.on_notify("")
        if self._connection is not None:
            connection, self._connection = self._connection, None
            hang_up(connection)
