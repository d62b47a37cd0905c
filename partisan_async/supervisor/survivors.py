"""The *survivors*: workers that run on though their supervisor is dead, for a moment.

What they run still occupies the slots of its limits. A worker ends when it notices, so that limits
are waited with until it has; but not for long, since one that hangs would close them.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any
from uuid import UUID

from partisan_async import store
from partisan_async.models import readable
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.host_process import identify_process, is_gone

LONGEST_SECONDS = 5.0
"""Time after which what waits for them is taken all the same."""

LOOK_EVERY_SECONDS = 0.2


class Survivors:
    """Which of the dead supervisors of this host have any, as one supervisor sees it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._mine = identify_process()
        self._until: dict[UUID, float] = {}

    async def of(self, dead: Collection[UUID]) -> set[UUID]:
        """Return those whose workers may still run."""
        now = time.monotonic()
        self._until = {one: self._until.get(one, now + LONGEST_SECONDS) for one in dead}
        waited_for = [one for one, until in self._until.items() if until > now]
        if not waited_for:
            return set()
        rows = await self._connection.execute(store.left_workers(waited_for))
        return {one for one, process, workers in rows if self._any(process, workers)}

    def _any(self, told: str, workers: str) -> bool:
        process, known = readable.load(told), readable.load(workers)
        if not isinstance(process, dict) or not isinstance(known, list):
            return False
        return not all(self._is_gone(process, each) for each in known)

    def _is_gone(self, process: dict[str, Any], worker: object) -> bool:
        if not isinstance(worker, dict):
            return True
        own = {"pid": worker.get("pid"), "started": worker.get("started")}
        return is_gone(process | own, self._mine)
