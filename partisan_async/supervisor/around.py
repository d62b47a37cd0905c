"""Goes around a row that the database does not let be claimed: it holds up none behind it.

A statement takes the first rows of many, and always from the same end. What one of them spoils
would come to nothing for ever. So they are taken one by one then, and what fails is *passed over*
for a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg

from partisan_async import logs
from partisan_async.postgres.blame import Blame, NoAnswer, is_nobodys, whose
from partisan_async.store import Among, Statement, named
from partisan_async.supervisor.connection import Connection

PASSED_OVER_SECONDS = 60.0

NO_ROWS = (Blame.CONNECTION, Blame.CONTENTION)

MORE = 10
"""So many rows tell whether it is one of them or all."""

LOOKED_AT = 100
"""So many rows are taken one by one, before the next ones are tried together."""


def _may_pass(error: psycopg.Error) -> bool:
    """Tell whether it may be for all rows, and for a while."""
    return is_nobodys(error) or whose(error) is Blame.SERVER


class Around:
    """Takes rows of one kind.

    :param what: what is done to them, as log lines say it.
    """

    def __init__(self, what: str, connection: Connection) -> None:
        self._what = what
        self._connection = connection
        self.went_around = False
        """The last time one was in the way, and there may be more than was taken."""
        self.paused: frozenset[str] = frozenset()
        """The processors whose rows are not taken."""
        self._unanswered = False
        self._until: dict[int, float] = {}
        self._told: set[int] = set()

    async def take(
        self,
        statement: Callable[[Among], Statement],
        rows: Callable[[Among], Statement],
        most: int = LOOKED_AT,
    ) -> list[Any]:
        """Return what a statement returns, of all the rows that it can be done to.

        :param statement: takes the rows, those that it may.
        :param rows: reads their ids; better of a few more, to see whether all are refused.
        :param most: so many rows are taken at most.
        :raises psycopg.Error: no row is to blame.
        """
        among = self._others()
        unanswered, self._unanswered, self.went_around = self._unanswered, False, False
        try:
            return await self._connection.execute(statement(among))
        except psycopg.Error as error:
            self._unanswered = isinstance(error, NoAnswer)
            if whose(error) in NO_ROWS or (self._unanswered and not unanswered):
                raise
            return await self._take_each(statement, rows(among), most, error)

    async def _take_each(
        self,
        statement: Callable[[Among], Statement],
        rows: Statement,
        most: int,
        error: psycopg.Error,
    ) -> list[Any]:
        taken: list[Any] = []
        failed: dict[int, psycopg.Error] = {}
        ids = [pk for (pk,) in await self._connection.execute(rows)]
        worked = 0
        for pk in ids[:LOOKED_AT]:
            if worked == most:
                break
            worked += await self._take_one(statement, pk, taken, failed)
        if not worked and (not ids or _may_pass(error)):
            raise error  # it is not these rows
        for pk in [pk for pk, own in failed.items() if _may_pass(own)]:
            # It may have been for all, and have passed between the two.
            await self._take_one(statement, pk, taken, failed)
        for pk, own in failed.items():
            await self._pass_over(pk, own)
        self.went_around = True
        return taken

    async def _take_one(
        self,
        statement: Callable[[Among], Statement],
        pk: int,
        taken: list[Any],
        failed: dict[int, psycopg.Error],
    ) -> bool:
        try:
            taken += await self._connection.execute(statement(Among(only=pk)))
        except psycopg.Error as error:
            if whose(error) in NO_ROWS:
                raise
            failed[pk] = error
            return False
        failed.pop(pk, None)
        return True

    def _others(self) -> Among:
        now = time.monotonic()
        self._until = {pk: until for pk, until in self._until.items() if until > now}
        return Among(but=list(self._until), paused=sorted(self.paused))

    async def _pass_over(self, pk: int, error: psycopg.Error) -> None:
        self._until[pk] = time.monotonic() + PASSED_OVER_SECONDS
        if pk not in self._told:
            self._told.add(pk)
            rows: list[Any] = []
            with suppress(psycopg.Error):  # what was taken must not be lost for it
                rows = await self._connection.execute(named(pk))
            row = rows[0] if rows else None
            logs.outcomes.passed_over(pk, self._what, PASSED_OVER_SECONDS, error, row)
