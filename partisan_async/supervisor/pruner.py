"""Deletes the finished rows of the supervisor's queue once they are older than it keeps them.

Those in error stay: somebody is to look at them, and may want to run them again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta

import psycopg

from partisan_async import store
from partisan_async.blame import explain
from partisan_async.models import Task
from partisan_async.supervisor.connection import Connection

logger = logging.getLogger("partisan_async")

LOOK_EVERY_SECONDS = 60.0


class Pruner:
    """Looks once a minute.

    :param keep_seconds: rows that finished so long ago are deleted; ``None``: none are.
    :param connection: for nothing else: what refers to rows may make it slow to delete them.
    """

    def __init__(self, queue_name: str, keep_seconds: float | None, connection: Connection) -> None:
        self._queue_name = queue_name
        self._keep_seconds = keep_seconds
        self._connection = connection

    async def keep(self) -> None:
        """Prune for ever, if there is anything to prune."""
        if self._keep_seconds is None:
            return
        statement = store.prune(
            timedelta(seconds=self._keep_seconds), Task.STATUS_FINISHED, self._queue_name
        )
        while True:
            try:
                await self._prune(statement)
            except psycopg.Error as error:
                logger.warning(
                    "old rows of queue %r were not deleted: %s", self._queue_name, explain(error)
                )
            await self._connection.close()
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def _prune(self, statement: store.Statement) -> None:
        total, deleted = 0, store.PRUNED_AT_ONCE
        while deleted == store.PRUNED_AT_ONCE:
            began = time.monotonic()
            deleted = len(await self._connection.execute(statement))
            total += deleted
            # Half of the time is left to those who have something to do.
            await asyncio.sleep(time.monotonic() - began)
        if total:
            logger.info("deleted %d old rows of queue %r", total, self._queue_name)
