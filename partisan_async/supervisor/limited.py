"""Claims the rows that wait for limits: of the open keys, as many as can start at once.

It asks the agenda's ``OpenKeys`` which to look at, and tells them what each claim found out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from uuid import UUID

import psycopg

from partisan_async import logs, store
from partisan_async.claim import Claim
from partisan_async.supervisor.agenda import Agenda
from partisan_async.supervisor.around import MORE, Around
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.dispatcher import Dispatcher
from partisan_async.supervisor.lease import Lease


class Limited:
    """Claims under limits for one supervisor."""

    def __init__(
        self,
        me: UUID,
        queue_name: str,
        connection: Connection,
        lease: Lease,
        agenda: Agenda,
        dispatcher: Dispatcher,
    ) -> None:
        self.rows = Around("claim under limits", connection)
        self._me = me
        self._queue_name = queue_name
        self._connection = connection
        self._lease = lease
        self._agenda = agenda
        self._keys = agenda.keys
        self._dispatcher = dispatcher

    @property
    def room(self) -> int:
        """How many rows there are to claim: as many as can start, if any may be there."""
        return self._dispatcher.demand.room_under_limits() if self._keys.is_any_open else 0

    def admit_ready(self, claims: Sequence[Claim]) -> None:
        """Admit claims of ready rows; one that an older release made ready waits for its limit."""
        early = [claim for claim in claims if claim.limit_name is not None]
        if early:
            logs.tasks.claimed(early, "claimed")
            self._dispatcher.endings.give_back(early)
        if own := [claim for claim in claims if claim.limit_name is None]:
            self._dispatcher.admit(own)

    async def turn(self) -> None:
        """Claim what may start now, of some of the open keys."""
        if room := self.room:
            await self._look(room)
        freed, untold = self._keys.news.take()
        if freed or untold:
            await self._tell(freed, untold)

    async def _look(self, room: int) -> None:
        if self._keys.walks:
            behind = self._keys.walked
            found = await self._connection.execute(store.walk(self._queue_name, behind))
            self._keys.note_step(found)
        asked = self._keys.take()
        if any(asked):
            await self._claim(*asked, room)

    async def _claim(self, keys: list[store.Key], ids: list[int], room: int) -> None:
        claim = partial(
            store.claim_limited,
            *(self._me, self._queue_name, room, self._lease.ttl, keys, ids),
            leaves_room=self._agenda.ready,
        )
        heads = partial(store.heads, self._queue_name, room + MORE, keys, ids)
        try:
            rows = await self.rows.take(claim, heads, room)
        except psycopg.Error:
            self._keys.put_back(keys, ids)
            raise
        claims, verdicts = store.outcome(rows)
        self._keys.judge(verdicts, claims)
        if self.rows.went_around:
            self._keys.put_back(keys, ids)
        if claims:
            self._dispatcher.admit(claims)

    async def _tell(self, freed: Mapping[store.Key, int], untold: Sequence[int]) -> None:
        """Notify those who may have room: for what waits for a slot that has come free here, and
        for what has come to wait here."""
        waiting: dict[str, list[int]] = {self._queue_name: list(untold)} if untold else {}
        if freed:
            for queue_name, pk in await self._connection.execute(store.freed(freed)):
                waiting.setdefault(queue_name, []).append(pk)
        if waiting:
            await self._connection.execute(store.tell_limited(waiting))
