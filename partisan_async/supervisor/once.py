"""Ends a process that is to run only what there is, as soon as nothing of that is left.

What runs may enqueue more, which is run, too. Rows that another transaction has locked may still
be taken by somebody, so they are waited for, but not for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import psycopg

from partisan_async import logs, store
from partisan_async.claim import Settlement
from partisan_async.policy import (
    Deferred,
    Failed,
    GivenBack,
    Interrupted,
    Postponed,
    PutUnder,
    Retried,
    Suspected,
)
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.parts import Parts
from partisan_async.supervisor.report.counts import OUTCOMES

LOOK_EVERY_SECONDS = 0.05

LOCKED_SECONDS = 10.0
"""Time that rows are waited for which are ready, and which nobody takes."""

_AGAIN = (Retried, Postponed, Suspected, Interrupted)
"""The decisions after which a task runs again by itself."""


class Once:
    """Watches the supervisors of one process.

    :param watched: their parts.
    :param on_end: called when nothing is left.
    :param retries: wait for the tasks that run again later, too.
    """

    def __init__(
        self,
        watched: Sequence[Parts],
        connection: Connection,
        on_end: Callable[[], None],
        *,
        retries: bool,
    ) -> None:
        self._watched = watched
        self._connection = connection
        self._on_end = on_end
        self._retries = retries
        self._ends: Counter[str] = Counter()
        self._again: set[int] = set()
        self._is_over = False
        self._is_cut = False
        self._locked = 0
        for each in watched:
            each.settler.tell_also(self.on_settled)

    def on_settled(self, batch: Sequence[Settlement]) -> None:
        """Take what was written of tasks."""
        for each in batch:
            kind = type(each.decision)
            if kind is PutUnder or (kind is GivenBack and each.attempt is None):
                continue  # it has not begun
            self._ends[OUTCOMES.get(kind, OUTCOMES[Interrupted])] += 1
            if isinstance(each.decision, _AGAIN):
                self._again.add(each.claim.id)
            else:
                self._again.discard(each.claim.id)

    async def keep(self) -> None:
        """Have the process end when nothing is left."""
        while not self._is_over:
            try:
                await self._rest()
                self._is_over = not await self._is_more()
            except psycopg.Error:
                await asyncio.sleep(1)  # the claimers tell of it
        self._is_cut = len(self._going) < len(self._watched)
        self._on_end()

    def tell(self) -> str:
        """Log what became of the tasks; say why not all is well, empty if it is."""
        logs.supervisor.once_over([each.status.queue_name for each in self._watched], self._ends)
        if not self._is_over or self._is_cut:
            return "It was stopped before all had run."
        return " ".join([*self._of_paused(), *self._of_locked(), *self._of_ends()])

    @property
    def _going(self) -> list[Parts]:
        """Those that nobody has told to end."""
        return [each for each in self._watched if not each.stop.begun.is_set()]

    async def _rest(self) -> None:
        """Wait until nothing is under way."""
        # By looking: six parts of each have to be at rest at the same time.
        while not all(map(_is_at_rest, self._going)):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def _is_more(self) -> bool:
        """Tell whether there is anything to wait for; have it looked for."""
        since, before = time.monotonic(), self._ends.total()
        while left := await self._left():
            if time.monotonic() - since > LOCKED_SECONDS:
                self._locked = left
                return False
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            await self._rest()
            if self._ends.total() > before:
                return True
        if self._retries and self._again:
            paused = {name for each in self._watched for name in each.dispatcher.pauses.processors}
            statement = store.still_to_run(sorted(self._again), paused)
            self._again = {pk for (pk,) in await self._connection.execute(statement)}
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            return bool(self._again)
        return False

    async def _left(self) -> int:
        """Return how many rows are ready or due, and have them looked for."""
        left = 0
        for each in self._going:
            if not each.dispatcher.pauses.queue and (found := await each.claimer.left()):
                each.agenda.on_notify("")
                left += found
        return left

    def _of_paused(self) -> Iterator[str]:
        for each in self._watched:
            if each.dispatcher.pauses.queue:
                name = each.status.queue_name
                yield (
                    f"Queue {name!r} is paused, so nothing of it runs; `manage.py partisan resume"
                    f" {name}` ends that."
                )

    def _of_locked(self) -> Iterator[str]:
        if self._locked:
            yield (
                f"{self._locked} task(s) are ready, and other transactions have held their rows"
                f" for {LOCKED_SECONDS:g} s."
            )

    def _of_ends(self) -> Iterator[str]:
        back = self._ends[OUTCOMES[Deferred]]
        if not self._retries:
            back += self._ends[OUTCOMES[Interrupted]]
        numbers = ((self._ends[OUTCOMES[Failed]], "failed"), (back, "had to be given back"))
        if wrongs := [f"{number} task(s) {what}" for number, what in numbers if number]:
            yield f"{' and '.join(wrongs)}; `manage.py partisan status` shows more."


def _is_at_rest(parts: Parts) -> bool:
    dispatcher = parts.dispatcher
    if not parts.status.started.is_set():
        return False
    if dispatcher.buffered or dispatcher.pool.claims() or parts.settler.claims():
        return False
    if not parts.claimer.is_asleep or not parts.agenda.is_clear:
        return False
    return parts.ticker.has_looked and parts.timetable.has_looked
