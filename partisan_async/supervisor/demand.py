"""The number of rows to claim: tasks that can start now, and tasks that will start soon.

Gathers the inputs of the rules in ``ahead``: the workers' room, the buffer, and how long tasks of
the processors claimed last take.
"""

from __future__ import annotations

from partisan_async import registry
from partisan_async.declared import is_async
from partisan_async.settings import QueueSettings
from partisan_async.supervisor.ahead import room_to_claim, sent_ahead
from partisan_async.supervisor.buffer import Buffer
from partisan_async.supervisor.kind import Kind
from partisan_async.supervisor.pace import AHEAD_SECONDS, BATCH_SECONDS, Pace
from partisan_async.supervisor.settler import Settler
from partisan_async.supervisor.workers.pool import Pool


class Demand:
    """The number of tasks that one supervisor can take on."""

    def __init__(
        self, settings: QueueSettings, settler: Settler, pool: Pool, buffer: Buffer, pace: Pace
    ) -> None:
        self.last_names: set[str] = set()
        """The processors of the last claim: the next rows are mostly of the same ones."""
        self._settings = settings
        self._settler = settler
        self._pool = pool
        self._buffer = buffer
        self._pace = pace

    def room(self) -> int:
        """Return the number of rows to claim."""
        return self._room(AHEAD_SECONDS)

    def room_under_limits(self) -> int:
        """Return the number of rows to claim whose claim takes a slot: hardly any ahead."""
        return self._room(BATCH_SECONDS)

    def _room(self, ahead_seconds: float) -> int:
        if not self._settler.has_room():
            return 0
        free, at_once = self._startable()
        soon = self._pace.starts_within(ahead_seconds, self.last_names, self._settings.most_workers)
        return room_to_claim(
            free=free,
            at_once=at_once,
            soon=soon,
            buffered=len(self._buffer),
            least=self._settings.MIN_QUEUE_SIZE,
            most=self._settings.MAX_QUEUE_SIZE,
        )

    def room_for_rescued(self) -> int:
        """Return the number of orphaned tasks to rescue: those that could start at once."""
        if not self._settler.has_room():
            return 0
        free = min(
            self._pool.sync_room() + self._pool.slots.can_grow, self._settings.MAX_QUEUE_SIZE
        )
        return max(0, free - len(self._buffer))

    def _startable(self) -> tuple[int, int]:
        """Return how many workers are free, and how many tasks can be sent to workers now."""
        names = self.last_names
        together = min(map(self._pace.batch_length, names), default=1)
        free = self._pool.sync_room(self.sent_ahead(together)) + self._pool.slots.can_grow
        if names and all(is_async(registry.get(name)) for name in names):
            return free, max(free, self._pool.async_room)  # the next row may be sync
        return free, free * together

    def sent_ahead(self, together: int) -> int:
        """Return how many short sync tasks a worker may still have and get another batch.

        :param together: the length of a batch.
        """
        others_wait = bool(self._buffer.of(Kind.ASYNC) or self._buffer.of(Kind.ALONE))
        return sent_ahead(together, others_wait=others_wait)
