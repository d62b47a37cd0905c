"""The supervisor's life: how it starts, what it waits for, and in what order it stops.

Its parts are in ``parts``: the *heartbeat* beats, the *wakeup* listens, the *ticker* enqueues what
is scheduled, the *claimer* claims, the *dispatcher* feeds the *pool* of workers, and the *settler*
writes the outcomes. The dispatcher, the pool or the settler keeps a claim until its row has the
outcome.
"""

from __future__ import annotations

import asyncio
import socket
import uuid
from contextlib import suppress

from partisan_async import logs, store
from partisan_async.logs.fields import Serving, serving
from partisan_async.settings import QueueSettings
from partisan_async.supervisor.heartbeat import NotAtHome
from partisan_async.supervisor.loops import Loops
from partisan_async.supervisor.parts import Plan, assemble
from partisan_async.supervisor.started import say_started

CLOSING_SECONDS = 5.0
"""Time that a database which is away has to come back, after the last run's end."""


class Supervisor:
    """Runs the tasks of one queue until it is stopped.

    :param listen: whether NOTIFY wakes it; else it only polls every ``SLEEP_DELAY_SECONDS``.
    :param beat_seconds: interval of its heartbeats.
    :param ttl_seconds: time without a heartbeat after which others run its tasks.
    :param print_logs: have the workers print log lines where no logging is configured.
    :param home: the home that the database must belong to, if it has one; ``None``: any home.
    :param health: a listening socket on which to tell its health; see ``Health``.
    :param once: end as soon as nothing is left that is due; see ``Once``.
    :param retries: with ``once``, wait for the tasks that are to run again later, too.
    """

    def __init__(
        self,
        queue_name: str,
        settings: QueueSettings,
        *,
        listen: bool = True,
        beat_seconds: float = store.BEAT_SECONDS,
        ttl_seconds: float = store.TTL_SECONDS,
        print_logs: bool = False,
        health: socket.socket | None = None,
        home: str | None = None,
        once: bool = False,
        retries: bool = False,
    ) -> None:
        self.id = uuid.uuid4()
        self.queue_name = queue_name
        self.parts = assemble(
            Plan(
                *(self.id, queue_name, settings, listen, beat_seconds, ttl_seconds),
                *(print_logs, health, home, once, retries),
            )
        )
        self.started = self.parts.status.started
        self._settings = settings
        self._stop = self.parts.stop
        self._loops = Loops(self._fail)
        self._beating: asyncio.Task[None] | None = None
        self._claiming: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Run until ``stop()``.

        :raises Exception: the error that ended it, unless it was asked to stop.
        """
        serving.set(Serving(self.queue_name, str(self.id)))
        asyncio.get_running_loop().set_exception_handler(self._loops.on_callback_error)
        try:
            await self._start()
            await self._stop.begun.wait()
            await self._drain()
        finally:
            await self._close()
        if self._stop.failure is not None:
            raise self._stop.failure

    def stop(self) -> None:
        """Stop: let runs end within the grace time. A second call stops at once."""
        self._stop.stop()
        self.parts.dispatcher.progress.set()

    def drain(self) -> None:
        """Stop when all runs have ended, however long they take; ``stop()`` ends that wait."""
        self._stop.drain()

    async def _start(self) -> None:
        parts = self.parts
        if parts.health is not None:
            await parts.health.open()
        if parts.wakeup is not None:
            self._loops.keep(parts.wakeup.keep())
        self._beating = self._loops.keep(parts.heartbeat.keep())
        self._loops.keep(parts.settler.keep())
        if not await self._start_workers():
            return
        self._claiming = self._loops.keep(parts.claimer.keep())
        self._loops.keep(parts.dispatcher.pool.keep())
        self._loops.keep_beside("counting for the dashboard", parts.tally.keep)
        self._loops.keep_beside("ticking schedules", parts.ticker.keep)
        self._loops.keep_beside("ticking schedules made at run time", parts.timetable.keep)
        self._loops.keep_beside("noting successes of schedules", parts.successes.keep)
        self._loops.keep_beside("deleting old rows", parts.pruner.keep)
        self._loops.keep_beside("looking for unserved queues", parts.unserved.keep)
        await say_started(self.queue_name, self._settings, parts.wakeup)
        self.started.set()
        parts.status.tell("READY=1")
        if parts.once is not None:
            self._loops.keep(parts.once.keep())

    async def _start_workers(self) -> bool:
        """Start the workers; return whether they are up: ``stop()`` may be called meanwhile."""
        starting = asyncio.ensure_future(self.parts.dispatcher.pool.start())
        stopping = asyncio.ensure_future(self._stop.begun.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if self._stop.begun.is_set():
            starting.cancel()
            await asyncio.wait({starting})
            return False
        await starting
        return True

    async def _drain(self) -> None:
        """Give back what has not started, and wait for what runs."""
        dispatcher, pool = self.parts.dispatcher, self.parts.dispatcher.pool
        logs.supervisor.stopping(pool.claims())
        self.parts.claimer.stop()
        dispatcher.close()
        grace = self._settings.SHUTDOWN_GRACE_SECONDS
        deadline: float | None = None
        is_told = False
        with suppress(TimeoutError):
            while pool.claims() and not self._stop.at_once:
                if self._stop.is_asked and not is_told:
                    is_told = True
                    pool.tell_stopping()
                    if grace is not None:
                        deadline = asyncio.get_running_loop().time() + grace
                dispatcher.progress.clear()
                async with asyncio.timeout_at(deadline):
                    await dispatcher.progress.wait()
        if left := pool.claims():
            logs.tasks.interrupted(left)

    async def _close(self) -> None:
        parts = self.parts
        self._stop.begun.set()
        parts.claimer.stop()
        parts.dispatcher.close()
        parts.endings.cuts_off = True
        await parts.dispatcher.pool.close()
        await self._close_books()
        await parts.endings.losses.tell_the_rest()
        await self._loops.end()
        await parts.connections.claim.close()
        await parts.connections.settle.close()
        await parts.connections.beat.close()
        if parts.metrics is not None:
            await parts.metrics.close()
        if parts.health is not None:
            parts.health.close()
        await parts.connections.prune.close()
        logs.supervisor.stopped(self.queue_name)

    async def _close_books(self) -> None:
        """Write the remaining outcomes and tallies, then remove the supervisor's row."""
        parts = self.parts
        try:
            async with asyncio.timeout(CLOSING_SECONDS):
                if self._claiming is not None:
                    # Not cancelled: a claim under way would leave rows that nobody knows about.
                    await asyncio.wait({self._claiming})
                await parts.settler.all_settled.wait()
                await parts.tally.write()
                await parts.successes.write()
                # End the beats before the row is removed: a later beat would insert the row again,
                # for a supervisor that is gone.
                parts.heartbeat.end()
                if self._beating is not None:
                    await asyncio.wait({self._beating})
                await parts.heartbeat.take_leave()
        except TimeoutError:
            if left := len(parts.settler.claims()):
                self._stop.fail(
                    RuntimeError(
                        f"{left} outcome(s) could not be written: the database is away, or their"
                        " rows are locked. These tasks will run again."
                    )
                )

    def _fail(self, error: BaseException) -> None:
        # A supervisor without one of its parts would be half dead. It stops in order instead, and
        # the service manager starts a new one.
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, NotAtHome):
            logs.supervisor.not_at_home(error)
        else:
            logs.supervisor.failed(error)
        self._stop.fail(error)
        self.stop()
        # No beats renew the lease now. If runs went on for the grace time, the lease would expire,
        # and supervisors of the database's own home would run the same tasks.
        self._stop.at_once = self._stop.at_once or isinstance(error, NotAtHome)
