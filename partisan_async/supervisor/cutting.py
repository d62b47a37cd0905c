"""Cuts a statement off that takes too long: in the server, too, if that answers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import psycopg

from partisan_async.postgres import cancelling
from partisan_async.postgres.cancelling import Session, hang_up

CANCEL_SECONDS = 1
"""Time that the server has to answer that it cancels a statement."""


async def cut(connection: psycopg.AsyncConnection[Any]) -> None:
    """End what is under way on a connection, and the connection."""
    # A session that waits for a lock would not notice that its client is gone.
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
