"""One worker process from its start to its end: its state, and the tasks in it.

Tasks go to it by the *feed*; by the *link* it tells what becomes of them. Its *state* says how far
it is in its life, its *load* what is in it.
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
        """What names it on the rows."""
        self._listener = listener
        self._launch = Launch(setup)
        self._feed = Feed(self.life.end)
        self._link = Link(self, self.load.runs)
        self._time_limits = TimeLimits(self._on_overrun)
        self._exiting: asyncio.Future[int | None] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it takes tasks and has none."""
        return self.life.state in TAKES_TASKS and not self.load.runs

    @property
    def pid(self) -> int | None:
        """The process's, once it has one."""
        return None if self._launch.child is None else self._launch.child.pid

    # Start

    async def start(self) -> None:
        """Start the process and wait for its hello.

        :raises WorkerStartError: it says that it could not start.
        :raises WorkerVanishedError: it ended before it said anything, or could not be made.
        """
        self._loop = asyncio.get_running_loop()
        try:
            await self._launch.run(self._feed, self._link)
        except BaseException:
            await self.close()
            raise
        self.worker_id = f"{socket.gethostname()}/{self.pid}"
        self.life.become(State.READY)

    # Tasks

    def dispatch(
        self, claims: Sequence[Claim], now: float, *, is_async: bool, alone: bool, short: bool
    ) -> None:
        """Send these tasks to it."""
        load = self.load
        batch = load.add(claims, now, is_async=is_async, alone=alone, short=short)
        self._feed.write(wire.pack(batch))
        if load.remaining <= 0:
            self.life.become(State.SPENT)

    def ask_back(self) -> None:
        """Ask for the tasks that it has not started; the answer comes by the link."""
        if self.load.has_unstarted and self._link.ask_back(self.load.last_ticket):
            self.load.asked_back = True

    def on_frames(self, frames: Iterator[wire.Frame]) -> None:
        """It tells what became of tasks."""
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
                        # What cut the run short may have left locks and threads behind.
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
                    self._link.greet(frame)
        if not load.runs and self.life.state in ENDS_IDLE:
            self.life.note_idle()
        if freed:
            self._listener.on_capacity()

    def on_end(self) -> None:
        """Its link has ended."""
        self.life.end()

    def on_garbage(self) -> None:
        """A task wrote to its link: it is not to be understood any more."""
        logs.workers.link_garbled(self.pid)
        self.life.become(State.GARBLED)
        self._signal(signal.SIGKILL)

    def _on_overrun(self, run: Run) -> None:
        logs.tasks.overran(run.claim, run.limit)
        self.kill()

    # End

    def kill(self) -> None:
        """End it with SIGKILL: of the tasks in it only one that overran its time is blamed."""
        self.life.become(State.KILLED)
        if self._signal(signal.SIGKILL) and self.life.state is State.DIED:
            # Its feed alone had ended, or its link: it lived on until now.
            self.life.become(State.ENDED)

    async def conclude(self) -> None:
        """After its death: find out why, and hand back what was in it."""
        self._listener.on_death(killed=self.life.state is State.ENDED)
        await self._link.wait_for_end()
        was_killed = self.life.state is State.ENDED
        innocent = was_killed or (self._signal(0) and not self._link.ended.is_set())
        # A task may have closed the link, and its process lives on.
        self._signal(signal.SIGKILL)
        await self._link.wait_for_end()
        how = how_it_ended(await self._shut_down())
        reason = f"Worker process {self.pid} {how} while it ran this task and no other."
        self._give_up_runs(innocent=innocent, reason=reason)

    async def close(self) -> None:
        """End it: at once if it is idle, else by SIGKILL."""
        if self._launch.child is None:
            # It is closed while it starts: start() ends the process that may still come.
            self._hang_up()
            await self._launch.finish()
            return
        if self.load.runs or not self.worker_id:  # it has not said hello, and may be far from it
            self.kill()
        await self._shut_down()
        self._give_up_runs(innocent=True, reason="")

    async def _shut_down(self) -> int | None:
        """Have the process end; return its exit code."""
        assert self._launch.child is not None
        self._feed.close(in_order=self.life.become(State.CLOSING))
        # It may be closed twice. Its link stays until it has ended.
        if self._exiting is None:
            self._exiting = asyncio.ensure_future(wait_for_exit(self._launch.child))
        code = await asyncio.shield(self._exiting)
        self._hang_up()
        return code

    def _hang_up(self) -> None:
        self._feed.hang_up()
        self._link.hang_up()

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
