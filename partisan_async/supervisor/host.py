"""The *host*: one process and the supervisors that it runs, each for one queue.

It owns what a process has once: what ends it, the heartbeat's loop, the listeners, the health port,
and the service manager's ear. Workers and claims are each supervisor's own, so no queue takes
another's. If one of them fails, all end in order, and the service manager starts a new process.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from partisan_async import logs, store
from partisan_async.logs.fields import serving
from partisan_async.settings import QueueSettings
from partisan_async.supervisor.heartbeat import NotAtHome
from partisan_async.supervisor.loops import Loops
from partisan_async.supervisor.once import Once
from partisan_async.supervisor.pruner import prune_for_ever
from partisan_async.supervisor.report.health import Health
from partisan_async.supervisor.report.service_manager import ServiceManager
from partisan_async.supervisor.shared import Shared
from partisan_async.supervisor.supervisor import Supervisor
from partisan_async.supervisor.unserved import Unserved
from partisan_async.supervisor.wakeup import Wakeup
from partisan_async.text.printable import plain
from partisan_async.unique import has_windows

if TYPE_CHECKING:
    from partisan_async.supervisor.report.metrics import Metrics


class Host:
    """Runs the tasks of some queues until it is stopped.

    :param queues: the settings of each, by its name.
    :param listen: whether NOTIFY wakes it; else it only polls every ``SLEEP_DELAY_SECONDS``.
    :param beat_seconds: interval of its heartbeats.
    :param ttl_seconds: time without a heartbeat after which others run its tasks.
    :param print_logs: have the workers print log lines where no logging is configured.
    :param home: the home that the database must belong to, if it has one; ``None``: any home.
    :param health: a listening socket on which to tell its health; see ``Health``.
    :param once: end as soon as nothing is left that is due; see ``Once``.
    :param retries: with ``once``, wait for the tasks that are to run again later, too.
    :param settings_of: returns the settings of a queue that comes up later, and that nobody serves:
        it is served, too. ``None``: it is only warned of.
    """

    def __init__(
        self,
        queues: Mapping[str, QueueSettings],
        *,
        listen: bool = True,
        beat_seconds: float = store.BEAT_SECONDS,
        ttl_seconds: float = store.TTL_SECONDS,
        print_logs: bool = False,
        home: str | None = None,
        health: socket.socket | None = None,
        once: bool = False,
        retries: bool = False,
        settings_of: Callable[[str], QueueSettings] | None = None,
    ) -> None:
        self.started = asyncio.Event()
        """Set when all supervisors are up."""
        self._service = ServiceManager()
        self.shared = shared = Shared(
            " ".join(queues),
            listens=listen,
            with_metrics=health is not None and find_spec("prometheus_client") is not None,
            print_logs=print_logs,
            beat_seconds=beat_seconds,
            ttl_seconds=ttl_seconds,
            home=home,
            on_beat=lambda: self._tell("WATCHDOG=1"),
        )
        self.supervisors = [
            Supervisor(name, settings, shared, self.fail) for name, settings in queues.items()
        ]
        self._settings_of = settings_of
        self._lives: dict[asyncio.Task[None], Supervisor] = {}
        self._life_over = asyncio.Event()
        self._listening: set[Wakeup] = set()
        self.metrics = self._metrics() if shared.with_metrics else None
        self._health = None if health is None else self._told_health(health)
        # With ``once`` the queues are those that are known at the start.
        on_found = None if settings_of is None or once else self._serve_too
        self._unserved = Unserved(queues, shared.beat, shared.lease, on_found)
        parts = [each.parts for each in self.supervisors]
        self.once = Once(parts, shared.beat, self.drain, retries=retries) if once else None
        self._loops = Loops(self.fail)
        self._is_ending = False
        self._failure: BaseException | None = None

    async def run(self) -> None:
        """Run until ``stop()``.

        :raises Exception: the error that ended it, unless it was asked to stop.
        """
        asyncio.get_running_loop().set_exception_handler(self._loops.on_callback_error)
        if len(self.supervisors) == 1:
            serving.set(self.supervisors[0].serving)
        try:
            await self._start()
            while self._lives:
                await self._life_over.wait()
                self._life_over.clear()
                for life in [each for each in self._lives if each.done()]:
                    self._part_with(self._lives.pop(life), life.exception())
        finally:
            for life in self._lives:
                life.cancel()
            await asyncio.gather(*self._lives, return_exceptions=True)
            await self._close()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Stop: let runs end within the grace time. A second call stops at once."""
        self._note_end()
        for each in self.supervisors:
            each.stop()

    def drain(self) -> None:
        """Stop when all runs have ended, however long they take; ``stop()`` ends that wait."""
        self._is_ending = True
        for each in self.supervisors:
            each.drain()

    def fail(self, error: BaseException) -> None:
        """End in order by an error: a process without one of its parts would be half dead.

        The service manager starts a new one.
        """
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, NotAtHome):
            logs.supervisor.not_at_home(error)
        else:
            logs.supervisor.failed(error)
        self._failure = self._failure or error
        self._note_end()
        for each in self.supervisors:
            # One error may end a part of each: none of that is a second order to stop.
            if not each.parts.stop.is_asked:
                each.stop()
            # No beats renew the lease now. If runs went on for the grace time, the lease would
            # expire, and supervisors of the database's own home would run the same tasks.
            each.parts.stop.at_once |= isinstance(error, NotAtHome)

    def hindrance(self) -> str:
        """Say why it starts no tasks of some queue; empty: it does, or could."""
        for each in self.supervisors:
            if hindrance := each.parts.status.hindrance():
                named = f"queue {plain(each.queue_name)!r}: " * (len(self.supervisors) > 1)
                return f"{named}{hindrance}"
        return ""

    async def _start(self) -> None:
        if self._health is not None:
            await self._health.open()
        for supervisor in self.supervisors:
            self._begin(supervisor)
        self._loops.keep(self.shared.heartbeat.keep())
        self._loops.keep(self._note_start())
        prune = partial(
            prune_for_ever,
            lambda: [each.parts.pruner for each in self.supervisors],
            self.shared.prune,
            over=partial(_tables_with_ends, self.supervisors),
        )
        self._loops.keep_beside("deleting old rows", prune)
        self._loops.keep_beside("looking for unserved queues", self._unserved.keep)
        look = partial(self.shared.memory.keep, self._pids_of_workers)
        self._loops.keep_beside("looking at the memory", look)
        if self.once is not None:
            self._loops.keep(self.once.keep())

    def _begin(self, supervisor: Supervisor) -> None:
        wakeup = supervisor.parts.wakeup
        if wakeup is not None and wakeup not in self._listening:
            self._listening.add(wakeup)
            self._loops.keep(wakeup.keep())
        # A task of its own: so its lines tell of its queue.
        life = asyncio.ensure_future(supervisor.run())
        self._lives[life] = supervisor
        life.add_done_callback(lambda _: self._life_over.set())

    def _serve_too(self, name: str) -> None:
        """Serve a queue that came up, and that nobody serves."""
        assert self._settings_of is not None
        if self._is_ending:
            return
        logs.queues.served_too(name)
        supervisor = Supervisor(name, self._settings_of(name), self.shared, self.fail)
        self.supervisors.append(supervisor)
        self._begin(supervisor)

    def _pids_of_workers(self) -> list[int]:
        pools = (each.parts.dispatcher.pool for each in self.supervisors)
        return [pid for pool in pools for pid in pool.pids()]

    async def _note_start(self) -> None:
        for life, each in list(self._lives.items()):
            if not await _is_up(life, each.started):
                return
        self.started.set()
        self._tell("READY=1")

    async def _close(self) -> None:
        await self._loops.end()
        await self.shared.close()
        if self._health is not None:
            self._health.close()

    def _part_with(self, supervisor: Supervisor, error: BaseException | None) -> None:
        """Go on without a supervisor that has ended; by an error all others end, too."""
        if not self._lives:
            self._failure = self._failure or error
            return
        self.supervisors.remove(supervisor)  # one that was drained hinders nobody
        if error is not None:
            self.fail(error)
        elif not self._is_ending:
            self._unserved.warn_of(supervisor.queue_name)

    def _note_end(self) -> None:
        if not self._is_ending:
            self._is_ending = True
            # First of all: from here on systemd counts the time that it allows for the stop.
            self._service.tell("STOPPING=1")

    def _tell(self, word: str) -> None:
        """Tell the service manager this, and the status."""
        words = (each.parts.status.words() for each in self.supervisors)
        self._service.tell(word, f"STATUS={'; '.join(words)}")

    def _told_health(self, listening: socket.socket) -> Health:
        return Health(
            listening,
            ailment=self.shared.heartbeat.ailment,
            hindrance=self.hindrance,
            show=None if self.metrics is None else self.metrics.show,
        )

    def _metrics(self) -> Metrics:
        # Imported here: it needs prometheus_client.
        from partisan_async.supervisor.report.metrics import Metrics

        return Metrics(
            lambda: [page for each in self.supervisors if (page := each.parts.page) is not None],
            self.shared.memory,
        )


async def _is_up(life: asyncio.Task[None], started: asyncio.Event) -> bool:
    """Wait until a supervisor has started, or has ended; return False if by an error."""
    starting = asyncio.ensure_future(started.wait())
    try:
        await asyncio.wait({life, starting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        starting.cancel()
    return not life.done() or not (life.cancelled() or life.exception())


def _tables_with_ends(supervisors: Sequence[Supervisor]) -> Iterator[str]:
    if has_windows():
        yield store.WINDOWS
    if any(each.parts.agenda.has_limits for each in supervisors):
        yield store.STARTS
        yield store.PAUSES
