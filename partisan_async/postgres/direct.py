"""Gives psycopg's cursor of a Django connection, if Django's own cursor may be bypassed."""

from __future__ import annotations

from typing import Any

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql.base import Cursor
from psycopg.pq import PipelineStatus, TransactionStatus

from partisan_async.postgres import insides


def cursor(
    connection: BaseDatabaseWrapper, status: TransactionStatus
) -> psycopg.ClientCursor[Any] | None:
    """Return a psycopg cursor on an open connection that is in this state; else ``None``.

    Also ``None`` if somebody observes the queries: Django logs them, or the site has a cursor class
    of its own.
    """
    if connection.queries_logged:
        return None
    with connection.wrap_database_errors:
        found: Any = connection.create_cursor()
    kind: type = type(found)
    if kind is not Cursor:
        return None
    pgconn = found.connection.pgconn
    if pgconn.pipeline_status != PipelineStatus.OFF or pgconn.transaction_status != status:
        return None
    if not insides.fit and not insides.look(pgconn):
        return None
    connection.validate_thread_sharing()
    plain: psycopg.ClientCursor[Any] = found
    return plain
