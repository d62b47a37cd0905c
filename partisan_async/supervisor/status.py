"""The status of a supervisor: how busy it is, and why it starts no tasks if it does not."""

from __future__ import annotations

import asyncio

from django.utils.translation import override

from partisan_async.supervisor.dispatcher import Dispatcher
from partisan_async.supervisor.lease import Lease
from partisan_async.supervisor.stop import Stop
from partisan_async.text.farewell import farewell
from partisan_async.text.printable import plain


class Status:
    """The status of one supervisor, for the health port and the service manager."""

    def __init__(self, queue_name: str, lease: Lease, dispatcher: Dispatcher, stop: Stop) -> None:
        self.started = asyncio.Event()
        """Set when the workers are up and tasks are claimed."""
        self.queue_name = queue_name
        self._lease = lease
        self._dispatcher = dispatcher
        self._stop = stop

    def hindrance(self) -> str:
        """Say why it starts no tasks; empty: it does, or could."""
        pool = self._dispatcher.pool
        if self._stop.begun.is_set():
            ending = "stopping" if self._stop.is_asked else "draining"
            with override(None):  # what watches it reads English
                return farewell(ending, self._stop.at, len(pool.claims()))
        if not self.started.is_set():
            return "starting"
        if not self._lease.held:
            return "the lease is not held: the database does not answer"
        if not pool.up and not pool.slots.can_rest:
            return "no worker process is up"
        return ""

    def words(self) -> str:
        """Return the status in a few words."""
        pool = self._dispatcher.pool
        state = self.hindrance() or "ready"
        name = plain(self.queue_name)
        return f"queue {name!r}: {state}; {pool.busy} of {pool.up} workers busy"
