"""What all statements have in common: their form, and the database that they are for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from django.db import router

from partisan_async.models import Task


class Statement(NamedTuple):
    """SQL with named parameters."""

    sql: str
    params: dict[str, Any]


def array(numbers: Iterable[object]) -> str:
    """Return these as PostgreSQL writes an array: psycopg makes an object of each on the way."""
    return f"{{{','.join(map(str, numbers))}}}"


def array_of_texts(texts: Iterable[str | None]) -> str:
    """Return the same of texts: to psycopg, megabytes with quotes are the work of seconds."""
    return array("NULL" if text is None else _quoted(text) for text in texts)


def database() -> str:
    """Return the alias of the database that holds the tasks."""
    return router.db_for_write(Task)


def due_seconds(column: str) -> str:
    """Return the SQL of the seconds to a time in a column, of a day at most: so it is finite."""
    # A difference to 'infinity' is an error before PostgreSQL 17.
    return f"""
extract(epoch FROM LEAST(GREATEST({column}, statement_timestamp() - interval '1 day'),
    statement_timestamp() + interval '1 day') - statement_timestamp())::float8
"""


DUE_SECONDS = due_seconds("execute_after")


def queue_names(table: str, condition: str) -> str:
    """Return a recursive table of the names of the queues that have tasks of some kind.

    By leaps over an index that begins with the queue, however many rows a queue has.

    :param table: its name; its one column is ``queue_name``.
    :param condition: which tasks: that of a partial index.
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
    """Return the condition that a supervisor's row is of a living one; it takes a ``ttl``.

    A sign of life from far ahead was given by a clock that was wrong, and proves nothing.
    """
    seen = f"{name}.last_seen_at" if name else "last_seen_at"
    now = "statement_timestamp()"
    return f"({seen} > {now} - %(ttl)s AND {seen} < {now} + %(ttl)s)"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'
