"""The worker processes: WORKERS_COUNT slots, each of one process.

Not a ``ProcessPoolExecutor``: there, a process that is killed fails every pending future and takes
its siblings with it, in the middle of their tasks, and nobody can tell which task it was.

A *slot* is a place for a worker. It holds one process at a time, and while that one is being
replaced for its age, the old one too. A *spare* slot comes and goes for suspects, which must run
with nothing beside them: where others come and go side by side, or take hours, no worker is ever
empty.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from partisan_async import logs
from partisan_async.claim import Claim
from partisan_async.supervisor.workers.process import (
    DEAF_SECONDS,
    Listener,
    WorkerProcess,
    WorkerStartError,
    WorkerVanishedError,
)
from partisan_async.worker import worker

OVERDUE_SECONDS = 0.03
"""A task that runs for longer gives back those that wait behind it."""


class Pool:
    """The slots. It starts, feeds and replaces their processes."""

    def __init__(
        self,
        *,
        size: int,
        concurrency: int,
        tasks_per_process: int | None,
        setup: worker.Setup,
        listener: Listener,
    ) -> None:
        self._concurrency = concurrency
        self._listener = listener
        limit = math.inf if tasks_per_process is None else tasks_per_process
        self._new_slot = partial(Slot, limit, setup, listener)
        self._slots = [self._new_slot() for _ in range(size)]
        self._spare: Slot | None = None
        self._keepers: set[asyncio.Task[None]] = set()
        self._failed = asyncio.Event()
        self._balancing: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Start all processes.

        :raises WorkerStartError: one of them could not be.
        """
        await asyncio.gather(*(slot.open() for slot in self._slots))

    async def keep(self) -> None:
        """Replace processes that die or reach their count of tasks, until ``close()``."""
        for slot in self._slots:
            self._keep(slot.keep())
        await self._failed.wait()
        for keeper in self._keepers:
            if keeper.done():
                keeper.result()

    def claims(self) -> list[Claim]:
        """Return the claims that are in the processes."""
        return [run.claim for process in self._processes() for run in process.runs.values()]

    def running(self) -> list[dict[str, Any]]:
        """Return what each process runs: its pid, and of each task its id, processor and
        seconds."""
        return [process.running() for process in self._processes() if process.pid is not None]

    @property
    def up(self) -> int:
        """How many workers have started, and live."""
        return sum(1 for slot in self._slots if slot.process.up)

    @property
    def busy(self) -> int:
        """How many processes run something."""
        return sum(1 for process in self._processes() if process.runs)

    def sync_room(self, ahead: int = 0) -> int:
        """Return how many workers can be sent sync tasks.

        :param ahead: so many short tasks may still be open in one of them.
        """
        return sum(1 for slot in self._slots if slot.takes_sync(ahead))

    @property
    def async_room(self) -> int:
        """How many more async tasks the workers can take."""
        return sum(slot.async_room(self._concurrency) for slot in self._slots)

    def dispatch(self, claims: Sequence[Claim], *, is_async: bool, ahead: int = 0) -> int:
        """Send tasks of one kind to the worker with most room; return how many it took.

        A suspect is taken alone, by a worker that runs nothing else; if there is none, a spare one
        is started.

        :param ahead: as in ``sync_room``; more than 0 where these are short.
        """
        suspect = claims[0].alone
        slot: Slot | None
        room: float
        if suspect:
            # Not all slots: suspects may take long, and the others are to go on meanwhile.
            suspects = sum(1 for slot in self._slots if slot.process.is_exclusive)
            slots = self._slots if suspects < max(1, len(self._slots) - 1) else []
            spares = [] if self._spare is None else [self._spare]
            slot = next((slot for slot in [*slots, *spares] if slot.is_empty), None)
            room = 1
            # One that is being started is empty in a moment.
            busy = all(slot.process.runs for slot in slots)
            if slot is None and busy and self._spare is None:
                self._spare = self._new_slot()
                self._keep(self._spare.open_and_keep())
        elif is_async:
            rooms = {slot: slot.async_room(self._concurrency) for slot in self._slots}
            slot = max(self._slots, key=rooms.__getitem__)
            sharing = sum(1 for room in rooms.values() if room > 0) or 1
            room = min(rooms[slot], math.ceil(len(claims) / sharing))
        else:
            slots = [slot for slot in self._slots if slot.takes_sync(ahead)]
            # Beside the fewest async tasks: they share the process with it.
            slot = min(
                slots, key=lambda s: (s.process.open_sync, s.process.open_async), default=None
            )
            room = len(claims)
        if slot is None or room < 1:
            return 0
        taken = claims[: int(min(room, len(claims), slot.process.remaining))]
        slot.process.dispatch(taken, is_async=is_async, alone=suspect, short=ahead > 0)
        if is_async or len(taken) > 1:
            self._balance_later()
        return len(taken)

    def retire_spare(self) -> None:
        """End the spare worker, if there is one and it runs nothing."""
        if self._spare is not None and self._spare.is_empty:
            spare, self._spare = self._spare, None
            self._keep(spare.close())

    def revoke(self) -> None:
        """Ask all workers for the tasks that they have not started."""
        for process in self._processes():
            process.revoke()

    def kill(self, claims: Sequence[Claim]) -> None:
        """Kill the processes that run one of these; the other tasks in them are interrupted."""
        for process in self._processes():
            if any(run.claim in claims for run in process.runs.values()):
                process.kill()

    async def close(self) -> None:
        """End all processes: those that still run a task by SIGKILL."""
        if self._balancing is not None:
            self._balancing.cancel()
        await asyncio.gather(*(slot.close() for slot in self._all_slots()))
        await asyncio.gather(*self._keepers, return_exceptions=True)

    def _keep(self, coroutine: Coroutine[Any, Any, None]) -> None:
        # Not in a TaskGroup: the failure of one must not cancel another while that one finds out
        # what a dead worker had in it.
        keeper = asyncio.ensure_future(coroutine)
        self._keepers.add(keeper)
        keeper.add_done_callback(self._on_keeper_end)

    def _on_keeper_end(self, keeper: asyncio.Task[None]) -> None:
        if keeper.cancelled() or keeper.exception() is None:
            self._keepers.discard(keeper)
        else:
            self._failed.set()

    def _all_slots(self) -> list[Slot]:
        return self._slots if self._spare is None else [*self._slots, self._spare]

    def _processes(self) -> Iterator[WorkerProcess]:
        for slot in self._all_slots():
            yield from slot.processes

    def _balance_later(self, seconds: float = OVERDUE_SECONDS) -> None:
        if self._balancing is None:
            loop = asyncio.get_running_loop()
            self._balancing = loop.call_later(seconds, self._balance)

    def _balance(self) -> None:
        self._balancing = None
        now = asyncio.get_running_loop().time()
        waiting = [process for process in self._processes() if process.has_unstarted]
        for process in waiting:
            if process.open_sync > 1 and _is_overdue(process.busy_since, now):
                process.revoke()
            if process.deaf_until < now and _is_overdue(process.loop_waited_for_since, now):
                process.deaf_until = now + DEAF_SECONDS
                process.revoke()
                asyncio.get_running_loop().call_later(DEAF_SECONDS, self._listener.on_capacity)
        if waiting:
            # A fraction of it: what began just after this look is not to wait for the next but one.
            self._balance_later(OVERDUE_SECONDS / 4)


def _is_overdue(since: float | None, now: float) -> bool:
    return since is not None and now - since >= OVERDUE_SECONDS


class Slot:
    """One place for a worker process, and the processes that take it one after the other."""

    def __init__(self, limit: float, setup: worker.Setup, listener: Listener) -> None:
        self._limit = limit
        self._setup = setup
        self._listener = listener
        self.process = WorkerProcess(limit, setup, listener)
        self._starting = self.process
        self._retired: WorkerProcess | None = None
        self._retiring: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()
        self._is_patient = False
        """What cannot be started is tried again without end: others are at work meanwhile."""

    @property
    def processes(self) -> list[WorkerProcess]:
        """The process, and the one that it takes over from."""
        return [self.process] if self._retired is None else [self._retired, self.process]

    @property
    def is_empty(self) -> bool:
        """Whether its process is up and runs nothing."""
        return self.process.accepts and not self.process.runs

    def takes_sync(self, ahead: int = 0) -> bool:
        """Tell whether its process could start a sync task at once, or after so many short ones."""
        process = self.process
        if not process.open_sync:
            return process.accepts
        if process.open_sync > ahead or not process.accepts or not process.runs_short_ones:
            return False
        if process.is_asked_back:
            return False  # what is sent now would overtake what comes back
        # One that takes longer than the others keeps all from starting.
        return not _is_overdue(process.busy_since, asyncio.get_running_loop().time())

    def async_room(self, concurrency: int) -> int:
        """Return how many more async tasks its process could start at once."""
        # Behind a sync task they would wait: its thread is what takes them.
        if not self.takes_sync() or self.process.deaf_until > asyncio.get_running_loop().time():
            return 0
        return int(min(concurrency - self.process.open_async, self.process.remaining))

    async def open(self) -> None:
        """Start the process."""
        self.process = await self._start_one()
        self._is_patient = True
        self._listener.on_capacity()

    async def open_and_keep(self) -> None:
        """Start the process, and keep it."""
        self._is_patient = True
        try:
            await self.open()
        except WorkerStartError:
            if not self._closed.is_set():
                raise
        if self._closed.is_set():
            await self.close()
        await self.keep()

    async def keep(self) -> None:
        """Replace the process whenever it dies or is spent, until ``close()``."""
        pauses = _growing_pauses()
        while True:
            process = self.process
            await process.over.wait()
            if process.died and not self._closed.is_set():
                await process.bury()
                if process.ran_tasks:
                    pauses = _growing_pauses()
                else:
                    # Nothing that it ran explains its death: its successor may die at once too.
                    await self._pause(next(pauses))
            if self._closed.is_set():
                return
            try:
                if process.died:
                    await self.open()
                else:
                    await self._succeed(process)
            except WorkerStartError:
                if not self._closed.is_set():
                    raise
            if self._closed.is_set():
                await self.close()

    async def close(self) -> None:
        """End the process, by SIGKILL if it still runs a task."""
        self._closed.set()
        await asyncio.gather(*(process.close() for process in {*self.processes, self._starting}))
        self.process.over.set()

    async def _succeed(self, process: WorkerProcess) -> None:
        # At most one old generation: a successor that is spent too has to wait for it.
        if self._retiring is not None:
            await self._retiring
        successor = await self._start_one()
        self.process, self._retired = successor, process
        self._retiring = asyncio.create_task(self._retire(process))
        self._listener.on_capacity()

    async def _start_one(self) -> WorkerProcess:
        for pause in _growing_pauses():
            process = WorkerProcess(self._limit, self._setup, self._listener)
            self._starting = process
            try:
                await process.start()
            except WorkerStartError as error:
                if self._closed.is_set() or not (self._is_patient or _may_pass(error, pause)):
                    raise
                logs.workers.start_again(error)
                await self._pause(pause)
            else:
                return process
        raise AssertionError("the pauses never end")

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()

    async def _retire(self, process: WorkerProcess) -> None:
        await process.empty.wait()
        if process.died and not self._closed.is_set():
            await process.bury()
        else:
            await process.close()
        self._retired = None


def _may_pass(error: WorkerStartError, pause: float) -> bool:
    return isinstance(error, WorkerVanishedError) and pause <= 1


def _growing_pauses() -> Iterator[float]:
    """Yield 0.1 s, 0.2 s, and so on up to 5 s."""
    pause = 0.1
    while True:
        yield pause
        pause = min(2 * pause, 5.0)
