"""Takes rows in spite of those that the database refuses to change.

A statement takes the first rows of many, always from the same end. If one of these rows makes it
fail, it would fail every time. So then the rows are taken one by one, and a row that fails is
*passed over* for a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg

from partisan_async import logs
from partisan_async.postgres.blame import Blame, NoAnswer, is_nobodys, whose
from partisan_async.store import Among, Locking, Statement, named
from partisan_async.supervisor.connection import Connection

PASSED_OVER_SECONDS = 60.0

NO_ROWS = (Blame.CONNECTION, Blame.CONTENTION)

MORE = 10
"""Number of rows that are enough to tell whether one row is refused or all are."""

LOOKED_AT = 100
"""Maximum number of rows that are taken one by one, before the next ones are tried together."""


def _may_pass(error: psycopg.Error) -> bool:
    """Tell whether the error may be about all rows, and pass after a while."""
    return is_nobodys(error) or whose(error) is Blame.SERVER


class Around:
    """Takes rows for one purpose.

    :param what: what is done to the rows, as log lines say it.
    """

    def __init__(self, what: str, connection: Connection) -> None:
        self._what = what
        self._connection = connection
        self.went_around = False
        """Whether the last ``take()`` passed over a row, so that more rows may be there."""
        self.paused: frozenset[str] = frozenset()
        """The processors whose rows are not taken."""
        self._unanswered = False
        self._until: dict[int, float] = {}
        self._told: set[int] = set()

    async def take(
        self,
        statement: Callable[[Among], Statement | Locking],
        rows: Callable[[Among], Statement],
        most: int = LOOKED_AT,
    ) -> list[Any]:
        """Return the rows of a statement, for all rows that the database lets it change.

        :param statement: returns the statement that takes rows, limited to an ``Among``.
        :param rows: returns the query for the ids of these rows and ``MORE`` others, to see whether
            all rows are refused.
        :param most: maximum number of rows to take.
        :raises psycopg.Error: the error is not about single rows.
        """
        among = self.others()
        unanswered, self._unanswered, self.went_around = self._unanswered, False, False
        try:
            return await self._connection.execute(statement(among))
        except psycopg.Error as error:
            self._unanswered = isinstance(error, NoAnswer)
            if whose(error) in NO_ROWS or (self._unanswered and not unanswered):
                raise
            return await self._take_each(statement, rows(among), most, error)

    def others(self) -> Among:
        """Return which rows are taken: those that are not passed over, nor of what is paused."""
        now = time.monotonic()
        self._until = {pk: until for pk, until in self._until.items() if until > now}
        return Among(but=list(self._until), paused=sorted(self.paused))

    async def _take_each(
        self,
        statement: Callable[[Among], Statement | Locking],
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
            raise error  # these rows are not to blame
        for pk in [pk for pk, own in failed.items() if _may_pass(own)]:
            # The error may have been about all rows, and have passed by now.
            await self._take_one(statement, pk, taken, failed)
        for pk, own in failed.items():
            await self._pass_over(pk, own)
        self.went_around = True
        return taken

    async def _take_one(
        self,
        statement: Callable[[Among], Statement | Locking],
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

    async def _pass_over(self, pk: int, error: psycopg.Error) -> None:
        self._until[pk] = time.monotonic() + PASSED_OVER_SECONDS
        if pk not in self._told:
            self._told.add(pk)
            rows: list[Any] = []
            with suppress(psycopg.Error):  # the rows that were taken must not be lost
                rows = await self._connection.execute(named(pk))
            row = rows[0] if rows else None
            logs.outcomes.passed_over(pk, self._what, PASSED_OVER_SECONDS, error, row)
