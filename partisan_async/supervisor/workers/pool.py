"""The worker processes: WORKERS_COUNT slots, each with one process.

Where WORKERS_COUNT says the fewest and the most, a slot is added while a task waits here and no
worker takes it, one at a time, and one is taken away that was idle for a minute.

Not a ``ProcessPoolExecutor``: if one of its processes is killed, it ends all others in the middle
of their tasks, fails every pending future, and cannot say which task was to blame.

A *spare* slot is added while a suspect finds no empty worker: a suspect must run alone, and async
tasks, or tasks that take hours, may leave no worker empty.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Iterator, Sequence
from functools import partial
from typing import Any

from partisan_async.claim import Claim
from partisan_async.supervisor.workers import forkserver, placement
from partisan_async.supervisor.workers.balance import Balance
from partisan_async.supervisor.workers.listener import Listener
from partisan_async.supervisor.workers.placement import Place
from partisan_async.supervisor.workers.process import WorkerProcess
from partisan_async.supervisor.workers.slot import Slot
from partisan_async.worker.setup import Setup

IDLE_SECONDS = 60.0
"""Time after which a worker is ended that is one more than the fewest, and had nothing to do."""

NAMED = 10
"""Maximum number of tasks that are listed for each process."""


class Pool:
    """Starts, feeds and replaces the processes of all slots.

    :param sizes: the fewest and the most slots.
    """

    def __init__(
        self,
        *,
        sizes: tuple[int, int],
        concurrency: int,
        tasks_per_process: int | None,
        setup: Setup,
        listener: Listener,
    ) -> None:
        self._concurrency = concurrency
        limit = math.inf if tasks_per_process is None else tasks_per_process
        self._setup = setup
        self._new_slot = partial(Slot, limit, setup, listener)
        self._least, self._most = sizes
        self._slots = [self._new_slot() for _ in range(self._least)]
        self._grown: Slot | None = None
        self._idle: dict[Slot, tuple[int, float]] = {}
        self._spare: Slot | None = None
        self._balance = Balance(self._processes, listener.on_capacity)
        self._keepers: set[asyncio.Task[None]] = set()
        self._failed = asyncio.Event()

    async def start(self) -> None:
        """Start all processes.

        :raises WorkerStartError: one of them could not be started.
        """
        await asyncio.gather(*(slot.open() for slot in self._slots))
        if not self._slots:
            # The first task would wait for it.
            await asyncio.get_running_loop().run_in_executor(None, forkserver.warm_up, self._setup)

    async def keep(self) -> None:
        """Replace processes that die or have run their maximum of tasks, until ``close()``."""
        for slot in self._slots:
            self._keep(slot.keep())
        await self._failed.wait()
        for keeper in self._keepers:
            if keeper.done():
                keeper.result()

    async def close(self) -> None:
        """End all processes; kill those that still run a task."""
        self._balance.stop()
        await asyncio.gather(*(slot.close() for slot in self._all_slots()))
        await asyncio.gather(*self._keepers, return_exceptions=True)

    # What is in it

    def claims(self) -> list[Claim]:
        """Return the claims that are in the processes."""
        return [run.claim for process in self._processes() for run in process.load.runs.values()]

    def running(self) -> list[dict[str, Any]]:
        """Return, for each process, its pid, its number of running tasks, and its first ones."""
        now = asyncio.get_running_loop().time()
        running = [
            (process.pid, process.load.running(now))
            for process in self._processes()
            if process.pid is not None
        ]
        return [
            {"pid": pid, "running": len(tasks), "tasks": tasks[:NAMED]} for pid, tasks in running
        ]

    @property
    def can_rest(self) -> bool:
        """Whether it may have no process at all."""
        return not self._least

    @property
    def up(self) -> int:
        """Number of workers that have started and are not gone."""
        return sum(1 for slot in self._slots if slot.process.life.is_up)

    @property
    def busy(self) -> int:
        """Number of processes that have a task."""
        return sum(1 for process in self._processes() if process.load.runs)

    # Room

    def sync_room(self, ahead: int = 0) -> int:
        """Return the number of workers that can be sent sync tasks.

        :param ahead: maximum number of short sync tasks that such a worker may still have.
        """
        now = asyncio.get_running_loop().time()
        return sum(1 for slot in self._slots if slot.takes_sync(ahead, now))

    @property
    def async_room(self) -> int:
        """Number of async tasks that the workers can be sent."""
        now = asyncio.get_running_loop().time()
        return sum(slot.async_room(self._concurrency, now) for slot in self._slots)

    @property
    def can_grow(self) -> bool:
        """Whether there may be one more worker, and none is on its way."""
        is_small = len(self._slots) < self._most
        return is_small and (self._grown is None or self._grown.process.life.is_up)

    def grow(self) -> None:
        """Start one more worker, if there may be one."""
        if self.can_grow:
            self._grown = self._new_slot()
            self._slots.append(self._grown)
            self._keep(self._grown.open_and_keep())

    def shrink(self) -> None:
        """End a worker, if there are more than the fewest and it has been idle for long."""
        if len(self._slots) <= self._least:
            return
        now = asyncio.get_running_loop().time()
        idle, self._idle = self._idle, {}
        for slot in self._slots:
            if slot.process.is_empty and len(slot.processes) == 1:
                last = slot.process.load.last_ticket
                ticket, since = idle.get(slot, (last, now))
                self._idle[slot] = (last, since if ticket == last else now)
        longest = min(self._idle, key=lambda slot: self._idle[slot][1], default=None)
        if longest is not None and now - self._idle[longest][1] >= IDLE_SECONDS:
            self._slots.remove(longest)
            self._grown = None if longest is self._grown else self._grown
            self._keep(longest.close())

    # Tasks

    def dispatch(self, claims: Sequence[Claim], *, is_async: bool, ahead: int = 0) -> int:
        """Send tasks of one kind to the worker that suits best; return how many were sent.

        A suspect goes alone to an empty worker; if every worker is busy, a spare one is started.

        :param ahead: as in ``sync_room``; more than 0 only if these tasks are short.
        """
        suspect = claims[0].alone
        now = asyncio.get_running_loop().time()
        if suspect:
            place = self._place_of_suspect()
        elif is_async:
            place = placement.of_async(self._slots, len(claims), self._concurrency, now)
        else:
            place = placement.of_sync(self._slots, len(claims), ahead, now)
        if place is None:
            return 0
        slot, room = place
        taken = claims[:room]
        slot.process.dispatch(taken, now, is_async=is_async, alone=suspect, short=ahead > 0)
        if is_async or len(taken) > 1:
            self._balance.look_later()
        return len(taken)

    def retire_spare(self) -> None:
        """End the spare worker, if there is one and it is empty."""
        if self._spare is not None and self._spare.process.is_empty:
            spare, self._spare = self._spare, None
            self._keep(spare.close())

    def revoke(self) -> None:
        """Ask all workers to hand back the tasks that they have not started."""
        for process in self._processes():
            process.ask_back()

    def tell_stopping(self) -> None:
        """Let all runs know that the supervisor is stopping."""
        for process in self._processes():
            process.link.tell_stopping()

    def kill(self, claims: Sequence[Claim]) -> None:
        """Kill the processes that have one of these; the other runs in them are interrupted."""
        for process in self._processes():
            if any(run.claim in claims for run in process.load.runs.values()):
                process.kill()

    def _place_of_suspect(self) -> Place | None:
        place = placement.of_suspect(self._slots, self._spare)
        # Wait for a worker that is being started: it will be empty.
        if place is None and self._spare is None and placement.are_busy(self._slots):
            self._spare = self._new_slot()
            self._keep(self._spare.open_and_keep())
        return place

    # Slots

    def _all_slots(self) -> list[Slot]:
        return self._slots if self._spare is None else [*self._slots, self._spare]

    def _processes(self) -> Iterator[WorkerProcess]:
        for slot in self._all_slots():
            yield from slot.processes

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
