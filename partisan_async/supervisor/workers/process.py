"""One worker process from its start to its end: its state, and the tasks in it.

The *feed* carries tasks to the process; on the *link* it reports what becomes of them. The *life*
has its state, the *load* its tasks.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator, Sequence

from partisan_async import logs
from partisan_async.claim import Claim
from partisan_async.supervisor.workers.ending import how_it_ended, wait_for_exit
from partisan_async.supervisor.workers.feed import Feed
from partisan_async.supervisor.workers.launch import Launch
from partisan_async.supervisor.workers.life import Life
from partisan_async.supervisor.workers.link import Link
from partisan_async.supervisor.workers.listener import Listener
from partisan_async.supervisor.workers.load import Load, Run
from partisan_async.supervisor.workers.loss import tell_of_loss
from partisan_async.supervisor.workers.state import ENDS_IDLE, TAKES_TASKS, State
from partisan_async.supervisor.workers.time_limits import TimeLimits
from partisan_async.worker import wire
from partisan_async.worker.setup import Setup


class WorkerProcess:
    """One process."""

    def __init__(self, limit: float, setup: Setup, listener: Listener) -> None:
        self.life = Life()
        self.load = Load(limit)
        self.worker_id = ""
        """Name of the process on task rows."""
        self._listener = listener
        self._launch = Launch(setup)
        self._feed = Feed(self.life.end)
        self.link = Link(self, self.load.runs)
        self._time_limits = TimeLimits(self._on_overrun)
        self._exiting: asyncio.Future[int | None] | None = None

    @property
    def is_empty(self) -> bool:
        """True if the process takes tasks and has none."""
        return self.life.state in TAKES_TASKS and not self.load.runs

    @property
    def pid(self) -> int | None:
        """The process id; ``None`` until the process exists."""
        return None if self._launch.child is None else self._launch.child.pid

    # Start

    async def start(self) -> None:
        """Start the process and wait for its hello.

        :raises WorkerStartError: it reports that it cannot start, or does not report in time.
        :raises WorkerVanishedError: it ended before it reported, or could not be created.
        """
        self._loop = asyncio.get_running_loop()
        try:
            await self._launch.run(self._feed, self.link)
        except BaseException:
            await self.close()
            raise
        self.worker_id = f"{socket.gethostname()}/{self.pid}"
        self.life.become(State.READY)

    # Tasks

    def dispatch(
        self, claims: Sequence[Claim], now: float, *, is_async: bool, alone: bool, short: bool
    ) -> None:
        """Send tasks to the process; parameters as in ``Load.add``."""
        load = self.load
        batch = load.add(claims, now, is_async=is_async, alone=alone, short=short)
        self._feed.write(wire.pack(batch))
        if load.remaining <= 0:
            self.life.become(State.SPENT)

    def ask_back(self) -> None:
        """Ask the process to hand back unstarted tasks; the answer comes by the link."""
        if self.load.has_unstarted and self.link.ask_back(self.load.last_ticket):
            self.load.asked_back = True

    def on_frames(self, frames: Iterator[wire.Frame]) -> None:
        """Handle what the process reports about its tasks."""
        load, now = self.load, self._loop.time()
        freed = False
        for frame in frames:
            match frame:
                case wire.Done():
                    ticket, microseconds, overran, outcome = frame
                    run = load.end(ticket, now)
                    if run.limit is not None:
                        self._time_limits.forget(run)
                    if overran:
                        # A timed-out run may leave locks or threads behind: replace the process
                        # once it is idle.
                        self.life.become(State.TO_REPLACE)
                    seconds = microseconds / 1e6
                    self._listener.on_ended(run.claim, outcome, seconds, self.worker_id)
                    freed = True
                case wire.Started():
                    ticket, limit = frame
                    run = load.start(ticket, limit, now)
                    if limit is not None:
                        self._time_limits.watch(run, limit)
                case wire.Revoked(after, upto):
                    runs = load.take_back(after, upto, now)
                    for run in runs:
                        self._time_limits.forget(run)
                    self._listener.on_returned([run.claim for run in runs])
                    freed = True
                case wire.Hello():
                    self.link.greet(frame)
        if not load.runs and self.life.state in ENDS_IDLE:
            self.life.note_idle()
        if freed:
            self._listener.on_capacity()

    def on_end(self) -> None:
        """Handle the end of the link."""
        self.life.end()

    def on_garbage(self) -> None:
        """Kill the process: a task wrote to its link, so later frames cannot be trusted."""
        logs.workers.link_garbled(self.pid)
        self.life.become(State.GARBLED)
        self._signal(signal.SIGKILL)

    def _on_overrun(self, run: Run) -> None:
        logs.tasks.overran(run.claim, run.limit)
        self.kill()

    # End

    def kill(self) -> None:
        """Kill the process. No task in it is blamed, except one that overran its time limit."""
        self.life.become(State.KILLED)
        if self._signal(signal.SIGKILL) and self.life.state is State.DIED:
            # Only its feed or link had ended: the process was alive until this kill.
            self.life.become(State.ENDED)

    async def conclude(self) -> None:
        """After its death: find out why it died, and report all its runs."""
        self._listener.on_death(killed=self.life.state is State.ENDED)
        await self.link.wait_for_end()
        was_killed = self.life.state is State.ENDED
        innocent = was_killed or (self._signal(0) and not self.link.ended.is_set())
        # A task may have closed the feed or the link, while the process is alive.
        self._signal(signal.SIGKILL)
        await self.link.wait_for_end()
        how = how_it_ended(await self._shut_down())
        reason = f"Worker process {self.pid} {how} while it ran this task and no other."
        self._give_up_runs(innocent=innocent, reason=reason)

    async def close(self) -> None:
        """End the process: in order if it is idle, else with SIGKILL."""
        if self._launch.child is None:
            # Closed during the start: start() ends the process, if it is still created.
            self._hang_up()
            await self._launch.finish()
            return
        if self.load.runs or not self.worker_id:  # no hello yet: it may be busy for long
            self.kill()
        await self._shut_down()
        self._give_up_runs(innocent=True, reason="")

    async def _shut_down(self) -> int | None:
        """Tell the process to end; return its exit code."""
        assert self._launch.child is not None
        self._feed.close(in_order=self.life.become(State.CLOSING))
        # Once: close() may be called twice. The link stays open until the process has ended.
        if self._exiting is None:
            self._exiting = asyncio.ensure_future(wait_for_exit(self._launch.child))
        code = await asyncio.shield(self._exiting)
        self._hang_up()
        return code

    def _hang_up(self) -> None:
        self._feed.hang_up()
        self.link.hang_up()

    def _give_up_runs(self, *, innocent: bool, reason: str) -> None:
        self._time_limits.end()
        tell_of_loss(
            *(self.load, self._listener, self.worker_id),
            overran=self._time_limits.overran,
            innocent=innocent,
            reason=reason,
        )
        self._listener.on_capacity()
        self.life.empty.set()

    def _signal(self, number: int) -> bool:
        return self._launch.child is not None and self._launch.child.signal(number)
