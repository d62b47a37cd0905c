"""Sends statements without waiting for the answers, and ends a statement that runs.

So client and server work at the same time on many rows; with a cursor, one waits for the other.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.pq import ExecStatus, TransactionStatus

from partisan_async.postgres import cancelling, direct, insides

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn

CANCEL_SECONDS = 2.0
"""Maximum time until the server answers a request to cancel a query."""

CANCEL_AGAIN_SECONDS = 0.1
"""Time until the server is asked to cancel again."""

Message = bytes | tuple[str, Mapping[str, Any]]
"""A statement as bytes to send; or its SQL and parameters, for Django's cursor."""

_COPYING = (ExecStatus.COPY_IN, ExecStatus.COPY_OUT, ExecStatus.COPY_BOTH)


class Flight:
    """Sends statements, one at a time, in an open transaction; for a ``with`` block.

    If Django's cursor cannot be bypassed, ``send`` executes a statement and waits for its answer.
    """

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self._cursor: psycopg.ClientCursor[Any] | None = None
        if not connection.execute_wrappers:
            self._cursor = direct.cursor(connection, TransactionStatus.INTRANS)
        self._rows: list[Any] = []

    def __enter__(self) -> Flight:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Otherwise the ROLLBACK fails with "another command is already in progress".
        if error is not None and self._cursor is not None:
            end_query(self._connection)

    def message(self, sql: str, params: Mapping[str, Any]) -> Message:
        """Return a statement in the form to send; another one may run meanwhile."""
        if self._cursor is None:
            return sql, params
        encoding = self._cursor.connection.info.encoding
        return self._cursor.mogrify(sql, params).encode(encoding)

    def send(self, message: Message) -> None:
        """Send a statement. The one before must have been answered."""
        if isinstance(message, tuple):
            with self._connection.cursor() as cursor:
                cursor.execute(*message)
                self._rows = cursor.fetchall()
            return
        assert self._cursor is not None
        connection = self._cursor.connection
        self._connection.validate_no_broken_transaction()
        with self._connection.wrap_database_errors, connection.lock:
            connection.pgconn.send_query(message)
            connection.wait(insides.generators.send(connection.pgconn))

    def answer(self) -> Callable[[], list[Any]]:
        """Wait for the answer, and return a function that reads its rows.

        So the next statement can be sent before the rows are read.
        """
        if self._cursor is None:
            return partial(list, self._rows)
        connection = self._cursor.connection
        with self._connection.wrap_database_errors, connection.lock:
            try:
                (result,) = connection.wait(insides.generators.fetch_many(connection.pgconn))
                status = result.status
            except insides.CHANGED as error:
                insides.give_up(error)
                raise psycopg.OperationalError("psycopg's answer is of another kind") from error
            if status == ExecStatus.FATAL_ERROR:
                raise insides.error_from_result(result, connection.info.encoding)
        transformer = insides.Transformer(self._cursor)
        transformer.set_pgresult(result)
        return partial(transformer.load_rows, 0, result.ntuples, tuple)


def end_query(wrapper: BaseDatabaseWrapper) -> None:
    """End the statement that this thread's connection runs; the caller has to roll back."""
    connection = wrapper.connection
    if not is_busy(connection):
        return
    pgconn = connection.pgconn
    try:
        # A cancel that arrives before the server starts the query is lost.
        while pgconn.flush():
            if not _is_ready(pgconn, selectors.EVENT_WRITE, CANCEL_SECONDS):
                raise psycopg.OperationalError("the server does not read what it is sent")
        is_answered = False
        while not is_answered:
            cancelling.cancel(connection, CANCEL_SECONDS)
            is_answered = _is_ready(pgconn, selectors.EVENT_READ, CANCEL_AGAIN_SECONDS)
        while result := pgconn.get_result():
            if result.status in _COPYING:
                raise psycopg.OperationalError("a COPY does not end with its query")
    except psycopg.Error:
        wrapper.close()


def is_busy(connection: Any) -> bool:
    """Tell whether a Django connection is one to PostgreSQL and waits for an answer.

    :param connection: the driver's connection.
    """
    if not isinstance(connection, psycopg.Connection):  # it is closed, or not PostgreSQL's
        return False
    return connection.info.transaction_status == TransactionStatus.ACTIVE


def _is_ready(pgconn: PGconn, event: int, seconds: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(pgconn.socket, event)
        return bool(selector.select(seconds))
