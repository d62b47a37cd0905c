"""The supervisor's sign of life, and what it sees of the others' when it gives it.

A supervisor *holds* its lease while its last beat is younger than the TTL. Its clock is the
monotonic one, read before the beat was sent, so that it never believes to hold what the database
takes for lapsed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from partisan_async import logs, store
from partisan_async.models import readable
from partisan_async.postgres.blame import is_nobodys
from partisan_async.supervisor.backoff import Backoff
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.trouble import Trouble

logger = logging.getLogger("partisan_async")


@dataclass(frozen=True, slots=True)
class Sight:
    """What a beat saw.

    :param due_seconds: until the next scheduled row is due, negative if it is overdue.
    :param orphans: rows in process are there whose supervisor is silent.
    :param dead: supervisors of this host whose process is proven to be gone.
    :param silent: supervisors of any host that have not beaten for longer than the TTL.
    :param unknown: ids of rows that I held and did not know of when it was sent.
    :param taken: ids of rows that I believed to hold when it was sent, and did not.
    :param paused: nothing of the queue is to be started.
    :param draining: I am to start nothing more, and to end when all is done.
    :param paused_processors: nothing of these is to be started in the queue.
    :param pauses_end: the pauses of some processors are over: their rows are to be brought back.
    """

    ready: bool
    due_seconds: float | None
    orphans: bool
    dead: list[UUID] = field(default_factory=list)
    silent: list[UUID] = field(default_factory=list)
    unknown: set[int] = field(default_factory=set)
    taken: set[int] = field(default_factory=set)
    paused: bool = False
    draining: bool = False
    paused_processors: frozenset[str] = frozenset()
    pauses_end: bool = False


class NotAtHome(Exception):  # noqa: N818
    """The database belongs to another home by now: it was replaced by a copy, or adopted."""

    def __init__(self) -> None:
        super().__init__(
            "The database belongs to another home by now: it was replaced by a copy, or adopted"
            " elsewhere. `manage.py partisan doctor` says to which, and what to do."
        )


class Lease:
    """Beats every ``beat_every`` until it is ended.

    :param nonce: asked at each beat for what the listener wants to hear, ``None`` if nothing.
    :param known: asked at each beat for the ids of the rows that I know to be mine.
    :param workers: asked at each beat for what the workers run.
    :param stopping: asked at each beat whether I start nothing more, and end.
    :param home: the home that the database must belong to, if any; ``None``: whichever.
    :param on_sight: called after each beat with what it saw.
    :param on_regained: called after the first beat that follows a lapse, before ``on_sight``.
    :param on_turn: called after each beat, whether the database took it or not.
    """

    def __init__(
        self,
        me: UUID,
        queue_name: str,
        connection: Connection,
        *,
        beat_every: timedelta,
        ttl: timedelta,
        probe_channel: str,
        nonce: Callable[[], str | None],
        known: Callable[[], set[int]],
        workers: Callable[[], list[dict[str, Any]]],
        stopping: Callable[[], bool],
        home: str | None,
        on_sight: Callable[[Sight], None],
        on_regained: Callable[[], None],
        on_turn: Callable[[], None],
    ) -> None:
        self.ttl = ttl
        self._me = me
        self._queue_name = queue_name
        self._connection = connection
        self._every = beat_every.total_seconds()
        self._probe_channel = probe_channel
        self._nonce = nonce
        self._known = known
        self._workers = workers
        self._stopping = stopping
        self._home = home
        self._on_sight = on_sight
        self._on_regained = on_regained
        self._on_turn = on_turn
        self._process = identify_process()
        self._hurry = asyncio.Event()
        self._ended = False
        self._sent: float | None = None
        self._steady_since = 0.0
        self._ahead: tuple[float, float] | None = None
        self._jumped_at = -math.inf
        self._lapsed = False
        self._odd: set[str] = set()
        self._turned = time.monotonic()
        self._trouble = Trouble("beat", connection.role)

    @property
    def turns(self) -> bool:
        """Whether it goes on beating, also while no database takes the beats.

        Each attempt is over within seconds: after two TTLs without one it is stuck.
        """
        return time.monotonic() - self._turned < 2 * self.ttl.total_seconds()

    @property
    def held(self) -> bool:
        """Whether my last beat is younger than the TTL."""
        return self._sent is not None and time.monotonic() - self._sent < self.ttl.total_seconds()

    @property
    def steady(self) -> bool:
        """Whether I have beaten for a TTL without a break, and so may judge others by the clock.

        Without it, everybody would rescue everybody after an outage of the database.
        """
        return self.held and time.monotonic() - self._steady_since >= self.ttl.total_seconds()

    @property
    def trusts_clock(self) -> bool:
        """Whether the database's clock has not been set for a TTL."""
        return time.monotonic() - self._jumped_at >= self.ttl.total_seconds()

    def hurry(self) -> None:
        """Beat now."""
        self._hurry.set()

    def end(self) -> None:
        """Beat no more: ``keep()`` returns after the beat that is under way."""
        self._ended = True
        self._hurry.set()

    async def beat(self) -> None:
        """Beat once."""
        statement = store.beat(
            self._me,
            hostname=socket.gethostname(),
            process=json.dumps(self._process),
            queue_name=self._queue_name,
            ttl=self.ttl,
            probe_channel=self._probe_channel,
            nonce=self._nonce(),
            known=self._known(),
            workers=json.dumps(self._workers()),
            stopping=self._stopping(),
            home=self._home,
        )
        sent = time.monotonic()
        rows = await self._connection.execute(statement)
        if not rows:
            raise NotAtHome
        ((*seen, now),) = rows
        self._compare_clocks(now - time.monotonic(), now - sent)
        regained = self._sent is not None and not self.held
        if self._sent is None or regained:
            self._steady_since = sent
        self._sent = sent
        self._lapsed = False
        if regained:
            logger.warning("lease regained: asking which claims are still ours")
            self._on_regained()
        self._on_sight(self._see(*seen))

    def _compare_clocks(self, least: float, most: float) -> None:
        """See whether the database's clock was set: all seem silent then who have not beaten since.

        Whoever judged them by that clock would take over what they run.

        :param least, most: by how much it is ahead of mine.
        """
        before, self._ahead = self._ahead, (least, most)
        jump = 0.0 if before is None else max(0.0, least - before[1]) + min(0.0, most - before[0])
        if abs(jump) < self.ttl.total_seconds() / 2:
            return
        self._steady_since = self._jumped_at = time.monotonic()
        logger.warning(
            "the database's clock jumped by %+.0f s: nobody is judged by it for %g s",
            jump,
            self.ttl.total_seconds(),
            extra={"event": "clock jumped"},
        )

    async def keep(self) -> None:
        """Beat until ``end()``; a database that is away is waited for."""
        backoff = Backoff(0.2, self._every)
        while not self._ended:
            self._hurry.clear()
            began = time.monotonic()
            try:
                await self.beat()
                backoff.reset()
                every = self._every
                self._trouble.end()
            except psycopg.Error as error:
                every = backoff.next()
                if backoff.count == 1 or is_nobodys(error):
                    self._trouble.meet(error)
            if not self.held and not self._lapsed:
                self._lapsed = True
                logger.warning(
                    "lease lost: no beat for %g s; nothing is started until the database answers,"
                    " and what is running may be run elsewhere too",
                    self.ttl.total_seconds(),
                )
            self._turned = time.monotonic()
            self._on_turn()
            pause = max(0.1, every - (time.monotonic() - began))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), pause)

    def _see(
        self,
        ready: bool,
        due: float | None,
        orphans: bool,
        encoded: str | None,
        _: Any,
        unknown: list[int],
        taken: list[int],
        paused: bool,
        draining: bool,
        processors: str | None,
    ) -> Sight:
        others = json.loads(encoded or "[]")
        dead = [
            UUID(other)
            for other, hostname, process, _ in others
            if hostname == socket.gethostname()
            and _is_gone(self._read(other, process), self._process)
        ]
        silent = [UUID(other) for other, _, _, silent in others if silent]
        pauses = json.loads(processors or "[]")
        return Sight(
            *(ready, due, orphans, dead, silent, set(unknown), set(taken), paused, draining),
            paused_processors=frozenset(name for name, holds in pauses if holds),
            pauses_end=not all(holds for _, holds in pauses),
        )

    def _read(self, other: str, encoded: str) -> dict[str, Any]:
        """Return what a supervisor tells of its process; nothing, where nobody can read it."""
        process = readable.load(encoded)
        if isinstance(process, dict):
            return process
        # It is judged by the clock alone, then.
        if other not in self._odd:
            self._odd.add(other)
            logs.odd_supervisor(other)
        return {}


def identify_process() -> dict[str, Any]:
    """Return what tells this process from any other, where the system says it; else its pid."""
    pid = os.getpid()
    try:
        return {
            "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            "pid_namespace": os.readlink("/proc/self/ns/pid"),
            "pid": pid,
            "started": _start_time(pid),
        }
    except OSError:
        return {"pid": pid}


def _is_gone(process: Any, mine: dict[str, Any]) -> bool:
    """Tell whether a process of this very system is proven to be over; if in doubt, it is not."""
    keys = ("boot_id", "pid_namespace")
    if not isinstance(process, dict):
        return False
    pid, recorded = process.get("pid"), process.get("started")
    # A number below 1 is none of a process: kill() takes it for a group of them.
    if not isinstance(pid, int) or pid < 1 or not isinstance(recorded, int | None):
        return False
    if any(key not in mine or process.get(key) != mine[key] for key in keys):
        return False
    try:
        # Not a look into /proc alone: mounted with hidepid, it hides other users' processes.
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    started = _start_time(pid)
    return None not in (started, recorded) and started != recorded


def _start_time(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # Field 22, counted after the command's name, which may contain anything (proc_pid_stat(5)).
    state, *fields = stat.rpartition(")")[2].split()
    # A zombie runs nothing, though its parent has not collected it yet.
    return -1 if state in "ZX" else int(fields[18])
