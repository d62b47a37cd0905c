"""Ends a supervisor that is to run only what there is, as soon as nothing of that is left.

What runs may enqueue more, which is run, too. Rows that another transaction has locked may still
be taken by somebody, so they are waited for, but not for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import psycopg

from partisan_async import logs, store
from partisan_async.claim import Settlement
from partisan_async.policy import (
    Deferred,
    Failed,
    GivenBack,
    Interrupted,
    Postponed,
    Retried,
    Suspected,
)
from partisan_async.supervisor.agenda import Agenda
from partisan_async.supervisor.claimer import Claimer
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.dispatcher import Dispatcher
from partisan_async.supervisor.report.counts import OUTCOMES
from partisan_async.supervisor.settler import Settler
from partisan_async.supervisor.stop import Stop
from partisan_async.supervisor.ticker import Ticker
from partisan_async.supervisor.timetable import Timetable

LOOK_EVERY_SECONDS = 0.05

LOCKED_SECONDS = 10.0
"""Time that rows are waited for which are ready, and which nobody takes."""

_AGAIN = (Retried, Postponed, Suspected, Interrupted)
"""The decisions after which a task runs again by itself."""


class Once:
    """Watches one supervisor.

    :param schedules: what ticks here: what is due of them belongs to what there is.
    :param retries: wait for the tasks that run again later, too.
    """

    def __init__(
        self,
        queue_name: str,
        claimer: Claimer,
        dispatcher: Dispatcher,
        settler: Settler,
        agenda: Agenda,
        stop: Stop,
        connection: Connection,
        schedules: Sequence[Ticker | Timetable],
        *,
        retries: bool,
    ) -> None:
        self._queue_name = queue_name
        self._claimer = claimer
        self._dispatcher = dispatcher
        self._settler = settler
        self._agenda = agenda
        self._stop = stop
        self._connection = connection
        self._schedules = schedules
        self._retries = retries
        self._ends: Counter[str] = Counter()
        self._again: set[int] = set()
        self._is_over = False
        self._left = 0
        settler.tell_also(self.on_settled)

    def on_settled(self, batch: Sequence[Settlement]) -> None:
        """Take what was written of tasks."""
        for each in batch:
            kind = type(each.decision)
            if kind is GivenBack and each.attempt is None:
                continue  # it has not begun
            self._ends[OUTCOMES.get(kind, OUTCOMES[Interrupted])] += 1
            if isinstance(each.decision, _AGAIN):
                self._again.add(each.claim.id)
            else:
                self._again.discard(each.claim.id)

    async def keep(self) -> None:
        """Have the supervisor end when nothing is left."""
        while not self._dispatcher.pauses.queue:
            try:
                await self._rest()
                if not await self._is_more():
                    break
            except psycopg.Error:
                await asyncio.sleep(1)  # the claimer tells of it
        self._is_over = not self._dispatcher.pauses.queue
        self._stop.drain()

    def tell(self) -> str:
        """Log what became of the tasks; say why not all is well, empty if it is."""
        logs.supervisor.once_over(self._queue_name, self._ends)
        if self._dispatcher.pauses.queue:
            return (
                f"Queue {self._queue_name!r} is paused, so nothing of it runs; `manage.py partisan"
                f" resume {self._queue_name}` ends that."
            )
        if not self._is_over:
            return "It was stopped before all had run."
        if self._left:
            return (
                f"{self._left} task(s) of queue {self._queue_name!r} are ready, and other"
                f" transactions have held their rows for {LOCKED_SECONDS:g} s."
            )
        back = self._ends[OUTCOMES[Deferred]]
        if not self._retries:
            back += self._ends[OUTCOMES[Interrupted]]
        numbers = ((self._ends[OUTCOMES[Failed]], "failed"), (back, "had to be given back"))
        wrongs = [f"{number} task(s) {what}" for number, what in numbers if number]
        return f"{' and '.join(wrongs)}; `manage.py partisan status` shows more." * bool(wrongs)

    async def _rest(self) -> None:
        """Wait until nothing is under way."""
        # By looking: six parts have to be at rest at the same time.
        while not self._is_at_rest():  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    def _is_at_rest(self) -> bool:
        if not self._claimer.is_asleep or not self._agenda.is_clear:
            return False
        if self._dispatcher.buffered or self._dispatcher.pool.claims() or self._settler.claims():
            return False
        return all(each.has_looked for each in self._schedules)

    async def _is_more(self) -> bool:
        """Tell whether there is anything to wait for; have it looked for."""
        since = time.monotonic()
        while left := await self._claimer.left():
            if time.monotonic() - since > LOCKED_SECONDS:
                self._left = left
                return False
            self._agenda.on_notify("")
            before = self._ends.total()
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            await self._rest()
            if self._ends.total() > before:
                return True
        if self._retries and self._again:
            paused = self._dispatcher.pauses.processors
            statement = store.still_to_run(sorted(self._again), paused)
            self._again = {pk for (pk,) in await self._connection.execute(statement)}
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            return bool(self._again)
        return False
