"""One worker process: its feed and its link, and the runs in it.

Tasks go by the *feed*, a socket; by the *link*, another one, the process tells what becomes of
them.

Words: a *run* is one claim in one process: *open* until it is done, *started* once the process said
so. A process *dies* when its link or its feed ends; it is *spent* when it was sent all the tasks
that it may run.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, cast

from partisan_async import logs
from partisan_async.claim import Claim
from partisan_async.policy import Died, Outcome, Overran
from partisan_async.supervisor.workers import forkserver
from partisan_async.supervisor.workers.child import Child
from partisan_async.worker import ending, wire, worker

HELLO_SECONDS = 60
"""A worker that has not said hello by then is given up."""

BIRTH_SECONDS = 2.0
"""Whoever stops waits so long for a worker that is being started."""

NAMED = 10
"""So many of the tasks in a process are told of."""

EXIT_SECONDS = ending.SECONDS + 2
"""An idle worker that has not ended by then is killed."""

TIMEOUT_GRACE_SECONDS = 5.0
"""So long a task may take to heed its time limit, before its worker is killed."""

DEAF_SECONDS = 1.0
"""So long an event loop that is blocked is spared more tasks, before it is tried again."""

STALE_SECONDS = 0.1
"""Within this, what a worker had sent while the supervisor was held up has been read."""


_OF_A_RUN = (wire.Started, wire.Done)


class WorkerStartError(RuntimeError):
    """A worker process could not be started; the message says why."""


class WorkerVanishedError(WorkerStartError):
    """A worker process ended while it started, and did not say why: the next one may do better."""


class Listener(Protocol):
    """Who is told what happens in the pool."""

    def on_ended(self, claim: Claim, outcome: Outcome, seconds: float, worker_id: str) -> None:
        """A run is over, or was ended by its process's death."""

    def on_returned(self, claims: Sequence[Claim]) -> None:
        """These never started, and are the supervisor's to start again."""

    def on_interrupted(self, claim: Claim, seconds: float, worker_id: str) -> None:
        """It was killed while it ran, through no doing of its own."""

    def on_capacity(self) -> None:
        """A worker can take more than a moment ago."""

    def on_death(self, *, killed: bool) -> None:
        """A worker process ended: by the supervisor's own hand, or nobody had told it to."""


@dataclass(slots=True, eq=False)
class Run:
    """One claim in one process."""

    claim: Claim
    is_async: bool
    started_at: float | None = None
    limit: float | None = None
    overrun: asyncio.TimerHandle | None = None


class WorkerProcess(asyncio.Protocol):
    """One process; as a protocol it is the supervisor's end of the link."""

    def __init__(self, limit: float, setup: worker.Setup, listener: Listener) -> None:
        self.remaining = limit
        self.runs: dict[int, Run] = {}
        self.open_sync = 0
        self.open_async = 0
        self.runs_short_ones = False
        """All its open sync tasks were sent as short ones."""
        self.is_asked_back = False
        """It has not answered yet which of its tasks will not start."""
        self.busy_since: float | None = None
        self.loop_waited_for_since: float | None = None
        """It has async tasks to start, and started none since."""
        self.deaf_until = 0.0
        """Its event loop is blocked: it takes no async tasks until then."""
        self.over = asyncio.Event()
        """It died or is spent."""
        self.empty = asyncio.Event()
        """It died, or is spent and all its tasks are done."""
        self.died = False
        self.spent = False
        """It was sent all the tasks that it may run."""
        self.worker_id = ""
        """What names it on the rows."""
        self._setup = setup
        self._listener = listener
        self._exclusive = False
        self._ticket = 0
        self._unstarted_async = 0
        self._decoder = wire.Decoder()
        self._transport: asyncio.Transport | None = None
        self._feed: asyncio.Transport | None = None
        self._hello: asyncio.Future[wire.Hello] | None = None
        self._link_ended = asyncio.Event()
        self._birth: asyncio.Future[Child] | None = None
        self._child: Child | None = None
        self._exit_code: int | None = None
        self._ending: asyncio.Future[int | None] | None = None
        self._ready = False
        self._killed = False
        self._overran: Run | None = None
        self._garbled = False
        self._worn = False

    # Life

    async def start(self) -> None:
        """Start the process and wait for its hello.

        :raises WorkerStartError: it says that it could not start.
        :raises WorkerVanishedError: it ended before it said anything.
        """
        self._loop = asyncio.get_running_loop()
        try:
            hello = await self._launch()
        except OSError as error:  # it may be a limit of the system's, too, such as of open files
            await self.close()
            raise WorkerVanishedError(f"A worker process could not be started: {error}.") from error
        except BaseException:
            await self.close()
            raise
        if hello.note:
            forkserver.warn_once(hello.note)
        self._ready = True

    async def _launch(self) -> wire.Hello:
        self._hello = self._loop.create_future()
        _, their_link = await self._connect(self)
        with their_link:
            self._feed, their_feed = await self._connect(_Feed(self._die))
            self._feed.pause_reading()  # whatever a task may write there
            with their_feed:
                self._child = await self._start_child(their_feed, their_link)
        self.worker_id = f"{socket.gethostname()}/{self.pid}"
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                hello = await self._hello
        except TimeoutError:
            raise WorkerStartError(
                f"A worker process did not report within {HELLO_SECONDS} s of its start."
            ) from None
        if hello.trouble:
            raise WorkerStartError(f"A worker process could not start: {hello.trouble}")
        if self._link_ended.is_set():
            raise WorkerVanishedError("A worker process ended before it reported.")
        return hello

    async def _connect(self, protocol: asyncio.Protocol) -> tuple[asyncio.Transport, socket.socket]:
        ours, theirs = socket.socketpair()
        try:
            transport, _ = await self._loop.create_connection(lambda: protocol, sock=ours)
        except BaseException:
            theirs.close()
            raise
        return transport, theirs

    async def _start_child(self, feed: socket.socket, link: socket.socket) -> Child:
        # A fork takes 10 ms, and the first of all several hundred.
        self._birth = starting = self._loop.run_in_executor(
            None, forkserver.start_worker, feed, link, self._setup
        )
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # The thread goes on: wait for the process, so that close() can end it.
            await self._hurry_birth()
            with suppress(Exception):
                self._child = await starting
            raise

    async def _hurry_birth(self) -> None:
        """See to it that the thread ends that starts the process, whatever the project imports."""
        if self._birth is not None:
            _, late = await asyncio.wait({self._birth}, timeout=BIRTH_SECONDS)
            if late:
                forkserver.give_up_start()

    @property
    def accepts(self) -> bool:
        """Whether tasks may be sent to it."""
        return (
            self._ready
            and not self.died
            and not self._killed
            and not self._exclusive
            and not self.spent
        )

    @property
    def up(self) -> bool:
        """Whether it has started, and not died."""
        return self._ready and not self.died

    @property
    def ran_tasks(self) -> bool:
        """Whether it was ever sent one."""
        return self._ticket > 0

    @property
    def pid(self) -> int | None:
        """The process's, once it has one."""
        return None if self._child is None else self._child.pid

    def running(self) -> dict[str, Any]:
        """Return its pid, and of the first tasks that it runs the id, processor and seconds."""
        now = self._loop.time()
        tasks = [
            {"id": run.claim.id, "processor": run.claim.processor_class, "seconds": now - started}
            for run in self.runs.values()
            if (started := run.started_at) is not None
        ]
        return {"pid": self.pid, "running": len(tasks), "tasks": tasks[:NAMED]}

    def kill(self) -> None:
        """End it with SIGKILL: of the tasks in it only one that overran its time is blamed."""
        self._killed = True
        self._signal(signal.SIGKILL)

    async def bury(self) -> None:
        """After its death: find out why, and hand back what was in it."""
        self._listener.on_death(killed=self._killed)
        await self._link_end()
        innocent = self._killed or not (self._link_ended.is_set() or self._is_gone())
        # A task may have closed the link, and its process lives on.
        self._signal(signal.SIGKILL)
        await self._link_end()
        await self._shut_down()
        self._give_up_runs(innocent=innocent, reason=self._exit_reason())

    async def close(self) -> None:
        """End it: at once if it is idle, else by SIGKILL."""
        if self._child is None:
            # It is closed while it starts: start() ends the process that may still come.
            self._hang_up()
            await self._hurry_birth()
            return
        if self.runs or not self._ready:
            self.kill()
        await self._shut_down()
        self._give_up_runs(innocent=True, reason="")

    async def _link_end(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await self._link_ended.wait()

    async def _shut_down(self) -> None:
        if self._feed is not None:
            if not (self._killed or self.died or self._feed.is_closing()):
                self._feed.write(wire.END)
            self._feed.close()
        if self._child is not None:
            # It may be closed twice. Its link stays until it has ended.
            if self._ending is None:
                self._ending = asyncio.ensure_future(self._end_of(self._child))
            self._exit_code = await asyncio.shield(self._ending)
        self._hang_up()

    async def _end_of(self, child: Child) -> int | None:
        ending = self._loop.run_in_executor(None, child.wait)
        done, _ = await asyncio.wait({ending}, timeout=EXIT_SECONDS)
        if not done:
            # It could not even end itself: a task may hold the interpreter's lock.
            child.signal(signal.SIGKILL)
            done, _ = await asyncio.wait({ending}, timeout=EXIT_SECONDS)
        if not done:
            # The forkserver is stuck. Not in the loop's threads: all may wait for its workers.
            threading.Thread(target=forkserver.stop, daemon=True).start()
        return await ending

    def _hang_up(self) -> None:
        for transport in (self._feed, self._transport):
            if transport is not None:
                transport.abort()

    def _give_up_runs(self, *, innocent: bool, reason: str) -> None:
        runs, self.runs = list(self.runs.values()), {}
        self.open_sync = self.open_async = self._unstarted_async = 0
        started = [run for run in runs if run.started_at is not None]
        unstarted = [run.claim for run in runs if run.started_at is None]
        overran = self._overran if self._overran in started else None
        alone = len(started) == 1
        for run in started:
            assert run.started_at is not None
            if run.overrun is not None:
                run.overrun.cancel()
            seconds = self._loop.time() - run.started_at
            if innocent and overran is None:
                self._listener.on_interrupted(run.claim, seconds, self.worker_id)
                continue
            # Beside others it proves nothing: one of them may have kept this one from running.
            outcome: Outcome = Died(reason, alone)
            if overran is run and alone and run.limit is not None:
                outcome = Overran(run.limit)
            self._listener.on_ended(run.claim, outcome, seconds, self.worker_id)
        self._listener.on_returned(unstarted)
        self._listener.on_capacity()
        self.empty.set()

    def _exit_reason(self) -> str:
        code = self._exit_code
        if code is None:
            how = "ended"
        elif code < 0:
            names = {number.value: number.name for number in signal.Signals}
            how = f"was killed by {names.get(-code, f'signal {-code}')}"
        else:
            how = f"exited with code {code}"
        return f"Worker process {self.pid} {how} while it ran this task and no other."

    def _is_gone(self) -> bool:
        return not self._signal(0)

    def _signal(self, number: int) -> bool:
        return self._child is not None and self._child.signal(number)

    def _retire(self) -> None:
        self.spent = True
        self.over.set()
        if not self.runs:
            self.empty.set()

    def _die(self) -> None:
        if not self.died:
            self.died = True
            self.over.set()
            self.empty.set()

    # Tasks

    @property
    def is_exclusive(self) -> bool:
        """Whether it runs a suspect."""
        return self._exclusive

    @property
    def has_unstarted(self) -> bool:
        """Whether a task waits in it."""
        waiting_sync = self.open_sync > 1 or (self.open_sync == 1 and self.busy_since is None)
        return waiting_sync or self._unstarted_async > 0

    def dispatch(
        self, claims: Sequence[Claim], *, is_async: bool, alone: bool, short: bool
    ) -> None:
        """Send these tasks to it."""
        assert self._feed is not None
        self._exclusive = alone
        self.remaining -= len(claims)
        batch = []
        for claim in claims:
            self._ticket += 1
            self.runs[self._ticket] = Run(claim, is_async)
            batch.append((self._ticket, claim))
        if is_async:
            self.open_async += len(claims)
            self._unstarted_async += len(claims)
            self.loop_waited_for_since = self.loop_waited_for_since or self._loop.time()
        else:
            self.runs_short_ones = short and (self.runs_short_ones or not self.open_sync)
            self.open_sync += len(claims)
        self._feed.write(wire.pack(batch))
        if self.remaining <= 0:
            self._retire()

    def revoke(self) -> None:
        """Ask for the tasks that it has not started; the answer comes by the link."""
        link = self._transport
        if self.has_unstarted and link is not None and not link.is_closing():
            self.is_asked_back = True
            link.write(wire.encode(wire.Revoke(self._ticket)))

    def _close_run(self, ticket: int) -> Run:
        run = self.runs.pop(ticket)
        if run.overrun is not None:
            run.overrun.cancel()
        if run.is_async:
            self.open_async -= 1
            if run.started_at is None:
                self._note_async(self._unstarted_async - 1)
        else:
            self.open_sync -= 1
        if not self.runs:
            self._exclusive = False
            if self.spent:
                self.empty.set()
        return run

    # Link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        freed = False
        for frame in self._understood(data):
            match frame:
                case wire.Done():
                    self._end_run(*frame)
                    freed = True
                case wire.Started():
                    self._note_start(*frame)
                case wire.Revoked(after, upto):
                    self.is_asked_back = False
                    self._take_back(after, upto)
                    freed = True
                case wire.Hello():
                    if self._hello is not None and not self._hello.done():
                        self._hello.set_result(frame)
        if self._worn and not self.runs:
            # What cut a run short may have left locks and threads behind. Where others come and go
            # side by side it stays: two generations of them would be in a worker's place.
            self._retire()
        if freed:
            self._listener.on_capacity()

    def _understood(self, data: bytes) -> Iterator[wire.Frame]:
        if self._garbled:
            return
        runs = self.runs
        try:
            for frame in self._decoder.feed(data):
                if isinstance(frame, _OF_A_RUN) and frame[0] not in runs:
                    raise ValueError(frame)
                yield frame
        except Exception:  # noqa: BLE001  it may be anything that JSON can say
            self._garbled = True
            logs.workers.link_garbled(self.pid)
            self._signal(signal.SIGKILL)

    def connection_lost(self, exc: Exception | None) -> None:
        self._link_ended.set()
        if self._hello is not None and not self._hello.done():
            self._hello.set_result(wire.Hello(0, None, None))
        self._die()

    def _end_run(self, ticket: int, microseconds: int, overran: bool, outcome: Outcome) -> None:
        run = self._close_run(ticket)
        self._worn = self._worn or overran
        if run.is_async:
            self.deaf_until = 0.0
        else:
            self.busy_since = None
        self._listener.on_ended(run.claim, outcome, microseconds / 1e6, self.worker_id)

    def _note_start(self, ticket: int, limit: float | None) -> None:
        run = self.runs[ticket]
        run.started_at = self._loop.time()
        if run.is_async:
            self.deaf_until = 0.0
            self._note_async(self._unstarted_async - 1)
        else:
            self.busy_since = run.started_at
        if limit is not None:
            run.limit = limit
            patience = limit + TIMEOUT_GRACE_SECONDS
            run.overrun = self._loop.call_later(patience, self._doubt, run)

    def _note_async(self, unstarted: int) -> None:
        self._unstarted_async = unstarted
        self.loop_waited_for_since = self._loop.time() if unstarted else None

    def _doubt(self, run: Run) -> None:
        # Where this process was held up its end may have been told, and is not read yet.
        run.overrun = self._loop.call_later(STALE_SECONDS, self._end, run)

    def _end(self, run: Run) -> None:
        logs.tasks.overran(run.claim, run.limit)
        self._overran = run
        self.kill()

    def _take_back(self, after: int, upto: int) -> None:
        tickets = [
            ticket
            for ticket, run in self.runs.items()
            if ticket <= upto and (run.started_at is None if run.is_async else ticket > after)
        ]
        claims = [self._close_run(ticket).claim for ticket in tickets]
        self.remaining += len(claims)
        self._listener.on_returned(claims)


class _Feed(asyncio.Protocol):
    """The supervisor's end of a feed. A write that failed has lost the tasks that were in it."""

    def __init__(self, on_lost: Callable[[], None]) -> None:
        self._on_lost = on_lost

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost()
