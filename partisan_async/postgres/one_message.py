"""Runs a statement, commits it, and runs others afterwards: all in one message to the server.

Each message costs time on both sides, whatever it contains. The server answers each statement
separately, which shows the one that failed; a psycopg cursor would raise the error of any.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus

from partisan_async import logs
from partisan_async.postgres import direct, insides

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

_OPEN = (TransactionStatus.INTRANS, TransactionStatus.INERROR)

_UNTIL_COMMIT = 3
"""Number of answers up to that of COMMIT: BEGIN, the statement and COMMIT have one each."""


def fetch(
    connection: BaseDatabaseWrapper, sql: str, params: Mapping[str, Any], afterwards: str
) -> list[tuple[Any, ...]] | None:
    """Run a statement, commit it and return its rows; ``None`` if this cannot be done.

    It cannot be done in a transaction, nor if somebody observes the queries: see ``direct.cursor``.

    :param afterwards: SQL to run after the commit. If it fails, that is only logged.
    """
    if connection.in_atomic_block:
        return None
    connection.close_if_health_check_failed()  # as Django does before it makes a cursor
    if not connection.get_autocommit():
        return None
    # It is not idle after a BEGIN that Django did not send.
    cursor = direct.cursor(connection, TransactionStatus.IDLE)
    if cursor is None:
        return None
    committing: Any = _CommittingCursor(cursor, afterwards, connection)
    with connection.make_cursor(committing) as wrapped:
        wrapped.execute(sql, params)
        rows: list[tuple[Any, ...]] = wrapped.fetchall()
    return rows


class _CommittingCursor:
    """The part of a cursor that Django's wrapper uses."""

    def __init__(
        self, cursor: psycopg.ClientCursor[Any], afterwards: str, wrapper: BaseDatabaseWrapper
    ) -> None:
        self._cursor = cursor
        self._afterwards = afterwards
        self._wrapper = wrapper
        self._rows: list[tuple[Any, ...]] = []

    def execute(self, sql: str, params: Mapping[str, Any]) -> None:
        query = f"BEGIN; {sql}; COMMIT; {self._afterwards}"
        results = self._send(self._cursor.mogrify(query, params))
        if (failed := results[-1]).status == ExecStatus.FATAL_ERROR:
            error = insides.error_from_result(failed, self._cursor.connection.info.encoding)
            if len(results) <= _UNTIL_COMMIT:
                raise error
            logs.database.not_run_after_commit(self._afterwards, error)
        transformer = insides.Transformer(self._cursor)
        transformer.set_pgresult(results[1])
        self._rows = transformer.load_rows(0, results[1].ntuples, tuple)

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._rows

    def close(self) -> None:
        self._cursor.close()

    def _send(self, message: str) -> list[PGresult]:
        connection = self._cursor.connection
        pgconn = connection.pgconn
        try:
            with connection.lock:
                pgconn.send_query(message.encode(connection.info.encoding))
                return connection.wait(_answers(pgconn))
        except insides.CHANGED as error:  # an undocumented part of psycopg has changed
            insides.give_up(error)
            self._wrapper.close()
            raise psycopg.OperationalError("nobody knows whether it was committed") from error
        finally:
            # An error skips the rest of the message, also the COMMIT.
            if pgconn.transaction_status in _OPEN:
                connection.rollback()


def _answers(pgconn: PGconn) -> Generator[Any, Any, list[PGresult]]:
    yield from insides.generators.send(pgconn)
    answers: list[PGresult] = []
    try:
        while answer := (yield from insides.generators.fetch(pgconn)):
            answers.append(answer)
    except psycopg.OperationalError:
        # Answers that came before the connection was lost can still be read. If that of the COMMIT
        # is among them, do not raise: the statement is committed.
        while pgconn.status == ConnStatus.BAD and (answer := pgconn.get_result()):
            answers.append(answer)
        if len(answers) <= _UNTIL_COMMIT:
            raise
    return answers
