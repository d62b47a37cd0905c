"""Wakes the supervisor on NOTIFY, and knows whether NOTIFY can be trusted.

LISTEN has a connection of its own. Silence proves nothing: behind a transaction pooler LISTEN
succeeds and no notification ever arrives. So a *probe* goes around: the heartbeat sends a *nonce*
to a channel that only this supervisor listens to. Until the nonce has come back, and whenever one
does not, the supervisor polls.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql

from partisan_async import store
from partisan_async.supervisor.connection import TRANSIENT, connect, explain, hang_up

logger = logging.getLogger("partisan_async")

PROBE_EVERY_SECONDS = 10
PROBE_PATIENCE_SECONDS = 4
"""Below a beat, so that a probe is judged by the next one."""


class Wakeup:
    """Listens for ever.

    :param on_wake: called for each NOTIFY of the queue, and after each (re)connect: what was sent
        in between is lost.
    :param on_listening: called when LISTEN stands and a probe is wanted.
    """

    def __init__(
        self,
        alias: str,
        queue_name: str,
        *,
        on_wake: Callable[[], None],
        on_listening: Callable[[], None],
    ) -> None:
        self.probe_channel = f"partisan_async.probe.{uuid.uuid4().hex}"
        self.proven = asyncio.Event()
        self._alias = alias
        self._queue_name = queue_name
        self._on_wake = on_wake
        self._on_listening = on_listening
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._sent: tuple[str, float] | None = None
        self._heard_at = 0.0
        self._complained = False

    def nonce(self) -> str | None:
        """Return what the next beat is to send, if a probe is due; judge the last one."""
        now = time.monotonic()
        if self._connection is None:
            return None
        if self._sent is not None:
            if now - self._sent[1] > PROBE_PATIENCE_SECONDS:
                self._distrust("a probe did not come back, as behind a transaction pooler")
            return None
        if self.proven.is_set() and now - self._heard_at < PROBE_EVERY_SECONDS:
            return None
        self._sent = (uuid.uuid4().hex, now)
        return self._sent[0]

    async def keep(self) -> None:
        """Listen for ever; a connection that ends is opened again."""
        failures = 0
        while True:
            try:
                await self._listen()
            except TRANSIENT as error:
                self._distrust(explain(error))
            failures = 0 if self.proven.is_set() else failures + 1
            self.proven.clear()
            await asyncio.sleep(min(0.1 * 2 ** min(failures, 10), 30))

    async def _listen(self) -> None:
        self._sent = None
        connection = await connect(self._alias, f"{self._queue_name} listen")
        try:
            for name in (store.channel(self._queue_name), self.probe_channel):
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(name)))
            self._connection = connection
            self._on_listening()
            self._on_wake()
            async for notification in connection.notifies():
                if notification.channel == self.probe_channel:
                    self._hear(notification.payload)
                else:
                    self._on_wake()
        finally:
            self._connection = None
            await connection.close()

    def _hear(self, nonce: str) -> None:
        if self._sent is None or nonce != self._sent[0]:
            return
        self._sent = None
        self._heard_at = time.monotonic()
        self._complained = False
        if not self.proven.is_set():
            self.proven.set()
            logger.info("listening: queue %r is woken by NOTIFY", self._queue_name)

    def _distrust(self, why: str) -> None:
        if not self._complained:
            self._complained = True
            logger.warning(
                "NOTIFY cannot be relied on (%s): queue %r is polled meanwhile",
                why,
                self._queue_name,
            )
        self.proven.clear()
        if self._connection is not None:
            connection, self._connection = self._connection, None
            hang_up(connection)
