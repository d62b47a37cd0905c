"""The *settler*: writes what became of claims, in batches, until the database has answered.

Nothing delays a batch: rows that another transaction has locked are left out and tried again later;
an outcome that the database refuses is tried again, or given up, by itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from uuid import UUID

import psycopg

from partisan_async import logs, store
from partisan_async.claim import Attempt, Claim, Settlement
from partisan_async.policy import Finished, PutUnder
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.refused import MOST
from partisan_async.supervisor.unwritten import Timed, Unwritten
from partisan_async.supervisor.writer import Writer


class Settler:
    """Writes settlements, one statement after the other.

    :param delete_finished: whether the rows of tasks that finished are deleted.
    :param on_settled: called after each batch with the settlements that were written.
    :param on_room: called when tasks may be run again; see ``has_room``.
    """

    def __init__(
        self,
        me: UUID,
        connection: Connection,
        *,
        delete_finished: bool,
        on_settled: Callable[[list[Settlement]], None],
        on_room: Callable[[], None],
    ) -> None:
        self.all_settled = asyncio.Event()
        self.all_settled.set()
        self._connection = connection
        self._writer = Writer(me, connection, delete_finished=delete_finished)
        self._unwritten = Unwritten(me, self._writer, connection.role)
        self._on_settled = [on_settled]
        self._on_room = on_room
        self._had_room = True
        self._tried_again = 0
        self._waiting: list[Timed] = []
        self._writing: list[Timed] = []
        self._more = asyncio.Event()

    def add(self, settlement: Settlement) -> None:
        """Take a settlement to write."""
        self._waiting.append((settlement, time.monotonic()))
        self.all_settled.clear()
        self._more.set()

    def tell_also(self, on_settled: Callable[[list[Settlement]], None]) -> None:
        """Have another one called after each batch, too."""
        self._on_settled.append(on_settled)

    def claims(self) -> list[Claim]:
        """Return the claims that are not written yet."""
        new = (*self._writing, *self._waiting)
        return [*(settlement.claim for settlement, _ in new), *self._unwritten.claims()]

    def has_room(self) -> bool:
        """Tell whether more tasks may be run: not while too many outcomes are refused.

        After an answer of ``False``, ``on_room`` is called when they may.
        """
        refused = self._unwritten.refused.waiting + max(self._tried_again, len(self._writer.failed))
        self._had_room = refused < MOST
        return self._had_room

    @property
    def fenced(self) -> int:
        """Number of outcomes that were dropped because the claims are not ours any more."""
        return self._unwritten.fenced

    @property
    def retries(self) -> int:
        """Number of times a statement had to be sent again."""
        return self._writer.retries

    def left(self) -> set[int]:
        """Return the ids of rows whose outcomes were refused for good: they stay in process."""
        return self._unwritten.refused.left()

    def disown(self, foreign: set[tuple[int, int]]) -> None:
        """Forget refused outcomes whose claims are another supervisor's by now."""
        self._unwritten.refused.drop(foreign)
        self._tell_of_room()

    async def keep(self) -> None:
        """Write until cancelled."""
        unwritten = self._unwritten
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._more.wait(), unwritten.patience())
            # What comes while one statement is under way makes the next batch; a lone one waits
            # for nothing.
            self._more.clear()
            if self._waiting:
                self._writing, self._waiting = self._waiting, []
                await self._settle()
            if unwritten.locked and (locked := unwritten.take_locked()):
                self._writing = locked
                await self._settle(gently=True)
                unwritten.put_locked_off()
            if unwritten.refused.waiting and (due := unwritten.refused.take_due()):
                # They are refused until they are written: nothing is to be run meanwhile.
                self._writing, self._tried_again = due, len(due)
                await self._settle(gently=True)
            if not (self._waiting or unwritten):
                self.all_settled.set()

    async def _settle(self, *, gently: bool = False) -> None:
        now = time.monotonic()
        kept: list[Settlement] = []
        deleted: list[Settlement] = []
        limited: list[Settlement] = []
        written: set[int] = set()
        for settlement, since in self._writing:
            each = _aged(settlement, now - since)
            if isinstance(each.decision, Finished) and each.decision.settled:
                written.add(each.claim.id)
            elif isinstance(each.decision, PutUnder):
                limited.append(each)
            elif self._writer.deletes(each):
                deleted.append(each)
            else:
                kept.append(each)
        await self._writer.pause_keys(kept)
        written |= await self._writer.write(store.settle, kept, gently=gently)
        written |= await self._writer.write(store.delete_finished, deleted, gently=gently)
        written |= await self._writer.write(store.put_under_limits, limited, gently=gently)
        refused = self._unwritten.put_failed(self._writing) if self._writer.failed else set()
        self._tried_again = 0
        if len(written) + len(refused) < len(self._writing):
            others = [each for each in self._writing if each[0].claim.id not in written | refused]
            written |= await self._unwritten.find_out_about(others, warn=not gently)
        settled = [each for each, _ in self._writing if each.claim.id in written]
        self._writing = []
        self._unwritten.note_written(settled)
        for tell in self._on_settled:
            tell(settled)
        self._tell_of_room()
        await self._announce([each.claim.id for each in settled if each.stores_result])
        if self._writer.told:
            await self._wake()

    async def _wake(self) -> None:
        told, self._writer.told = self._writer.told, []
        queues = set()
        limited: dict[str, list[int]] = {}
        for claim, call, pk in told:
            logs.tasks.told(claim, pk, call.processor_class)
            if call.limit_name is None:
                queues.add(call.queue_name)
            else:
                limited.setdefault(call.queue_name, []).append(pk)
        try:
            if queues:
                await self._connection.execute(store.wake(sorted(queues)))
            if limited:
                await self._connection.execute(store.tell_limited(limited))
        except psycopg.Error as error:
            # Their supervisors find the rows by their next beats.
            logs.outcomes.not_woken(len(told), error)

    def _tell_of_room(self) -> None:
        if not self._had_room and self.has_room():
            self._on_room()

    async def _announce(self, ids: Sequence[int]) -> None:
        # Also for tasks that wait again: whoever waits for an end looks, and goes on waiting.
        if ids:
            try:
                await self._connection.execute(store.announce(ids))
            except psycopg.Error as error:
                # Those who wait look again by themselves.
                logs.outcomes.not_announced(len(ids), error)


def _aged(settlement: Settlement, seconds: float) -> Settlement:
    """Return a settlement whose start is this much longer ago: the time since its run was over."""
    claim, decision, attempt, stores_result, on_error = settlement
    if attempt is None:
        return settlement
    attempt = Attempt(attempt[0] + seconds, attempt[1])
    return Settlement(claim, decision, attempt, stores_result, on_error)
