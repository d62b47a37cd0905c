"""Knows whether the supervisor is to stop, and how fast."""

from __future__ import annotations

import asyncio
from datetime import datetime

from django.utils import timezone

from partisan_async.supervisor.lease import Lease


class Stop:
    """The order to end, in one of two ways, if it was given.

    A *drain* waits for the runs, however long they take. A *stop* waits for the grace time, and a
    second one not at all; a stop also cuts a drain short.
    """

    def __init__(self, lease: Lease) -> None:
        self.begun = asyncio.Event()
        """Set when either was ordered."""
        self.at: datetime | None = None
        """When it was first ordered."""
        self.is_asked = False
        """Whether a stop was ordered, so that the grace time counts."""
        self.at_once = False
        """Whether it ends without a wait for runs."""
        self._lease = lease

    def drain(self) -> None:
        """Stop when all that runs has ended."""
        if self.at is None:
            self.at = timezone.now()
            self._lease.hurry()  # for all to see: what runs may go on for long
        self.begun.set()

    def stop(self) -> None:
        """Stop within the grace time; a second call stops at once."""
        self.at_once = self.is_asked
        self.is_asked = True
        self.drain()
