"""A connection of the supervisor's own to the database that holds the tasks."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from datetime import timedelta
from functools import cache
from typing import Any

import psycopg
from django.db import connections
from psycopg import sql

from partisan_async.postgres import cancelling, parameters
from partisan_async.postgres.blame import Blame, NoAnswer, explain, whose
from partisan_async.postgres.cancelling import Session, hang_up
from partisan_async.store import Statement
from partisan_async.supervisor.aside import Aside

CANCEL_SECONDS = 1
"""So long the server may take to answer that it cancels a statement that took too long."""

CONNECT_SECONDS = 5
"""A host that does not answer at all is given up by then, unless OPTIONS say otherwise."""


STALE = (
    psycopg.errors.FeatureNotSupported,
    psycopg.errors.InvalidSqlStatementName,
    psycopg.errors.DuplicatePreparedStatement,
)
"""What a prepared statement meets when a column has got another type, or its session is another's.

It has then done nothing.
"""

# To plan a lone claim takes nearly as long as all else about it. But a plan that is kept is one for
# the table as it is now, often empty, and reads it to its end ever after: 250 rows of 300,000 were
# settled in 9 seconds. Without that way, the planner goes by the same indexes for every size.
_KEEP_PLANS = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off"


async def connect(
    alias: str, purpose: str, laid_over: str | None = None
) -> psycopg.AsyncConnection[Any]:
    """Open a connection with the parameters that Django uses for this alias, in autocommit.

    :param laid_over: as for ``database.parameters``.
    """
    params = await _parameters_of(alias, laid_over)
    params.setdefault("application_name", f"partisan_async {purpose}")
    params.setdefault("connect_timeout", CONNECT_SECONDS)
    # Whatever OPTIONS say: a transaction pooler gives each statement another server process, which
    # knows nothing of what was prepared.
    params["prepare_threshold"] = None
    connection = await Session.connect(**params, autocommit=True)
    if role := connections[alias].settings_dict["OPTIONS"].get("assume_role"):
        try:
            await connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        except BaseException:
            await connection.close()
            raise
    return connection


async def _parameters_of(alias: str, laid_over: str | None) -> dict[str, Any]:
    # A database backend of the project's may ask for a password elsewhere, and wait for it.
    try:
        return await _asker(os.getpid()).ask(parameters.parameters, alias, laid_over)
    except Exception as error:
        raise psycopg.OperationalError(
            f"the database's parameters could not be had: {explain(error)}"
        ) from error


# By process: a thread does not come along into a fork.
@cache
def _asker(pid: int) -> Aside:
    return Aside("partisan parameters")


async def _prepare_from_now_on(connection: psycopg.AsyncConnection[Any]) -> None:
    """Have statements prepared and their plans kept, if this is a session of our own."""
    # A pooler tells its clients a number of its own: where they send it to cancel a statement.
    cursor = await connection.execute("SELECT pg_backend_pid()")
    if await cursor.fetchone() == (connection.info.backend_pid,):
        await connection.execute(_KEEP_PLANS)
        connection.prepare_threshold = 0


async def _cut(connection: psycopg.AsyncConnection[Any]) -> None:
    """End what is under way on a connection, in the server, too, if that answers."""
    # A session that waits for a lock would not notice that nobody is there any more.
    with suppress(OSError, psycopg.Error):
        async with asyncio.timeout(2 * CANCEL_SECONDS):
            if cancelling.is_safe():
                await connection.cancel_safe(timeout=CANCEL_SECONDS)
            else:
                await _terminate(connection)
    hang_up(connection)


async def _terminate(connection: psycopg.AsyncConnection[Any]) -> None:
    """End a connection's session in the server, by another connection."""
    info = connection.info
    params: dict[str, Any] = {**info.get_parameters(), "password": info.password}
    params["connect_timeout"] = CANCEL_SECONDS
    async with await Session.connect(**params, autocommit=True) as other:
        # A pooler tells a number of its own, which may be another session's.
        await other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid = %s AND application_name = %s",
            [info.backend_pid, info.parameter_status("application_name")],
        )


class Connection:
    """Runs statements on a connection that is opened when needed and dropped when it fails.

    :param patience: how long one statement may take. In a black hole nothing else ends it.
    :param prepares: that its statements are prepared where they can be. They must be few, and each
        find all its rows by an index.
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
        """Whose rights its statements have, as far as settings say."""
        settings = connections[self._alias].settings_dict
        return str(settings["OPTIONS"].get("assume_role") or settings["USER"] or "…")

    async def execute(self, statement: Statement) -> list[Any]:
        """Return the rows of the statement.

        :raises psycopg.Error: it failed; ``blame`` says whose that is. Where that is the
            connection's, or there was no answer in time, whether the statement took effect is
            unknown, and the next call connects anew.
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
        """Put a new connection in the place of this one; what is under way ends on the old one.

        :param warm_up: what the new one runs before: the first statement of each kind takes the
            server several times as long, since it reads the catalogs for it.
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
            self._connection = await self._connect()
            return self._connection

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        try:
            async with asyncio.timeout(self._patience):
                connection = await connect(self._alias, self._purpose)
                self.encoding = connection.info.parameter_status("server_encoding") or ""
                if self._prepares:
                    try:
                        await _prepare_from_now_on(connection)
                    except BaseException:
                        await connection.close()
                        raise
                return connection
        except TimeoutError:
            raise psycopg.OperationalError(self._no_answer()) from None
        except psycopg.Error as error:
            if whose(error) is Blame.CONNECTION:
                raise
            # As where it may not take the role that it is to: there is no row to blame yet.
            raise psycopg.OperationalError(explain(error)) from error

    async def _fetch(
        self, connection: psycopg.AsyncConnection[Any], statement: Statement
    ) -> list[Any]:
        # Not asyncio.timeout(): the server would go on. Nor a task that is given up: for it the
        # event loop takes two turns more, in an idle system a tenth of a millisecond.
        cuts: list[asyncio.Task[None]] = []
        limit = asyncio.get_running_loop().call_later(
            self._patience, lambda: cuts.append(asyncio.create_task(_cut(connection)))
        )
        try:
            cursor = await connection.execute(statement.sql, statement.params)
            rows = await cursor.fetchall() if cursor.description else []
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
        async with connection.lock:  # another call may have waited on it
            await connection.close()
