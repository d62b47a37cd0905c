"""Sends the signals of losses that no worker can send, in a thread: their receivers may block."""

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
"""Time at the supervisor's end for the receivers of the remaining losses."""


class Losses:
    """Sends the losses of one supervisor; starts no thread if there are no receivers."""

    def __init__(self) -> None:
        self._receivers: Aside | None = None

    def tell(self, claim: Claim, decision: Decision) -> None:
        """Have the signals of a loss sent."""
        with suppress(ProcessorClassNotFound):
            processor_class = registry.get(claim.processor_class)
            if processor_class._is_heard():  # noqa: SLF001
                self._receivers = self._receivers or Aside("partisan receivers")
                if len(self._receivers) < MOST_UNTOLD:
                    self._receivers.call(_tell, processor_class, claim, decision)
                else:
                    logs.callbacks.not_told(claim)

    async def tell_the_rest(self) -> None:
        """Return when all losses are sent, or when the receivers have taken too long."""
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
