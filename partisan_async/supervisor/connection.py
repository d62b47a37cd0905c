"""Runs statements for one part of the supervisor, on a connection of its own.

The connection is opened when it is needed, and dropped when it fails. Each statement has a time
limit.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import psycopg
from django.db import connections

from partisan_async.postgres.blame import Blame, NoAnswer, whose
from partisan_async.postgres.cancelling import hang_up
from partisan_async.postgres.idle import until_idle
from partisan_async.store import Locking, Statement
from partisan_async.supervisor.cutting import cut
from partisan_async.supervisor.opening import connect, prepare_from_now_on
from partisan_async.text.one_line import explain

STALE = (
    psycopg.errors.FeatureNotSupported,
    psycopg.errors.InvalidSqlStatementName,
    psycopg.errors.DuplicatePreparedStatement,
)
"""What a prepared statement meets when a column has got another type, or its session is another's.

It has then done nothing.
"""


READ_COMMITTED = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"
"""A role's default may be another: its snapshots would be older than its locks."""


class Connection:
    """Runs statements on a connection that is opened when needed and dropped when it fails.

    :param patience: time limit of a statement. If packets vanish, nothing else ends the wait.
    :param prepares: whether statements are prepared where that is possible. They must be few, and
        each must find all its rows by an index.
    """

    def __init__(
        self, alias: str, purpose: str, patience: timedelta, *, prepares: bool = False
    ) -> None:
        self._alias = alias
        self._purpose = purpose
        self._patience = patience.total_seconds()
        self._prepares = prepares
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._opening = asyncio.Lock()
        self.encoding = ""
        """The database's, since it was first connected to."""

    @property
    def role(self) -> str:
        """The role that its statements run as, as far as the settings tell."""
        settings = connections[self._alias].settings_dict
        return str(settings["OPTIONS"].get("assume_role") or settings["USER"] or "…")

    async def execute(self, statement: Statement | Locking) -> list[Any]:
        """Return the rows of a statement; of one behind a lock, in a transaction of their own.

        :raises psycopg.Error: it failed; ``blame`` says whose fault that is. If it is the
            connection's, or there was no answer in time, nobody knows whether the statement took
            effect, and the next call connects anew.
        """
        connection: psycopg.AsyncConnection[Any] | None = None
        try:
            connection = self._at_hand() or await self._open()
            rows = await self._fetch(connection, statement)
        except psycopg.Error as error:
            if whose(error) in (Blame.CONNECTION, Blame.SERVER) or isinstance(error, NoAnswer):
                await self._drop(connection)
            raise
        except UnicodeError as error:
            # A row of a database that knows no encoding: what it sends may be no text at all.
            raise psycopg.DataError(explain(error)) from error
        except asyncio.CancelledError:
            await self._drop(connection)
            raise
        return rows

    async def renew(self, warm_up: Statement) -> None:
        """Replace the connection by a new one; a statement under way ends on the old one.

        :param warm_up: statement that the new connection runs first: the first statement of each
            kind takes several times as long, since the server reads the catalogs for it.
        :raises psycopg.Error: as ``execute``.
        """
        async with self._opening:
            fresh = await self._connect()
            try:
                await self._fetch(fresh, warm_up)
            except BaseException:
                await self._drop(fresh)
                raise
            worn, self._connection = self._connection, fresh
        if worn is None:
            return
        try:
            # A call that has just begun has this connection, but has not asked for the lock yet.
            await asyncio.sleep(0)
            async with until_idle(worn):
                await worn.close()
        except BaseException:
            await self._drop(worn)
            raise

    async def close(self) -> None:
        """Close the connection; a later call would open another one."""
        await self._drop(self._connection)

    def _at_hand(self) -> psycopg.AsyncConnection[Any] | None:
        usable = self._connection is not None and not self._connection.closed
        return self._connection if usable else None

    async def _open(self) -> psycopg.AsyncConnection[Any]:
        async with self._opening:
            if connection := self._at_hand():
                return connection
            await self._drop(self._connection)
            self._connection = await self._connect()
            return self._connection

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        try:
            async with asyncio.timeout(self._patience):
                connection = await connect(self._alias, self._purpose)
                self.encoding = connection.info.parameter_status("server_encoding") or ""
                if self._prepares:
                    try:
                        await prepare_from_now_on(connection)
                    except BaseException:
                        await connection.close()
                        raise
                return connection
        except TimeoutError:
            raise psycopg.OperationalError(self._no_answer()) from None
        except psycopg.Error as error:
            if whose(error) is Blame.CONNECTION:
                raise
            # Such as a role that the user may not take: no row can be to blame yet.
            raise psycopg.OperationalError(explain(error)) from error

    async def _fetch(
        self, connection: psycopg.AsyncConnection[Any], statement: Statement | Locking
    ) -> list[Any]:
        # Not asyncio.timeout(): the server would go on with the statement. Nor an asyncio task that
        # is given up: it costs two more turns of the event loop, in an idle system 0.1 ms.
        cuts: list[asyncio.Task[None]] = []
        limit = asyncio.get_running_loop().call_later(
            self._patience, lambda: cuts.append(asyncio.create_task(cut(connection)))
        )
        try:
            rows = await _rows(connection, statement)
        except STALE as error:
            if connection.prepare_threshold is None:
                raise
            self._prepares = False
            raise psycopg.OperationalError(
                f"{explain(error)}; nothing is prepared from now on"
            ) from error
        except psycopg.Error:
            if not cuts:
                raise
        finally:
            limit.cancel()
        if cuts:
            await cuts[0]
            raise NoAnswer(self._no_answer())
        return rows

    def _no_answer(self) -> str:
        return f"no answer from the database within {self._patience:g} s"

    async def _drop(self, connection: psycopg.AsyncConnection[Any] | None) -> None:
        if connection is None:
            return
        if connection is self._connection:
            self._connection = None
        hang_up(connection)
        async with until_idle(connection):  # another call may have waited on it
            await connection.close()


async def _rows(
    connection: psycopg.AsyncConnection[Any], statement: Statement | Locking
) -> list[Any]:
    if isinstance(statement, Statement):
        cursor = await connection.execute(statement.sql, statement.params)
        return await cursor.fetchall() if cursor.description else []
    # All of it is one message: nobody holds the lock for a round trip.
    async with connection.pipeline():
        async with connection.transaction():
            await connection.execute(READ_COMMITTED)
            await connection.execute(*statement.lock)
            cursor = await connection.execute(*statement.statement)
        return await cursor.fetchall()
