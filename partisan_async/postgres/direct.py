"""Finds out whether a connection of Django's can be talked to past Django's cursor."""

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
    """Return a cursor of psycopg's on a connection that is open, in this state; else ``None``.

    Also ``None`` where somebody looks on: where Django keeps a list of queries, or a cursor of
    somebody's own stands in the place of Django's.
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
