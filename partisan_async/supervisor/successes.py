"""Notes on the schedules' rows when their tasks last finished, a moment after they have.

Not with the settle: somebody's open transaction may have such a row, and no settle waits for that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import psycopg

from partisan_async import logs, registry, store
from partisan_async.claim import Claim, Settlement
from partisan_async.models import readable
from partisan_async.policy import Finished
from partisan_async.postgres.blame import Blame, whose
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.settler import Settler

WRITE_AFTER_SECONDS = 1.0
"""What comes within it is written by one statement."""

KEPT_SECONDS = 60.0
"""Time for which what could not be noted is tried again; the schedule may be gone."""

_TICK = '"tick": '
"""As PostgreSQL writes the name in the JSON of a tick's task."""


class Successes:
    """Those of one queue's schedules; nothing is looked at before the queue has one.

    :param watches: whether it has one.
    """

    def __init__(self, connection: Connection, settler: Settler, *, watches: bool) -> None:
        self._connection = connection
        self._settler = settler
        self._at: dict[str, float] = {}
        self._more = asyncio.Event()
        self._watches = False
        if watches:
            self.watch()

    def watch(self) -> None:
        """Note successes from now on."""
        if not self._watches:
            self._watches = True
            self._settler.tell_also(self.on_settled)

    def on_settled(self, batch: Sequence[Settlement]) -> None:
        """Take what was written of tasks."""
        for each in batch:
            arguments = each.claim.arguments
            # No call for each task: most are of no schedule.
            if arguments is None or _TICK not in arguments:
                continue
            if isinstance(each.decision, Finished) and (key := _key_of(each.claim)):
                self._at[key] = time.monotonic()
                self._more.set()

    async def keep(self) -> None:
        """Write for ever what there is to write."""
        while True:
            await self._more.wait()
            await asyncio.sleep(WRITE_AFTER_SECONDS)
            self._more.clear()
            await self.write()
            if self._at:
                self._more.set()

    async def write(self) -> None:
        """Write what is not written yet."""
        now = time.monotonic()
        self._at = {key: at for key, at in self._at.items() if now - at < KEPT_SECONDS}
        if not self._at:
            return
        written = dict(self._at)
        agos = {key: now - at for key, at in written.items()}
        try:
            noted = await self._connection.execute(store.succeeded(agos))
        except psycopg.Error as error:
            if whose(error) not in (Blame.CONNECTION, Blame.CONTENTION):
                self._at.clear()  # nothing waits for it, and it would come every second
            logs.schedules.not_noted(error)
            return
        for (key,) in noted:
            if self._at.get(key) == written[key]:  # else another one has finished since
                del self._at[key]


def _key_of(claim: Claim) -> str | None:
    """Return the key of the schedule that enqueued a task; ``None``: none did."""
    arguments = readable.load(claim.arguments)
    if not isinstance(arguments, dict) or not isinstance(arguments.get("tick"), str):
        return None
    key = arguments.get("schedule")
    return key if isinstance(key, str) else registry.lasting_name(claim.processor_class)
