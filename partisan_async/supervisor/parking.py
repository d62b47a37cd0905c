"""*Parks* the ready rows of paused processors, which would stay in front of all others.

Without a pause, it sends no statement. Else it looks once a second, and again at once while many of
the first ready rows are to be parked, see ``store.parking``; claims go on in between.
"""

from __future__ import annotations

import time

import psycopg

from partisan_async import logs, store
from partisan_async.postgres.blame import Blame, is_nobodys, whose
from partisan_async.store import Statement
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.trouble import Trouble

LOOK_EVERY_SECONDS = 1.0

AGAIN_SECONDS = 30.0
"""Pause after which a statement that the database refused is tried again."""


class Parking:
    """Parks the rows of paused processors, and brings back the rows of resumed ones."""

    def __init__(self, queue_name: str, connection: Connection) -> None:
        self.paused: frozenset[str] = frozenset()
        self._queue_name = queue_name
        self._connection = connection
        # Two: with one for both, a success of the first would have the second logged again.
        self._parking = Trouble("setting aside tasks of paused processors", connection.role)
        self._unparking = Trouble("bringing back tasks of resumed processors", connection.role)
        self._ending = False
        self._park_at = 0.0
        self._unpark_at = 0.0

    def on_sight(self, paused: frozenset[str], *, ending: bool) -> None:
        """Take what a beat saw into account.

        :param ending: whether pauses are over whose rows may still be parked.
        """
        if paused != self.paused:
            self._park_at = 0.0
        self.paused = paused
        self._ending = ending

    async def turn(self) -> bool:
        """Park and bring back rows; return whether there may be more to do."""
        now = time.monotonic()
        full = False
        trouble = self._parking
        try:
            if self.paused and now >= self._park_at:
                self._park_at = now + AGAIN_SECONDS
                parked = await self._move(store.park(self._queue_name))
                # Fewer than were looked at are enough: others may have locked a few.
                full = parked > store.PARKED_AT_ONCE // 2
                self._park_at = 0.0 if full else now + LOOK_EVERY_SECONDS
                trouble.end()
            trouble = self._unparking
            if self._ending and now >= self._unpark_at:
                self._unpark_at = now + AGAIN_SECONDS
                self._ending = await self._move(store.unpark(self._queue_name)) > 0
                if not self._ending:
                    await self._connection.execute(store.end_pauses())
                self._unpark_at = 0.0
                trouble.end()
        except psycopg.Error as error:
            if whose(error) is Blame.CONNECTION:
                self._park_at = self._unpark_at = 0.0
                raise
            if is_nobodys(error):
                trouble.meet(error)
            else:
                logs.queues.not_parked(error)
        return full or (self._ending and not self._unpark_at)

    async def _move(self, statement: Statement) -> int:
        ((moved,),) = await self._connection.execute(statement)
        return int(moved)
