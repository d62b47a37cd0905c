"""Renews the PostgreSQL session of a worker's Django connection, in one message.

Opening a new connection has the same effect, but takes many times as long. A session that cannot be
renewed must be closed: a pooler's, or one that code of the project sets up.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from psycopg import sql
from psycopg.pq import ExecStatus, PipelineStatus, TransactionStatus

from partisan_async.postgres import insides
from partisan_async.postgres.makers import is_djangos_own

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

SECONDS = 2.0
"""Maximum time until the server answers; after that the session is closed."""

CHECK_INTERVAL = "500ms"
"""Interval at which the server checks whether the client of a running statement is still there."""

_DISCARD_ALL = (
    "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; DEALLOCATE ALL;"
    " UNLISTEN *; SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD PLANS; DISCARD TEMP;"
    " DISCARD SEQUENCES"
)
"""What DISCARD ALL does, by its documentation; DISCARD ALL itself must be alone in a message."""

# Behind a pooler the client sees another pid than the backend's. Set nothing there: the setting
# would stay with the server's session, which another client gets next.
_INTRODUCE = f"""
SELECT CASE WHEN pg_catalog.pg_backend_pid() = %d
THEN pg_catalog.set_config('client_connection_check_interval', '{CHECK_INTERVAL}', false) END
"""

_IS_OWN = "SELECT CASE WHEN pg_catalog.pg_backend_pid() = %d THEN 'own' END"


class _Session(NamedTuple):
    is_own: bool
    is_checked: bool
    attributes: tuple[Any, ...]


_sessions: WeakKeyDictionary[psycopg.Connection[Any], _Session] = WeakKeyDictionary()


def watch() -> None:
    """From now on, have the server end this process's statements when the process dies."""
    connection_created.connect(_on_connection_created, weak=False)


def renew(wrapper: BaseDatabaseWrapper) -> bool:
    """Renew the session of an open connection; return ``False`` if that cannot be done.

    Then the caller has to close the connection.
    """
    connection = wrapper.connection
    session = isinstance(connection, psycopg.Connection) and _sessions.get(connection)
    if not session or not session.is_own or not is_djangos_own(wrapper):
        return False
    if session.attributes != _attributes(connection) or not _is_idle(connection):
        return False
    try:
        execute(connection, _message(wrapper, session))
    except psycopg.Error:
        return False
    return _forgets_prepared(connection)


def execute(connection: psycopg.Connection[Any], message: str) -> list[PGresult]:
    """Execute statements without regard to a transaction, and return their answers."""
    pgconn = connection.pgconn
    with connection.lock:
        steps = insides.generators.execute(pgconn)
        pgconn.send_query(message.encode(connection.info.encoding))
        answers: list[PGresult] = connection.wait(_in_time(steps))
    for answer in answers:
        if answer.status == ExecStatus.FATAL_ERROR:
            raise insides.error_from_result(answer, connection.info.encoding)
    return answers


def _in_time(steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    deadline = time.monotonic() + SECONDS
    try:
        wanted = next(steps)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > deadline:
                raise psycopg.OperationalError(f"the server did not answer within {SECONDS:g} s")
            wanted = steps.send(ready)
    except StopIteration as end:
        return end.value


def _on_connection_created(connection: BaseDatabaseWrapper, **_: Any) -> None:
    found = connection.connection
    if not isinstance(found, psycopg.Connection) or found in _sessions:  # it comes from a pool
        return
    with connection.wrap_database_errors:
        if insides.look(found.pgconn):
            _sessions[found] = _introduced(found)
        elif found.autocommit:
            # It cannot be renewed, and is closed after each run.
            with suppress(psycopg.errors.DatabaseError):
                found.execute(sql.SQL(_INTRODUCE % found.info.backend_pid))


def _introduced(connection: psycopg.Connection[Any]) -> _Session:
    pid = connection.info.backend_pid
    try:
        (answer,) = execute(connection, _INTRODUCE % pid)
        is_checked = True
    except psycopg.OperationalError:
        raise
    except psycopg.Error:  # a server that cannot check its clients, as on macOS
        (answer,) = execute(connection, _IS_OWN % pid)
        is_checked = False
    return _Session(answer.get_value(0, 0) is not None, is_checked, _attributes(connection))


def _attributes(connection: psycopg.Connection[Any]) -> tuple[Any, ...]:
    return (
        connection.isolation_level,
        connection.read_only,
        connection.deferrable,
        connection.row_factory,
        connection.cursor_factory,
        connection.prepare_threshold,
    )


def _is_idle(connection: psycopg.Connection[Any]) -> bool:
    pgconn = connection.pgconn
    return (
        pgconn.pipeline_status == PipelineStatus.OFF
        and pgconn.transaction_status == TransactionStatus.IDLE
    )


def _message(wrapper: Any, session: _Session) -> str:
    statements: list[sql.Composable] = [sql.SQL(_DISCARD_ALL)]
    if session.is_checked:
        statements.append(sql.SQL(f"SET client_connection_check_interval = '{CHECK_INTERVAL}'"))
    if wrapper.timezone_name:
        statements.append(sql.SQL("SET TIME ZONE {}").format(sql.Literal(wrapper.timezone_name)))
    if role := wrapper.settings_dict["OPTIONS"].get("assume_role"):
        statements.append(sql.SQL("SET ROLE {}").format(sql.Literal(role)))
    return sql.SQL("; ").join(statements).as_string(wrapper.connection)


def _forgets_prepared(connection: psycopg.Connection[Any]) -> bool:
    # psycopg did not see the DEALLOCATE ALL, and would use statements that no longer exist.
    if connection.prepare_threshold is not None:
        try:
            connection._prepared.clear()  # noqa: SLF001
            connection._prepared._to_flush.clear()  # noqa: SLF001  or it deallocates once more
        except insides.CHANGED as error:
            insides.give_up(error)
            return False
    return True
