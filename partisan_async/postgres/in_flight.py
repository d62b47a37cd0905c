"""Statements under way: the server works while its caller does something else, or is to stop.

A cursor waits for the answer: what the client does for a thousand rows and what the server does for
them would follow each other.
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
"""Time that a server may take to answer that it cancels a query."""

CANCEL_AGAIN_SECONDS = 0.1
"""Time until the server is asked to cancel again."""

Message = bytes | tuple[str, Mapping[str, Any]]
"""A statement as the server reads it; with its parameters, where it goes by Django's cursor."""

_COPYING = (ExecStatus.COPY_IN, ExecStatus.COPY_OUT, ExecStatus.COPY_BOTH)


class Flight:
    """Sends statements, one at a time, in a transaction that is open; for a ``with`` block.

    Where that cannot be done behind Django's back they are executed when they are sent.
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
        # Or the ROLLBACK would meet "another command is already in progress".
        if error is not None and self._cursor is not None:
            end_query(self._connection)

    def message(self, sql: str, params: Mapping[str, Any]) -> Message:
        """Return a statement as it is sent: made while another is under way."""
        if self._cursor is None:
            return sql, params
        encoding = self._cursor.connection.info.encoding
        return self._cursor.mogrify(sql, params).encode(encoding)

    def send(self, message: Message) -> None:
        """Send a statement, after the answer to the one before."""
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
        """Wait for the answer to what was sent, and return what reads its rows.

        Not the rows: the server need not wait for that with the next statement.
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
    """End what this thread waits for on a connection; its transaction stays, to be rolled back."""
    connection = wrapper.connection
    if not is_busy(connection):
        return
    pgconn = connection.pgconn
    try:
        # A cancel that comes before the server has begun with the query is lost.
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
    """Tell whether a connection of Django's is one to PostgreSQL that waits for an answer."""
    if not isinstance(connection, psycopg.Connection):  # it is closed, or not PostgreSQL's
        return False
    return connection.info.transaction_status == TransactionStatus.ACTIVE


def _is_ready(pgconn: PGconn, event: int, seconds: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(pgconn.socket, event)
        return bool(selector.select(seconds))
