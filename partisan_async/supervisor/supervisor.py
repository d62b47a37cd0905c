"""The supervisor's life: how it starts, what it waits for, and in what order it stops.

Its parts are in ``parts``: the *pulse* beats, the *wakeup* listens, the *ticker* enqueues what is
scheduled, the *claimer* claims, the *dispatcher* feeds the *pool* of workers, and the *settler*
writes the outcomes. The dispatcher, the pool or the settler keeps a claim until its row has the
outcome.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from contextlib import suppress

from partisan_async import logs
from partisan_async.logs.fields import Serving, serving
from partisan_async.settings import QueueSettings
from partisan_async.supervisor.loops import Loops
from partisan_async.supervisor.parts import assemble
from partisan_async.supervisor.shared import Shared
from partisan_async.supervisor.started import say_started

CLOSING_SECONDS = 5.0
"""Time that a database which is away has to come back, after the last run's end."""


class Supervisor:
    """Runs the tasks of one queue until it is stopped.

    :param shared: what it has in common with the other supervisors of its process.
    :param on_failure: called with the error that ends one of its parts.
    """

    def __init__(
        self,
        queue_name: str,
        settings: QueueSettings,
        shared: Shared,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self.id = uuid.uuid4()
        self.queue_name = queue_name
        self.serving = Serving(queue_name, str(self.id))
        self.parts = assemble(self.id, queue_name, settings, shared)
        self.started = self.parts.status.started
        self._settings = settings
        self._heartbeat = shared.heartbeat
        self._stop = self.parts.stop
        self._loops = Loops(on_failure)
        self._claiming: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Run until ``stop()``.

        :raises Exception: it could not start, or not write all outcomes.
        """
        serving.set(self.serving)
        try:
            await self._start()
            await self._stop.begun.wait()
            await self._drain()
        finally:
            await self._close()

    def stop(self) -> None:
        """Stop: let runs end within the grace time. A second call stops at once."""
        self._stop.stop()
        self.parts.dispatcher.progress.set()

    def drain(self) -> None:
        """Stop when all runs have ended, however long they take; ``stop()`` ends that wait."""
        self._stop.drain()

    async def _start(self) -> None:
        parts = self.parts
        self._heartbeat.join(parts.pulse)
        self._loops.keep(parts.settler.keep())
        if not await self._start_workers():
            return
        self._claiming = self._loops.keep(parts.claimer.keep())
        self._loops.keep(parts.dispatcher.pool.slots.keep())
        self._loops.keep_beside("counting for the dashboard", parts.tally.keep)
        self._loops.keep_beside("writing limits", parts.allowances.keep)
        self._loops.keep_beside("ticking schedules", parts.ticker.keep)
        self._loops.keep_beside("ticking schedules made at run time", parts.timetable.keep)
        self._loops.keep_beside("noting successes of schedules", parts.successes.keep)
        await say_started(self.queue_name, self._settings, parts.wakeup)
        self.started.set()

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
        try:
            await self._close_books()
        finally:
            await parts.endings.losses.tell_the_rest()
            await self._loops.end()
            await parts.claiming.close()
            logs.supervisor.stopped(self.queue_name)

    async def _close_books(self) -> None:
        """Write the remaining outcomes and tallies, then remove the supervisor's row.

        :raises RuntimeError: some outcomes could not be written.
        """
        parts = self.parts
        try:
            async with asyncio.timeout(CLOSING_SECONDS):
                if self._claiming is not None:
                    # Not cancelled: a claim under way would leave rows that nobody knows about.
                    await asyncio.wait({self._claiming})
                await parts.settler.all_settled.wait()
                await parts.tally.write()
                await parts.successes.write()
                await self._heartbeat.leave(parts.pulse)
        except TimeoutError:
            if left := len(parts.settler.claims()):
                raise RuntimeError(
                    f"{left} outcome(s) could not be written: the database is away, or their"
                    " rows are locked. These tasks will run again."
                ) from None
