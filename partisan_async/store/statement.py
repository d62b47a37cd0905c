"""What all statements share: their form, their database, and common parts of their SQL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from django.db import router

from partisan_async.models import Task
from partisan_async.models.status import Status


class Statement(NamedTuple):
    """SQL with named parameters."""

    sql: str
    params: dict[str, Any]


class Locking(NamedTuple):
    """A statement that counts what it may do, behind the lock under which it counts.

    They are one transaction, READ COMMITTED: the second one's snapshot is younger than the lock.
    """

    lock: Statement
    statement: Statement


def array(numbers: Iterable[object]) -> str:
    """Return an array as PostgreSQL's text: psycopg would make an object of each number."""
    return f"{{{','.join(map(str, numbers))}}}"


def array_of_texts(texts: Iterable[str | None]) -> str:
    """Return an array of texts: psycopg would take seconds for megabytes with quotes."""
    return array("NULL" if text is None else _quoted(text) for text in texts)


def database() -> str:
    """Return the alias of the database that holds the tasks."""
    return router.db_for_write(Task)


def due_seconds(column: str) -> str:
    """Return SQL of the seconds until the time in a column, one day at most."""
    # Limited, so that it is finite: before PostgreSQL 17 subtracting 'infinity' is an error.
    return f"""
extract(epoch FROM LEAST(GREATEST({column}, statement_timestamp() - interval '1 day'),
    statement_timestamp() + interval '1 day') - statement_timestamp())::float8
"""


DUE_SECONDS = due_seconds("execute_after")


def waiting(table: str) -> str:
    """Return SQL of the status in which a row waits that may start as soon as its limit allows."""
    limited = f"{table}.limit_name IS NOT NULL"
    return f"CASE WHEN {limited} THEN '{Status.LIMITED}' ELSE '{Status.NEW}' END"


def rank(table: str) -> str:
    """Return SQL of a row's rank as its limit has it now, which may be in order by now."""
    return f"""
    CASE WHEN {table}.limit_name IS NULL THEN {table}.limit_rank ELSE COALESCE(
        (SELECT CASE WHEN l.in_order THEN 0 ELSE {table}.priority END
         FROM partisan_async_limit l WHERE l.name = {table}.limit_name), {table}.limit_rank) END
    """  # noqa: S608


def queue_names(table: str, condition: str) -> str:
    """Return a recursive CTE of the names of the queues that have certain tasks.

    It makes one index lookup for each queue, however many rows a queue has.

    :param table: name of the CTE, whose one column is ``queue_name``.
    :param condition: which tasks: the condition of a partial index that begins with the queue.
    """
    return f"""
{table} AS (
    (SELECT queue_name FROM partisan_async_task
     WHERE {condition} ORDER BY queue_name LIMIT 1)
    UNION ALL
    SELECT next.* FROM {table} CROSS JOIN LATERAL (
        SELECT t.queue_name FROM partisan_async_task t
        WHERE {condition} AND t.queue_name > {table}.queue_name
        ORDER BY t.queue_name LIMIT 1) AS next)
"""  # noqa: S608


def is_alive(name: str = "") -> str:
    """Return the condition that a supervisor's lease holds; it takes the parameter ``ttl``.

    A ``last_seen_at`` far in the future was written by a wrong clock, and proves nothing.

    :param name: alias of the supervisor's table in the statement; empty: none.
    """
    seen = f"{name}.last_seen_at" if name else "last_seen_at"
    now = "statement_timestamp()"
    return f"({seen} > {now} - %(ttl)s AND {seen} < {now} + %(ttl)s)"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'
