"""Sends the signals of ends that no worker saw, in a thread of their own: receivers may block."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

from django.db import connections

from partisan_async import logs, registry
from partisan_async.claim import Claim
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.policy import Decision
from partisan_async.processor import BaseTaskProcessor
from partisan_async.supervisor.aside import Aside
from partisan_async.worker.row import row_of

MOST_UNTOLD = 1000
"""Maximum number of losses that wait for receivers that block."""

TELLING_SECONDS = 5.0
"""Time that receivers have, at the end, to hear of the rest."""


class Losses:
    """Tells the receivers of one supervisor. Where there are none it starts no thread."""

    def __init__(self) -> None:
        self._receivers: Aside | None = None

    def tell(self, claim: Claim, decision: Decision) -> None:
        """Have the receivers hear of a task's end."""
        with suppress(ProcessorClassNotFound):
            processor_class = registry.get(claim.processor_class)
            if processor_class._is_heard():  # noqa: SLF001
                self._receivers = self._receivers or Aside("partisan receivers")
                if len(self._receivers) < MOST_UNTOLD:
                    self._receivers.call(_tell, processor_class, claim, decision)
                else:
                    logs.callbacks.not_told(claim)

    async def tell_the_rest(self) -> None:
        """Return when receivers have heard of every loss, or have taken too long."""
        if self._receivers is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(TELLING_SECONDS):
                    await self._receivers.ask(lambda: None)


def _tell(processor_class: type[BaseTaskProcessor], claim: Claim, decision: Decision) -> None:
    try:
        arguments = None if claim.arguments is None else json.loads(claim.arguments)
        processor_class._tell_loss(row_of(claim, arguments), decision)  # noqa: SLF001
    finally:
        connections.close_all()
