"""Whether the supervisor is to stop: since when, how fast, and for which error."""

from __future__ import annotations

import asyncio
from datetime import datetime

from django.utils import timezone

from partisan_async.supervisor.lease import Lease
from partisan_async.supervisor.report.service_manager import ServiceManager


class Stop:
    """A stop that may have been asked for, in one of two ways.

    To *drain* waits for what runs, however long it takes. To *stop* waits for the grace time, and
    asked for again not at all; it hastens a drain.
    """

    def __init__(self, lease: Lease, service: ServiceManager) -> None:
        self.begun = asyncio.Event()
        """One of them was asked for."""
        self.at: datetime | None = None
        """When."""
        self.is_asked = False
        """It was the second: the grace time counts."""
        self.at_once = False
        """Nothing is waited for."""
        self.failure: BaseException | None = None
        """What it is for, if nobody asked for it."""
        self._lease = lease
        self._service = service

    def drain(self) -> None:
        """Stop when all that runs has ended."""
        if self.at is None:
            self.at = timezone.now()
            self._lease.hurry()  # for all to see: what runs may go on for long
        self.begun.set()

    def stop(self) -> None:
        """Stop within the grace time; called again: at once."""
        self.at_once = self.is_asked
        self.is_asked = True
        # At once: from this word on systemd counts the time that it leaves for the stop.
        self._service.tell("STOPPING=1")
        self.drain()

    def fail(self, error: BaseException) -> None:
        """Remember the first error."""
        self.failure = self.failure or error
