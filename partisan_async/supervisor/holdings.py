"""The claims of a supervisor: their tasks wait, are in a worker, or have an unwritten outcome."""

from __future__ import annotations

from partisan_async import logs
from partisan_async.claim import Claim
from partisan_async.supervisor.buffer import Buffer
from partisan_async.supervisor.endings import Endings
from partisan_async.supervisor.settler import Settler
from partisan_async.supervisor.workers.pool import Pool


class Holdings:
    """The claims of one supervisor."""

    def __init__(self, buffer: Buffer, pool: Pool, settler: Settler, endings: Endings) -> None:
        self._buffer = buffer
        self._pool = pool
        self._settler = settler
        self._endings = endings

    def claims(self) -> list[Claim]:
        """Return every claim that is not settled yet."""
        return [*self._unended(), *self._settler.claims()]

    def ids_for_long(self) -> set[int]:
        """Return the ids of rows that wait, run, or are left in process for good."""
        return {claim.id for claim in self._unended()} | self._settler.left()

    def disown(self, foreign: set[tuple[int, int]]) -> None:
        """Drop claims that others have by now, by ``Claim.key``; kill those that run."""
        self._settler.disown(foreign)
        self._buffer.drop(foreign)
        known = self._pool.claims()
        if running := [claim for claim in known if claim.key in foreign]:
            logs.tasks.disowned(running)
            self._endings.disown(running, known)
            self._pool.kill(running)

    def _unended(self) -> list[Claim]:
        return [*self._buffer.claims(), *self._pool.claims()]
