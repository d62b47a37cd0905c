"""Takes stock: compares the claims that this supervisor knows with those that the database has.

The two differ where the answer to a claim was lost, where a claim took effect after it was given
up, or where somebody else has changed the rows.
"""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

import psycopg

from partisan_async import registry, store
from partisan_async.claim import Claim
from partisan_async.exceptions import ProcessorClassNotFound
from partisan_async.models import Task
from partisan_async.supervisor.agenda import Agenda
from partisan_async.supervisor.connection import Connection
from partisan_async.supervisor.dispatcher import Dispatcher
from partisan_async.supervisor.sight import Sight


class Stock:
    """Takes the stock of one supervisor.

    :param deletes_finished: whether the rows of tasks that finished are deleted.
    """

    def __init__(
        self,
        me: UUID,
        connection: Connection,
        agenda: Agenda,
        dispatcher: Dispatcher,
        *,
        deletes_finished: bool,
    ) -> None:
        self._me = me
        self._connection = connection
        self._agenda = agenda
        self._dispatcher = dispatcher
        self._holdings = dispatcher.holdings
        self._deletes_finished = deletes_finished

    def on_sight(self, sight: Sight) -> None:
        """Have stock taken where a beat saw other claims than those known here."""
        # A claim that was given up may reach the server late, and take rows that are unknown here.
        if sight.unknown and sight.unknown - {claim.id for claim in self._holdings.claims()}:
            self._agenda.doubtful = True
        # Cancelled by hand, and no NOTIFY told us: without --async we do not listen. Short claims
        # are left out: they may have been settled when the beat looked.
        if sight.taken & self._holdings.ids_for_long():
            self._agenda.doubtful = True

    async def take(self) -> None:
        """Admit the claims that only the database knows, and disown those that only we know."""
        self._agenda.doubtful = False
        try:
            before = self._known()
            held = store.claims(await self._connection.execute(store.held(self._me)))
        except psycopg.Error:
            self._agenda.doubtful = True
            raise
        known = self._known()
        if found := [claim for claim in held if claim.key not in known | before]:
            self._dispatcher.admit(found, "found", first=True)
        # A claim that was made or settled while the query was under way is in neither group.
        if foreign := (known & before) - {claim.key for claim in held}:
            self._holdings.disown(foreign - await self._settled_within(foreign))

    async def _settled_within(self, keys: set[tuple[int, int]]) -> set[tuple[int, int]]:
        """Return which of these claims finished in their worker's own transaction.

        The worker's message about it is on its way, so the worker must not be killed.
        """
        claims = [claim for claim in self._holdings.claims() if claim.key in keys]
        try:
            rows = await self._connection.execute(store.look(claims))
        except psycopg.Error:
            self._agenda.doubtful = True
            raise
        ended = {(pk, seq) for pk, seq, _, status in rows if status == Task.STATUS_FINISHED}
        if self._deletes_finished:
            there = {pk for pk, *_ in rows}
            ended |= {claim.key for claim in claims if claim.id not in there and _is_atomic(claim)}
        return ended

    def _known(self) -> set[tuple[int, int]]:
        return {claim.key for claim in self._holdings.claims()}


def _is_atomic(claim: Claim) -> bool:
    """Tell whether its worker settles it: any other row that is gone was deleted by somebody."""
    with suppress(ProcessorClassNotFound):
        return bool(registry.get(claim.processor_class).ATOMIC)
    return False
