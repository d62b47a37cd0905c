"""Opens the supervisor's own connections, with the parameters that Django has for the database."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import psycopg
from django.db import connections
from psycopg import sql

from partisan_async.postgres import parameters
from partisan_async.postgres.cancelling import Session
from partisan_async.supervisor.aside import Aside
from partisan_async.text.one_line import explain

CONNECT_SECONDS = 5
"""Time limit for a host that does not answer, unless OPTIONS set another one."""

KEEP_PLANS = """
SET plan_cache_mode = force_generic_plan; SET jit = off;
SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off
"""
"""Has plans kept, and made so that they are good for a table of any size.

Planning takes nearly half the time of a single claim. But a plan is made for the table as it is
then, often empty, and would read all of a large one from then on: to settle 250 rows of 300,000
took 9 seconds. Nor do statistics help when masses come to a table that was vacuumed empty: the
planner thinks that the smallest index, that of twins, still has no rows, and would read and sort
all of it for each claim. Without these three it goes by the index that is in the order asked for.
Where there is no other way it takes one of them all the same, which before PostgreSQL 18 counts as
so costly that it would be compiled first, for seconds.
"""


async def connect(
    alias: str, purpose: str, laid_over: str | None = None
) -> psycopg.AsyncConnection[Any]:
    """Open a connection with the parameters that Django uses for this alias, in autocommit.

    :param purpose: its purpose, as ``pg_stat_activity`` shows it.
    :param laid_over: as for ``parameters.parameters``.
    """
    params = await _parameters_of(alias, laid_over)
    params.setdefault("application_name", f"partisan_async {purpose}")
    params.setdefault("connect_timeout", CONNECT_SECONDS)
    # Whatever OPTIONS say: a transaction pooler gives each statement another server process, which
    # does not have the prepared statements.
    params["prepare_threshold"] = None
    connection = await Session.connect(**params, autocommit=True)
    if role := connections[alias].settings_dict["OPTIONS"].get("assume_role"):
        try:
            await connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        except BaseException:
            await connection.close()
            raise
    return connection


async def prepare_from_now_on(connection: psycopg.AsyncConnection[Any]) -> None:
    """Have statements prepared and their plans kept, if this is a session of our own."""
    # A pooler tells its clients a process id of its own, for cancelling statements.
    cursor = await connection.execute("SELECT pg_backend_pid()")
    if await cursor.fetchone() == (connection.info.backend_pid,):
        await connection.execute(KEEP_PLANS)
        connection.prepare_threshold = 0


async def _parameters_of(alias: str, laid_over: str | None) -> dict[str, Any]:
    # In a thread: a database backend of the project may fetch a password elsewhere, and block.
    try:
        return await _asker(os.getpid()).ask(parameters.parameters, alias, laid_over)
    except Exception as error:
        raise psycopg.OperationalError(
            f"the database's parameters could not be had: {explain(error)}"
        ) from error


# One per process: a fork does not copy the thread.
@cache
def _asker(pid: int) -> Aside:
    return Aside("partisan parameters")
