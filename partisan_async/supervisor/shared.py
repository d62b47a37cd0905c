"""What a process's supervisors have in common: connections, the lease, memory, who listens."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from partisan_async import store
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.heartbeat import Heartbeat
from partisan_async.supervisor.lease import Lease
from partisan_async.supervisor.memory import Memory
from partisan_async.supervisor.wakeup import Wakeup

METRICS_PATIENCE = timedelta(seconds=2)
"""Time limit of a statement that counts for the metrics."""


class Shared:
    """What is there once, however many queues the process serves.

    :param names: the queues, as the server is told of the connections.
    :param listens: whether NOTIFY wakes them; else they only poll.
    :param with_metrics: whether metrics are shown.
    :param print_logs: have the workers print log lines where no logging is configured.
    :param home: as for ``Heartbeat``.
    :param on_beat: called after each attempt to beat.
    """

    def __init__(
        self,
        names: str,
        *,
        listens: bool,
        with_metrics: bool,
        print_logs: bool,
        beat_seconds: float,
        ttl_seconds: float,
        home: str | None,
        on_beat: Callable[[], None],
    ) -> None:
        alias, self.ttl = store.database(), timedelta(seconds=ttl_seconds)
        self.settle = Connection(alias, f"{names} settle", patience=self.ttl, prepares=True)
        self.beat = Connection(alias, f"{names} beat", patience=self.ttl / 3)
        self.prune = Connection(alias, f"{names} prune", patience=self.ttl)
        self.metrics = Connection(alias, f"{names} metrics", patience=METRICS_PATIENCE)
        self.lease = Lease(self.ttl)
        every = timedelta(seconds=beat_seconds)
        self.memory = Memory()
        self.heartbeat = Heartbeat(
            self.beat, self.lease, self.memory, on_beat, every=every, home=home
        )
        self.with_metrics = with_metrics
        self.print_logs = print_logs
        self.wakeups: dict[str | None, Wakeup] = {}
        self._listens = listens

    def wakeup(self, dsn: str | None) -> Wakeup | None:
        """Return who listens for queues with this ``LISTEN_DSN``; ``None``: nobody does."""
        if not self._listens:
            return None
        if dsn not in self.wakeups:
            self.wakeups[dsn] = Wakeup(store.database(), self.lease, dsn)
        return self.wakeups[dsn]

    async def close(self) -> None:
        """Close the connections."""
        for connection in (self.settle, self.beat, self.prune, self.metrics):
            await connection.close()
