"""Deletes rows of a queue that ended too long ago for the queue's settings.

Those of finished tasks go by ``KEEP_FINISHED_SECONDS``, and those in ``error`` by
``KEEP_FAILED_SECONDS``: somebody may have to look at them first, and to run the tasks again.
Windows of ``UNIQUE``, and starts and pauses of limits, are deleted, too, when they are over, of
whatever queue: they know of none.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

import psycopg

from partisan_async import logs, store
from partisan_async.models import Task
from partisan_async.supervisor.connection import Connection

LOOK_EVERY_SECONDS = 60.0

FROM_THE_OLDEST_EVERY_SECONDS = 3600.0
"""Interval at which a look starts from the oldest row again. In between, each look goes on behind
the rows that the database refused to delete."""

NAMED = 1000
"""Maximum number of kept rows that are remembered, so that each is named once."""


_SAID = {
    store.WINDOWS: "windows of UNIQUE",
    store.STARTS: "starts under limits",
    store.PAUSES: "pauses of limits",
}


class _Old:
    """The old rows of one status, and how far they were looked through."""

    def __init__(self, status: str, keep_seconds: float) -> None:
        self.status = status
        self.older_than = timedelta(seconds=keep_seconds)
        self.behind: store.Place | None = None
        self._began = -FROM_THE_OLDEST_EVERY_SECONDS

    def begin(self) -> store.Place | None:
        """Return where a look begins."""
        if time.monotonic() - self._began > FROM_THE_OLDEST_EVERY_SECONDS:
            self.behind, self._began = None, time.monotonic()
        return self.behind


async def prune_for_ever(
    pruners: Callable[[], Sequence[Pruner]],
    connection: Connection,
    *,
    over: Callable[[], Iterable[str]],
) -> None:
    """Prune some queues once a minute, one after the other.

    :param pruners: returns those of the queues: of one that came up later, too.
    :param connection: used for nothing else: foreign keys to the rows may make deletes slow.
    :param over: returns the tables with rows that may be over: see ``store.prune_over``.
    """
    while True:
        for table in over():
            try:
                await _prune_over(table, connection)
            except psycopg.Error as error:
                logs.queues.over_not_pruned(_SAID[table], error)
        for pruner in pruners():
            await pruner.prune()
        await connection.close()
        await asyncio.sleep(LOOK_EVERY_SECONDS)


class Pruner:
    """The pruner of one queue.

    :param keep_seconds: rows that finished longer ago are deleted; ``None``: none are.
    :param keep_failed_seconds: likewise, of those that ended in ``error``.
    """

    def __init__(
        self,
        queue_name: str,
        keep_seconds: float | None,
        connection: Connection,
        *,
        keep_failed_seconds: float | None = None,
    ) -> None:
        self._queue_name = queue_name
        kept = ((Task.STATUS_FINISHED, keep_seconds), (Task.STATUS_ERROR, keep_failed_seconds))
        self._old = [_Old(status, seconds) for status, seconds in kept if seconds is not None]
        self._connection = connection
        self._named: set[int] = set()

    async def prune(self) -> None:
        """Delete what is old by now; nothing, where the settings say so."""
        try:
            for old in self._old:
                await self._prune(old)
        except psycopg.Error as error:
            logs.queues.not_pruned(self._queue_name, error)

    async def _prune(self, old: _Old) -> None:
        behind, total, more = old.begin(), 0, True
        while more:
            began = time.monotonic()
            pruning = store.Pruning(old.older_than, old.status, self._queue_name, behind=behind)
            for statement in pruning:
                with pruning.refusals():
                    pruning.answer = await self._connection.execute(statement)
            pruned = pruning.pruned
            behind, more = pruned.last, pruned.more
            total += pruned.deleted
            if pruned.kept:
                old.behind = behind
                self._tell_of(pruned.kept)
            # Leave the database half of the time for the tasks.
            await asyncio.sleep(time.monotonic() - began)
        if total:
            logs.queues.pruned(self._queue_name, total)

    def _tell_of(self, kept: dict[int, Exception]) -> None:
        news = sorted(kept.keys() - self._named)
        if not news or len(self._named) >= NAMED:
            return
        self._named.update(news[: NAMED - len(self._named)])
        logs.queues.kept(self._queue_name, news, kept[news[0]])


async def _prune_over(table: str, connection: Connection) -> None:
    more = True
    while more:
        pruned = await connection.execute(store.prune_over(table))
        more = len(pruned) == store.OVER_AT_ONCE
