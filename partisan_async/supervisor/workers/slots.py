"""The slots of a pool: as many as are needed, from the fewest to the most, and a *spare* one.

A slot is added while a task waits here and no worker takes it, one at a time, and one is taken away
that was idle for a minute. The spare one is added while a suspect finds no empty worker: a suspect
must run alone, and async tasks, or tasks that take hours, may leave no worker empty.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from partisan_async.supervisor.workers.process import WorkerProcess
from partisan_async.supervisor.workers.slot import Slot

IDLE_SECONDS = 60.0
"""Time after which a worker is ended that is one more than the fewest, and had nothing to do."""


class Slots:
    """The slots, and what keeps the process of each.

    :param sizes: the fewest and the most, without the spare one.
    """

    def __init__(self, new_slot: Callable[[], Slot], sizes: tuple[int, int]) -> None:
        self._new_slot = new_slot
        self._least, self._most = sizes
        self.usual = [new_slot() for _ in range(self._least)]
        """Those for all tasks."""
        self.spare: Slot | None = None
        self._grown: Slot | None = None
        self._idle: dict[Slot, tuple[int, float]] = {}
        self._keepers: set[asyncio.Task[None]] = set()
        self._failed = asyncio.Event()

    def all(self) -> list[Slot]:
        """Return all slots."""
        return self.usual if self.spare is None else [*self.usual, self.spare]

    def processes(self) -> Iterator[WorkerProcess]:
        """Yield the processes of all slots."""
        for slot in self.all():
            yield from slot.processes

    async def start(self) -> None:
        """Start the processes of the fewest.

        :raises WorkerStartError: one of them could not be started.
        """
        await asyncio.gather(*(slot.open() for slot in self.usual))

    async def keep(self) -> None:
        """Replace processes that die or have run their maximum of tasks, until ``close()``."""
        for slot in self.usual:
            self._keep(slot.keep())
        await self._failed.wait()
        for keeper in self._keepers:
            if keeper.done():
                keeper.result()

    async def close(self) -> None:
        """End all processes; kill those that still run a task."""
        await asyncio.gather(*(slot.close() for slot in self.all()))
        await asyncio.gather(*self._keepers, return_exceptions=True)

    @property
    def can_rest(self) -> bool:
        """Whether there may be no process at all."""
        return not self._least

    @property
    def can_grow(self) -> bool:
        """Whether there may be one more, and none is on its way."""
        is_small = len(self.usual) < self._most
        return is_small and (self._grown is None or self._grown.process.life.is_up)

    def grow(self) -> None:
        """Add one, if there may be one more."""
        if self.can_grow:
            self._grown = self._new_slot()
            self.usual.append(self._grown)
            self._keep(self._grown.open_and_keep())

    def shrink(self) -> None:
        """Take one away, if there are more than the fewest and it has been idle for long."""
        if len(self.usual) <= self._least:
            return
        now = asyncio.get_running_loop().time()
        idle, self._idle = self._idle, {}
        for slot in self.usual:
            if slot.process.is_empty and len(slot.processes) == 1:
                last = slot.process.load.last_ticket
                ticket, since = idle.get(slot, (last, now))
                self._idle[slot] = (last, since if ticket == last else now)
        longest = min(self._idle, key=lambda slot: self._idle[slot][1], default=None)
        if longest is not None and now - self._idle[longest][1] >= IDLE_SECONDS:
            self.usual.remove(longest)
            self._grown = None if longest is self._grown else self._grown
            self._keep(longest.close())

    def add_spare(self) -> None:
        """Add the spare one."""
        self.spare = self._new_slot()
        self._keep(self.spare.open_and_keep())

    def retire_spare(self) -> None:
        """End the spare one, if there is one and its worker is empty."""
        if self.spare is not None and self.spare.process.is_empty:
            spare, self.spare = self.spare, None
            self._keep(spare.close())

    def _keep(self, coroutine: Coroutine[Any, Any, None]) -> None:
        # Not in a TaskGroup: the failure of one keeper must not cancel another that is reporting
        # the runs of a dead worker.
        keeper = asyncio.ensure_future(coroutine)
        self._keepers.add(keeper)
        keeper.add_done_callback(self._on_keeper_end)

    def _on_keeper_end(self, keeper: asyncio.Task[None]) -> None:
        if keeper.cancelled() or keeper.exception() is None:
            self._keepers.discard(keeper)
        else:
            self._failed.set()
