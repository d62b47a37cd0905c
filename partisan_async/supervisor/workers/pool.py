"""The worker processes: WORKERS_COUNT *slots*, each with one process; see ``slots``.

Not a ``ProcessPoolExecutor``: if one of its processes is killed, it ends all others in the middle
of their tasks, fails every pending future, and cannot say which task was to blame.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from partisan_async.claim import Claim
from partisan_async.supervisor.workers import forkserver, placement
from partisan_async.supervisor.workers.balance import Balance
from partisan_async.supervisor.workers.launch import let_finish
from partisan_async.supervisor.workers.listener import Listener
from partisan_async.supervisor.workers.placement import Place
from partisan_async.supervisor.workers.slot import Slot
from partisan_async.supervisor.workers.slots import Slots
from partisan_async.worker.setup import Setup

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
        self.slots = Slots(partial(Slot, limit, setup, listener), sizes)
        self._balance = Balance(self.slots.processes, listener.on_capacity)

    async def start(self) -> None:
        """Start all processes.

        :raises WorkerStartError: one of them could not be started.
        """
        await self.slots.start()
        if self.slots.can_rest:
            await self._warm_up()

    async def _warm_up(self) -> None:
        """Have a server import the project: the first task would wait for that."""
        warming = asyncio.get_running_loop().run_in_executor(None, forkserver.warm_up, self._setup)
        try:
            await asyncio.shield(warming)
        except asyncio.CancelledError:
            await let_finish(warming)
            raise
        except OSError:
            pass  # the first worker needs it, and tells what keeps it from that

    async def close(self) -> None:
        """End all processes; kill those that still run a task."""
        self._balance.stop()
        await self.slots.close()

    # What is in it

    def claims(self) -> list[Claim]:
        """Return the claims that are in the processes."""
        return [
            run.claim for process in self.slots.processes() for run in process.load.runs.values()
        ]

    def pids(self) -> list[int]:
        """Return the ids of the processes."""
        return [process.pid for process in self.slots.processes() if process.pid is not None]

    def running(self) -> list[dict[str, Any]]:
        """Return, for each process, its pid, its number of running tasks, and its first ones."""
        now = asyncio.get_running_loop().time()
        running = [
            (process.pid, process.load.running(now))
            for process in self.slots.processes()
            if process.pid is not None
        ]
        return [
            {"pid": pid, "running": len(tasks), "tasks": tasks[:NAMED]} for pid, tasks in running
        ]

    @property
    def up(self) -> int:
        """Number of workers that have started and are not gone."""
        return sum(1 for slot in self.slots.usual if slot.process.life.is_up)

    @property
    def busy(self) -> int:
        """Number of processes that have a task."""
        return sum(1 for process in self.slots.processes() if process.load.runs)

    # Room

    def sync_room(self, ahead: int = 0) -> int:
        """Return the number of workers that can be sent sync tasks.

        :param ahead: maximum number of short sync tasks that such a worker may still have.
        """
        now = asyncio.get_running_loop().time()
        return sum(1 for slot in self.slots.usual if slot.takes_sync(ahead, now))

    @property
    def async_room(self) -> int:
        """Number of async tasks that the workers can be sent."""
        now = asyncio.get_running_loop().time()
        return sum(slot.async_room(self._concurrency, now) for slot in self.slots.usual)

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
            place = placement.of_async(self.slots.usual, len(claims), self._concurrency, now)
        else:
            place = placement.of_sync(self.slots.usual, len(claims), ahead, now)
        if place is None:
            return 0
        slot, room = place
        taken = claims[:room]
        slot.process.dispatch(taken, now, is_async=is_async, alone=suspect, short=ahead > 0)
        if is_async or len(taken) > 1:
            self._balance.look_later()
        return len(taken)

    def revoke(self) -> None:
        """Ask all workers to hand back the tasks that they have not started."""
        for process in self.slots.processes():
            process.ask_back()

    def tell_stopping(self) -> None:
        """Let all runs know that the supervisor is stopping."""
        for process in self.slots.processes():
            process.link.tell_stopping()

    def kill(self, claims: Sequence[Claim]) -> None:
        """Kill the processes that have one of these; the other runs in them are interrupted."""
        for process in self.slots.processes():
            if any(run.claim in claims for run in process.load.runs.values()):
                process.kill()

    def _place_of_suspect(self) -> Place | None:
        place = placement.of_suspect(self.slots.usual, self.slots.spare)
        # Wait for a worker that is being started: it will be empty.
        if place is None and self.slots.spare is None and placement.are_busy(self.slots.usual):
            self.slots.add_spare()
        return place
