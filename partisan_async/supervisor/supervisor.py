"""The supervisor's life: which parts there are, how they start, and in what order they stop.

Beside it: the *lease* beats, the *wakeup* listens, the *ticker* enqueues what is scheduled, the
*claimer* claims, the *dispatcher* feeds the *pool* of workers, and the *settler* writes what became
of it all. A task that is claimed is with the dispatcher, the pool or the settler, until its row
says what became of it. *Health* and the *service manager* are told how it all fares.
"""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import datetime, timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import psycopg
from django.db import connections
from django.utils import timezone

from partisan_async import logs, registry, store
from partisan_async.claim import Settlement
from partisan_async.logs.fields import Serving, serving
from partisan_async.postgres.blame import Blame, whose
from partisan_async.settings import QueueSettings
from partisan_async.supervisor.claimer import Claimer
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.dispatcher import Dispatcher
from partisan_async.supervisor.lease import Lease, NotAtHome, Sight
from partisan_async.supervisor.pruner import Pruner
from partisan_async.supervisor.report.figures import Figures
from partisan_async.supervisor.report.health import Health
from partisan_async.supervisor.report.service_manager import ServiceManager
from partisan_async.supervisor.report.tally import Tally
from partisan_async.supervisor.settler import Settler
from partisan_async.supervisor.ticker import Ticker
from partisan_async.supervisor.wakeup import Wakeup
from partisan_async.text.farewell import farewell
from partisan_async.text.printable import plain
from partisan_async.worker import worker

if TYPE_CHECKING:
    from partisan_async.supervisor.report.metrics import Metrics


PROOF_SECONDS = 2.0
"""So long the start waits for the proof that NOTIFY works."""

UNSERVED_EVERY_SECONDS = 60.0

BESIDE_AGAIN_SECONDS = 30.0
"""After so long what is done beside the tasks, and failed, is begun anew."""

CLOSING_SECONDS = 5.0
"""After the last task's end, a database that is away is waited for so long."""


class Supervisor:
    """Runs the tasks of one queue until it is stopped.

    :param listen: woken by NOTIFY; else by polling every ``SLEEP_DELAY_SECONDS`` alone.
    :param beat_seconds: how often it gives a sign of life.
    :param ttl_seconds: after so long without one its tasks are run by others.
    :param print_logs: have the workers print log lines where no logging is configured.
    :param home: the home that the database must belong to, if any; ``None``: whichever.
    :param health: a socket that listens, to answer on how it fares; see ``Health``.
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
    ) -> None:
        self.id = uuid.uuid4()
        self.started = asyncio.Event()
        self._queue_name = queue_name
        self._settings = settings
        self._alias = store.database()
        ttl = timedelta(seconds=ttl_seconds)
        self._claims = Connection(self._alias, f"{queue_name} claim", patience=ttl, prepares=True)
        self._settles = Connection(self._alias, f"{queue_name} settle", patience=ttl, prepares=True)
        self._beats = Connection(self._alias, f"{queue_name} beat", patience=ttl / 3)
        self._prunes = Connection(self._alias, f"{queue_name} prune", patience=ttl)
        self._wakeup: Wakeup | None = None
        if listen:
            self._wakeup = Wakeup(
                self._alias,
                queue_name,
                on_wake=self._on_wake,
                on_listening=self._on_listening,
                dsn=settings.LISTEN_DSN,
            )
        self._lease = Lease(
            self.id,
            queue_name,
            self._beats,
            beat_every=timedelta(seconds=beat_seconds),
            ttl=ttl,
            probe_channel=self._wakeup.probe_channel if self._wakeup else "",
            nonce=self._wakeup.nonce if self._wakeup else lambda: None,
            known=lambda: {claim.id for claim in self._dispatcher.claims()},
            workers=lambda: self._dispatcher.pool.running(),
            stopping=lambda: self._stopping.is_set(),
            home=home,
            on_sight=self._on_sight,
            on_regained=self._on_regained,
            on_turn=self._on_turn,
        )
        self._settler = Settler(
            self.id,
            self._settles,
            delete_finished=settings.DELETE_TASKS_ON_COMPLETE,
            on_settled=self._on_settled,
            on_room=self._on_room,
        )
        self._tally = Tally(queue_name, self._beats)
        self._ticker = Ticker(self.id, queue_name, self._beats, ttl=ttl)
        with_metrics = health is not None and find_spec("prometheus_client") is not None
        figures = Figures() if with_metrics else None
        self._pruner = Pruner(queue_name, settings.KEEP_FINISHED_SECONDS, self._prunes)
        self._dispatcher = Dispatcher(
            queue_name,
            settings,
            worker.Setup(_resolved_databases(), print_logs, self.id, settings),
            self._settler,
            self._tally,
            figures,
            may_start=lambda: self._lease.held,
            on_room=self._on_room,
        )
        self._claimer = Claimer(
            self.id,
            queue_name,
            settings,
            self._claims,
            self._lease,
            self._dispatcher,
            hears=lambda: self._wakeup is not None and self._wakeup.proven.is_set(),
        )
        self._metrics = None if figures is None else self._metrics_of(figures)
        self._health: Health | None = None
        if health is not None:
            self._health = Health(
                health,
                ailment=self._ailment,
                hindrance=self._hindrance,
                show=None if self._metrics is None else self._metrics.show,
            )
        self._service = ServiceManager()
        self._loops: list[asyncio.Task[None]] = []
        self._beating: asyncio.Task[None] | None = None
        self._claiming: asyncio.Task[None] | None = None
        self._progress = asyncio.Event()
        self._stopping = asyncio.Event()
        self._stopping_at: datetime | None = None
        self._stop_asked = False
        self._at_once = False
        self._failure: BaseException | None = None

    async def run(self) -> None:
        """Run until ``stop()``.

        :raises Exception: what ended it, if it was not asked to stop; it has stopped in order.
        """
        serving.set(Serving(self._queue_name, str(self.id)))
        asyncio.get_running_loop().set_exception_handler(self._on_callback_error)
        try:
            await self._start()
            await self._stopping.wait()
            await self._drain()
        finally:
            await self._close()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Stop: let running tasks end within the grace time. Called again: at once."""
        self._at_once = self._stop_asked
        self._stop_asked = True
        # Not in drain(): from this word on systemd counts the time that it leaves for the stop.
        self._service.tell("STOPPING=1")
        self._begin_to_stop()

    def drain(self) -> None:
        """Stop when all that runs has ended, however long it takes; ``stop()`` hastens that."""
        self._begin_to_stop()

    def _begin_to_stop(self) -> None:
        if self._stopping_at is None:
            self._stopping_at = timezone.now()
            self._lease.hurry()  # for all to see: what runs may go on for long
        self._stopping.set()
        self._progress.set()

    # Start and stop

    async def _start(self) -> None:
        if self._health is not None:
            await self._health.open()
        if self._wakeup is not None:
            self._loop(self._wakeup.keep())
        self._beating = self._loop(self._lease.keep())
        self._loop(self._settler.keep())
        pool = self._dispatcher.pool
        starting = asyncio.ensure_future(pool.start())
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if self._stopping.is_set():
            starting.cancel()
            await asyncio.wait({starting})
            return
        await starting
        self._claiming = self._loop(self._claimer.keep())
        self._loop(pool.keep())
        for what, keep in (
            ("tallies are", self._tally.keep),
            ("schedules are", self._ticker.keep),
            ("old rows are", self._pruner.keep),
            ("unserved queues are", self._watch_for_unserved_queues),
        ):
            self._loop(_beside(what, keep))
        await self._say_started()
        self.started.set()
        self._service.tell("READY=1", self._status())

    async def _say_started(self) -> None:
        woken = f"by polling every {self._settings.SLEEP_DELAY_SECONDS:g} s"
        if self._wakeup is not None:
            try:
                await asyncio.wait_for(self._wakeup.proven.wait(), PROOF_SECONDS)
                woken = "by NOTIFY"
            except TimeoutError:
                woken += " until NOTIFY is proven to work"
        logs.supervisor.started(
            self._queue_name, self._settings.WORKERS_COUNT, _describe_database(self._alias), woken
        )

    async def _drain(self) -> None:
        """Give back what has not started, and wait for what runs."""
        pool = self._dispatcher.pool
        logs.supervisor.stopping(pool.claims())
        self._claimer.stop()
        self._dispatcher.close()
        grace = self._settings.SHUTDOWN_GRACE_SECONDS
        deadline: float | None = None
        with suppress(TimeoutError):
            while pool.claims() and not self._at_once:
                if self._stop_asked and deadline is None and grace is not None:
                    deadline = asyncio.get_running_loop().time() + grace
                self._progress.clear()
                async with asyncio.timeout_at(deadline):
                    await self._progress.wait()
        if left := pool.claims():
            logs.tasks.interrupted(left)

    async def _close(self) -> None:
        self._stopping.set()
        self._claimer.stop()
        self._dispatcher.close()
        await self._dispatcher.pool.close()
        try:
            async with asyncio.timeout(CLOSING_SECONDS):
                if self._claiming is not None:
                    # Not cancelled: a claim under way would leave rows that nobody knows of.
                    await asyncio.wait({self._claiming})
                await self._settler.all_settled.wait()
                await self._tally.write()
                await self._end_beats()
                await self._take_leave()
        except TimeoutError:
            left = len(self._settler.claims())
            if left:
                self._failure = self._failure or RuntimeError(
                    f"{left} outcome(s) could not be written: the database is away, or their rows"
                    " are locked. These tasks will run again."
                )
        await self._dispatcher.tell_the_rest()
        # More than once: before 3.3.9, and on Python 3.11, psycopg loses a cancel that comes with a
        # notification, as the one of this leave does.
        ending = set(self._loops)
        while ending:
            for loop in ending:
                loop.cancel()
            _, ending = await asyncio.wait(ending, timeout=1)
        await self._claims.close()
        await self._settles.close()
        await self._beats.close()
        if self._metrics is not None:
            await self._metrics.close()
        if self._health is not None:
            self._health.close()
        await self._prunes.close()
        logs.supervisor.stopped(self._queue_name)

    async def _end_beats(self) -> None:
        # Before the row is removed: a beat that comes after would write it anew, for others to find
        # that nobody is behind it.
        self._lease.end()
        if self._beating is not None:
            await asyncio.wait({self._beating})

    async def _take_leave(self) -> None:
        while True:
            try:
                await self._beats.execute(store.forget([self.id]))
                # Others may take what was given back.
                await self._beats.execute(store.notify(self._queue_name))
            except psycopg.Error as error:
                if whose(error) not in (Blame.CONNECTION, Blame.CONTENTION):
                    logs.supervisor.row_stays(error)
                    return
                await asyncio.sleep(0.1)  # a connection may have ended since it was last used
            else:
                return

    def _loop(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(coroutine)
        task.add_done_callback(self._on_loop_end)
        self._loops.append(task)
        return task

    def _on_loop_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._fail(error)

    def _on_callback_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None and ("handle" in context or "protocol" in context):
            self._fail(error)
        else:
            loop.default_exception_handler(context)

    def _fail(self, error: BaseException) -> None:
        # Never half dead: without one of its parts it stops, in order, and the service manager
        # starts a whole one.
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, NotAtHome):
            # No fault, and nothing that a traceback would tell.
            logs.supervisor.not_at_home(error)
        else:
            logs.supervisor.failed(error)
        self._failure = self._failure or error
        self.stop()
        # Without beats, a grace time would outlast the claims: who is at home would run them, too.
        self._at_once = self._at_once or isinstance(error, NotAtHome)

    # What the parts tell each other

    def _on_wake(self, status: str) -> None:
        if status == store.STEERED:
            self._lease.hurry()
            self._ticker.hurry()
        else:
            self._claimer.on_notify(status)

    def _on_listening(self) -> None:
        self._lease.hurry()

    def _on_sight(self, sight: Sight) -> None:
        self._claimer.on_sight(sight)
        if sight.draining:
            self.drain()

    def _on_regained(self) -> None:
        self._claimer.doubt()

    def _on_room(self) -> None:
        self._claimer.on_room()
        self._progress.set()

    def _on_settled(self, batch: list[Settlement]) -> None:
        self._claimer.on_settled(batch)

    def _on_turn(self) -> None:
        # Also when the database did not answer: a restart would not bring it back, and would end
        # what runs.
        self._service.tell("WATCHDOG=1", self._status())

    # What it says of itself

    def _ailment(self) -> str:
        """Say why it should be ended; empty: it need not be."""
        # Not that the database is away: to end what runs, on all hosts at once, heals nothing.
        return "" if self._lease.turns else "the heartbeat is stuck"

    def _hindrance(self) -> str:
        """Say why it starts no tasks; empty: it does, or could."""
        if self._stopping.is_set():
            ending = "stopping" if self._stop_asked else "draining"
            return farewell(ending, self._stopping_at, len(self._dispatcher.pool.claims()))
        if not self.started.is_set():
            return "starting"
        if not self._lease.held:
            return "the lease is not held: the database does not answer"
        if not self._dispatcher.pool.up:
            return "no worker process is up"
        return ""

    def _status(self) -> str:
        pool = self._dispatcher.pool
        state = self._hindrance() or "ready"
        return (
            f"STATUS=queue {plain(self._queue_name)!r}: {state};"
            f" {pool.busy} of {pool.up} workers busy"
        )

    def _metrics_of(self, figures: Figures) -> Metrics:
        from partisan_async.supervisor.report.metrics import Metrics

        wakeup = self._wakeup
        return Metrics(
            self._alias,
            self._queue_name,
            self._settings.WORKERS_COUNT,
            figures,
            self._lease,
            self._dispatcher,
            self._settler,
            proven=None if wakeup is None else wakeup.proven.is_set,
        )

    async def _watch_for_unserved_queues(self) -> None:
        """Warn, once each, of queues that nobody serves, and that tasks wait in or tick in."""
        served = {self._queue_name}
        while True:
            await asyncio.sleep(UNSERVED_EVERY_SECONDS)
            processors = registry.processors()
            names = {processor.QUEUE_NAME for processor in processors} - served
            scheduled = {each.QUEUE_NAME for each in processors if each.SCHEDULE is not None}
            statement = store.unserved(sorted(names), self._lease.ttl, sorted(scheduled))
            try:
                rows = await self._beats.execute(statement)
            except psycopg.Error as error:
                logs.queues.unserved_not_sought(error)
                continue
            for (name,) in rows:
                served.add(name)
                logs.queues.unserved(name)


async def _beside(what: str, keep: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Keep what no task waits for; whatever befalls it ends nothing else."""
    while True:
        try:
            await keep()
        except Exception as error:  # noqa: BLE001  it is logged
            logs.supervisor.side_work_failed(what, BESIDE_AGAIN_SECONDS, error)
            await asyncio.sleep(BESIDE_AGAIN_SECONDS)
        else:
            return


def _resolved_databases() -> dict[str, dict[str, Any]]:
    keys = ("NAME", "USER", "PASSWORD", "HOST", "PORT")
    return {
        alias: {key: connections[alias].settings_dict[key] for key in keys} for alias in connections
    }


def _describe_database(alias: str) -> str:
    settings = connections[alias].settings_dict
    return f"{alias!r} ({settings['NAME']} at {settings['HOST'] or 'the local socket'})"
