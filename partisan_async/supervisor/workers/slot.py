"""One place for a worker process: starts a process, and replaces it when it ends.

A slot holds one process. While a spent process finishes its tasks, it also holds the successor.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from partisan_async import logs
from partisan_async.supervisor.backoff import Backoff
from partisan_async.supervisor.workers import room
from partisan_async.supervisor.workers.launch import WorkerStartError, WorkerVanishedError
from partisan_async.supervisor.workers.listener import Listener
from partisan_async.supervisor.workers.process import WorkerProcess
from partisan_async.supervisor.workers.state import TAKES_TASKS
from partisan_async.worker.setup import Setup

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0

LAST_PAUSE_AT_START_SECONDS = 1
"""Longest pause before a vanished worker is tried again at the supervisor's start; then the start
fails."""


class Slot:
    """The processes that follow each other in one place."""

    def __init__(self, limit: float, setup: Setup, listener: Listener) -> None:
        self._limit = limit
        self._setup = setup
        self._listener = listener
        self.process = WorkerProcess(limit, setup, listener)
        self._starting = self.process
        self._retired: WorkerProcess | None = None
        self._retiring: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()
        self._is_patient = False
        """True after the first start: then starts are retried without end."""

    @property
    def processes(self) -> list[WorkerProcess]:
        """The process, and the spent one before it, if that has tasks."""
        return [self.process] if self._retired is None else [self._retired, self.process]

    def takes_sync(self, ahead: int, now: float) -> bool:
        """Tell whether its process may be sent a sync task; ``ahead``: as in ``room``."""
        process = self.process
        return process.life.state in TAKES_TASKS and room.takes_sync(process.load, ahead, now)

    def async_room(self, concurrency: int, now: float) -> int:
        """Return the number of async tasks that its process may be sent."""
        process = self.process
        if process.life.state not in TAKES_TASKS:
            return 0
        return room.async_room(process.load, concurrency, now)

    async def open(self) -> None:
        """Start the process.

        :raises WorkerStartError: it could not be started.
        """
        self.process = await self._start_one()
        self._is_patient = True
        self._listener.on_capacity()

    async def open_and_keep(self) -> None:
        """Start a spare process and keep it, as ``keep``."""
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
        """Replace the process each time it is gone or spent, until ``close()``."""
        backoff = _backoff()
        while True:
            process = self.process
            await process.life.over.wait()
            if process.life.is_gone and not self._closed.is_set():
                await process.conclude()
                if process.load.last_ticket:
                    backoff.reset()
                else:
                    # It died before it got a task, so its successor may die at once, too.
                    await self._pause(backoff.next())
            if self._closed.is_set():
                return
            try:
                if process.life.is_gone:
                    await self.open()
                else:
                    await self._succeed(process)
            except WorkerStartError:
                if not self._closed.is_set():
                    raise
            if self._closed.is_set():
                await self.close()

    async def close(self) -> None:
        """End the processes; kill those that still run a task."""
        self._closed.set()
        await asyncio.gather(*(process.close() for process in {*self.processes, self._starting}))
        self.process.life.over.set()

    async def _succeed(self, process: WorkerProcess) -> None:
        """Start the successor of a spent process."""
        # One spent process at a time: if the successor is spent, too, wait for the first.
        if self._retiring is not None:
            await self._retiring
        successor = await self._start_one()
        self.process, self._retired = successor, process
        self._retiring = asyncio.create_task(self._retire(process))
        self._listener.on_capacity()

    async def _start_one(self) -> WorkerProcess:
        backoff = _backoff()
        while True:
            process = WorkerProcess(self._limit, self._setup, self._listener)
            self._starting = process
            try:
                await process.start()
            except WorkerStartError as error:
                pause = backoff.next()
                if self._closed.is_set() or not (self._is_patient or _may_pass(error, pause)):
                    raise
                logs.workers.start_again(error)
                await self._pause(pause)
            else:
                return process

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()

    async def _retire(self, process: WorkerProcess) -> None:
        await process.life.empty.wait()
        if process.life.is_gone and not self._closed.is_set():
            await process.conclude()
        else:
            await process.close()
        self._retired = None


def _may_pass(error: WorkerStartError, pause: float) -> bool:
    return isinstance(error, WorkerVanishedError) and pause <= LAST_PAUSE_AT_START_SECONDS


def _backoff() -> Backoff:
    return Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
