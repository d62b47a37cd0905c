"""Reads what a beat sees of this supervisor, of its queue, and of other supervisors."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from partisan_async import logs, registry
from partisan_async.models import readable
from partisan_async.store import Behind, Seen, newcomers
from partisan_async.supervisor.host_process import identify_process, is_gone


@dataclass(frozen=True, slots=True)
class Sight:
    """What a beat saw.

    :param due_seconds: until the next scheduled row is due, negative if it is overdue.
    :param orphans: whether there are rows in process whose supervisor is silent.
    :param dead: supervisors of this host whose process is proven to be gone.
    :param silent: supervisors of any host that have not beaten for longer than the TTL.
    :param unknown: ids of rows claimed by this supervisor that it did not know at the beat.
    :param taken: ids of rows that it believed to be its claims at the beat, and that were not.
    :param paused: whether the queue is paused.
    :param draining: whether this supervisor is to start nothing more, and end when all is done.
    :param paused_processors: the paused processors of the queue.
    :param pauses_end: whether pauses of processors are over whose rows are to be brought back.
    :param timetable_seconds: until the first schedule that was made at run time is due; ``None``:
        there is none.
    :param newcomers: what came of rows that wait for limits; ``None``: there are none.
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
    timetable_seconds: float | None = None
    newcomers: Behind | None = None


class Lookout:
    """Reads the answers of one supervisor's beats."""

    def __init__(self) -> None:
        self.process = identify_process()
        """What the supervisor's own row says about its process."""
        self._odd: set[str] = set()

    def read(self, seen: Seen) -> Sight:
        """Return what a beat has seen."""
        dead, silent = self._judge(json.loads(seen.others or "[]"))
        pauses = json.loads(seen.processors or "[]")
        return Sight(
            *(seen.ready, seen.due_seconds, seen.orphans, dead, silent),
            *(set(seen.unknown), set(seen.taken), seen.paused, seen.draining),
            # A pause may be on an earlier name of the processor.
            paused_processors=frozenset(
                each for name, holds in pauses if holds for each in registry.names(name)
            ),
            pauses_end=not all(holds for _, holds in pauses),
            timetable_seconds=seen.timetable_seconds,
            newcomers=newcomers(seen.newcomers),
        )

    def _judge(self, others: Sequence[Any]) -> tuple[list[UUID], list[UUID]]:
        """Return which supervisors are dead, and which are silent."""
        dead = [
            UUID(other)
            for other, hostname, process, _ in others
            if hostname == socket.gethostname()
            and is_gone(self._process_of(other, process), self.process)
        ]
        return dead, [UUID(other) for other, _, _, silent in others if silent]

    def _process_of(self, other: str, encoded: str) -> dict[str, Any]:
        """Return what a supervisor tells of its process; nothing, where that cannot be read."""
        process = readable.load(encoded)
        if isinstance(process, dict):
            return process
        # Then only the clock tells whether that supervisor is silent.
        if other not in self._odd:
            self._odd.add(other)
            logs.supervisor.odd_supervisor(other)
        return {}
