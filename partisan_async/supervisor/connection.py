"""A connection of the supervisor's own to the database that holds the tasks."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import suppress
from datetime import timedelta
from typing import Any

import psycopg
from django.db import connections
from psycopg import sql

from partisan_async import database
from partisan_async.store import Statement

logger = logging.getLogger("partisan_async")

TRANSIENT = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError)
"""Errors that another attempt, or another connection, may not meet again.

``InternalError`` is among them for its "read only transaction": the server was demoted.
"""


CONTENTION = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
)
"""Errors that another transaction caused: the connection is as good as before."""


CANCEL_SECONDS = 1
"""So long the server may take to answer that it cancels a statement that took too long."""

CONNECT_SECONDS = 5
"""A host that does not answer at all is given up by then, unless OPTIONS say otherwise."""


async def connect(
    alias: str, purpose: str, laid_over: str | None = None
) -> psycopg.AsyncConnection[Any]:
    """Open a connection with the parameters that Django uses for this alias, in autocommit.

    :param laid_over: as for ``database.parameters``.
    """
    params = database.parameters(alias, laid_over)
    params.setdefault("application_name", f"partisan_async {purpose}")
    params.setdefault("connect_timeout", CONNECT_SECONDS)
    # Never, whatever OPTIONS say. A transaction pooler gives each statement another server process,
    # which knows nothing of what was prepared; and elsewhere the server would keep to the plans
    # that it made when the table was small: a claim took 12 times as long then.
    params["prepare_threshold"] = None
    connection = await psycopg.AsyncConnection.connect(**params, autocommit=True)
    if role := connections[alias].settings_dict["OPTIONS"].get("assume_role"):
        try:
            await connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        except BaseException:
            await connection.close()
            raise
    return connection


def hang_up(connection: psycopg.AsyncConnection[Any]) -> None:
    """End what waits on a connection, as if the server had closed it.

    Not by closing it here: the number of its socket would be free, and soon another's, while the
    event loop still watches it for the one that waits.
    """
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)


def explain(error: BaseException) -> str:
    """Return what an error says, in one line."""
    return " ".join(str(error).split()) or "no answer"


def _retrieve(call: asyncio.Future[Any]) -> None:
    if not call.cancelled():
        call.exception()


class Connection:
    """Runs statements on a connection that is opened when needed and dropped when it fails.

    :param patience: how long one statement may take. In a black hole nothing else ends it.
    """

    def __init__(self, alias: str, purpose: str, patience: timedelta) -> None:
        self._alias = alias
        self._purpose = purpose
        self._patience = patience.total_seconds()
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._opening = asyncio.Lock()

    async def execute(self, statement: Statement) -> list[Any]:
        """Return the rows of the statement.

        :raises psycopg.OperationalError: the server cannot be reached, or did not answer in time:
            whether the statement took effect is then unknown. The next call connects anew.
        """
        connection: psycopg.AsyncConnection[Any] | None = None
        try:
            # No detour where there is nothing to wait for: the event loop may be busy.
            connection = self._at_hand() or await self._bounded(self._open())
            rows: list[Any] = await self._bounded(self._fetch(connection, statement), connection)
        except CONTENTION:
            raise
        except TRANSIENT:
            await self._drop(connection)
            raise
        return rows

    async def renew(self, warm_up: Statement) -> None:
        """Put a new connection in the place of this one; what is under way ends on the old one.

        :param warm_up: what the new one runs before: the first statement of each kind takes the
            server several times as long, since it reads the catalogs for it.
        :raises psycopg.OperationalError: as ``execute``.
        """
        async with self._opening:
            fresh = await self._bounded(connect(self._alias, self._purpose))
            try:
                await self._bounded(self._fetch(fresh, warm_up), fresh)
            except BaseException:
                await self._drop(fresh)
                raise
            worn, self._connection = self._connection, fresh
        if worn is None:
            return
        try:
            # A call that has just begun holds it, and has not asked for the lock yet.
            await asyncio.sleep(0)
            async with worn.lock:
                await worn.close()
        except BaseException:
            await self._drop(worn)
            raise

    async def close(self) -> None:
        """Close it; the next call would open it again."""
        await self._drop(self._connection)

    def _at_hand(self) -> psycopg.AsyncConnection[Any] | None:
        usable = self._connection is not None and not self._connection.closed
        return self._connection if usable else None

    async def _open(self) -> psycopg.AsyncConnection[Any]:
        async with self._opening:
            if connection := self._at_hand():
                return connection
            await self._drop(self._connection)
            self._connection = await connect(self._alias, self._purpose)
            return self._connection

    async def _fetch(
        self, connection: psycopg.AsyncConnection[Any], statement: Statement
    ) -> list[Any]:
        cursor = await connection.execute(statement.sql, statement.params)
        return await cursor.fetchall() if cursor.description else []

    async def _bounded(
        self, coroutine: Any, connection: psycopg.AsyncConnection[Any] | None = None
    ) -> Any:
        # asyncio.wait_for() would cancel the call, and psycopg then talks to the server to cancel
        # the query: in a black hole a limit of 3 seconds took 13.
        call = asyncio.ensure_future(coroutine)
        try:
            done, _ = await asyncio.wait({call}, timeout=self._patience)
        except asyncio.CancelledError:
            call.cancel()
            # Whoever keeps the cancelled task keeps this frame, and through these a connection that
            # was being opened.
            del call, coroutine
            raise
        if done:
            return call.result()
        if connection is not None:
            # A session that waits for a lock would not notice that nobody is there any more.
            canceling = asyncio.ensure_future(connection.cancel_safe(timeout=CANCEL_SECONDS))
            await asyncio.wait({canceling}, timeout=2 * CANCEL_SECONDS)
            canceling.add_done_callback(_retrieve)
            canceling.cancel()
            hang_up(connection)
        else:
            call.cancel()
        await asyncio.wait({call}, timeout=1)
        call.add_done_callback(_retrieve)
        raise psycopg.OperationalError(f"no answer from the database within {self._patience:g} s")

    async def _drop(self, connection: psycopg.AsyncConnection[Any] | None) -> None:
        if connection is None:
            return
        if connection is self._connection:
            self._connection = None
        hang_up(connection)
        async with connection.lock:  # another call may have waited on it
            await connection.close()
