"""*Promotes* rows that are due: they are ready then, or wait for their limits."""

from __future__ import annotations

import time
from functools import partial

from partisan_async import store
from partisan_async.store import Statement
from partisan_async.supervisor.agenda import Agenda
from partisan_async.supervisor.around import Around
from partisan_async.supervisor.connection import Connection


class Promoter:
    """Promotes the rows of one supervisor's queue, and notes when the next one is due."""

    def __init__(self, queue_name: str, connection: Connection, agenda: Agenda) -> None:
        self._queue_name = queue_name
        self._agenda = agenda
        self._rows = Around("make ready", connection)

    async def turn(self) -> None:
        """Promote what is due; note what that leaves to do."""
        agenda = self._agenda
        agenda.look_for_due = False
        rows = await self._rows.take(
            partial(store.promote, self._queue_name), partial(store.due, self._queue_name)
        )
        promoted = sum(count for count, *_ in rows)
        next_seconds = rows[-1][1] if rows else None
        if promoted:
            agenda.ready = True
        agenda.keys.note_own_rows(pk for *_, ids in rows for pk in ids)
        if promoted == store.PROMOTED_AT_ONCE or self._rows.went_around:
            next_seconds = 0.0
        agenda.due_at = None if next_seconds is None else time.monotonic() + next_seconds

    def due(self) -> Statement:
        """Return the query for the ids of the rows that it would promote."""
        return store.due(self._queue_name, self._rows.others())
