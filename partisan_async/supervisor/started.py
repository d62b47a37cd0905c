"""Logs that a supervisor has started, on which database, and what wakes it."""

from __future__ import annotations

import asyncio

from django.db import connections

from partisan_async import logs, store
from partisan_async.settings import QueueSettings
from partisan_async.supervisor.wakeup import Wakeup

PROOF_SECONDS = 2.0
"""Time that the start waits for the proof that NOTIFY works."""


async def say_started(queue_name: str, settings: QueueSettings, wakeup: Wakeup | None) -> None:
    """Log the start, when NOTIFY is proven to work or the proof takes too long."""
    woken = f"by polling every {settings.SLEEP_DELAY_SECONDS:g} s"
    if wakeup is not None:
        try:
            await asyncio.wait_for(wakeup.proven.wait(), PROOF_SECONDS)
            woken = "by NOTIFY"
        except TimeoutError:
            woken += " until NOTIFY is proven to work"
    database = _described(store.database())
    logs.supervisor.started(queue_name, settings.WORKERS_COUNT, database, woken)


def _described(alias: str) -> str:
    settings = connections[alias].settings_dict
    return f"{alias!r} ({settings['NAME']} at {settings['HOST'] or 'the local socket'})"
