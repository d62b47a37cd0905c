"""Opens a connection of the supervisor's own, with the parameters that Django has for it."""

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
"""A host that does not answer at all is given up by then, unless OPTIONS say otherwise."""

# To plan a lone claim takes nearly as long as all else about it. But a plan that is kept is one for
# the table as it is now, often empty, and reads it to its end ever after: 250 rows of 300,000 were
# settled in 9 seconds. Without that way, the planner goes by the same indexes for every size.
_KEEP_PLANS = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off"


async def connect(
    alias: str, purpose: str, laid_over: str | None = None
) -> psycopg.AsyncConnection[Any]:
    """Open a connection with the parameters that Django uses for this alias, in autocommit.

    :param purpose: what it is for, as ``pg_stat_activity`` shows it.
    :param laid_over: as for ``parameters.parameters``.
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


async def prepare_from_now_on(connection: psycopg.AsyncConnection[Any]) -> None:
    """Have statements prepared and their plans kept, if this is a session of our own."""
    # A pooler tells its clients a number of its own: where they send it to cancel a statement.
    cursor = await connection.execute("SELECT pg_backend_pid()")
    if await cursor.fetchone() == (connection.info.backend_pid,):
        await connection.execute(_KEEP_PLANS)
        connection.prepare_threshold = 0


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
