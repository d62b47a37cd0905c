"""Hangs up database sessions that an ended run left open in a thread that no run uses any more.

A transaction that stays open there keeps its locks, and keeps VACUUM from removing dead rows. Only
the thread may use its connection, so only the socket is shut down. The server then ends the
session, and the thread gets a new connection when it asks for one.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Protocol
from weakref import WeakSet

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.pq import TransactionStatus

from partisan_async import logs
from partisan_async.postgres.cancelling import hang_up
from partisan_async.worker import runs

SECONDS = 60.0
"""Time without use after which a session of an ended run is hung up."""

LOOK_EVERY_SECONDS = 10.0

_QUIET = (TransactionStatus.IDLE, TransactionStatus.INTRANS, TransactionStatus.INERROR)


class Attended(Protocol):
    """One of Django's connections, in a thread other than the main one."""

    wrapper: BaseDatabaseWrapper

    run: int
    """Number of the latest run when the connection was last asked for."""

    is_of_run: bool
    """True if a run went on when the connection was opened. Others are never hung up: a thread of
    the project's own may use them."""

    left_since: float | None
    """When the connection was first seen to belong to no run; ``None``: it is in use."""


_attended: WeakSet[Attended] = WeakSet()
_lock = threading.Lock()
_looks = False


def attend(attended: Attended) -> None:
    """Watch a connection from now on."""
    global _looks
    with _lock:
        _attended.add(attended)
        looks, _looks = _looks, True
    if not looks:
        threading.Thread(target=_look, name="partisan sessions", daemon=True).start()


def look(now: float) -> None:
    """Hang up the sessions that have belonged to no run for long enough.

    :param now: by the monotonic clock.
    """
    with _lock:
        all_attended = list(_attended)
    for attended in all_attended:
        connection = attended.wrapper.connection
        if not attended.is_of_run or runs.goes_on(attended.run) or not _is_quiet(connection):
            attended.left_since = None
        elif attended.left_since is None:
            attended.left_since = now
        elif now - attended.left_since >= SECONDS:
            _hang_up(attended, connection)


def _look() -> None:
    while True:
        time.sleep(LOOK_EVERY_SECONDS)
        try:
            look(time.monotonic())
        except Exception as error:  # noqa: BLE001  it is logged
            logs.sessions.not_sought(error)


def _is_quiet(connection: Any) -> bool:
    return (
        isinstance(connection, psycopg.Connection)
        and connection.pgconn.transaction_status in _QUIET
    )


def _hang_up(attended: Attended, connection: psycopg.Connection[Any]) -> None:
    in_transaction = connection.pgconn.transaction_status != TransactionStatus.IDLE
    attended.run = -1  # so that its thread does not take the connection for the current run's
    attended.left_since = None
    if hang_up(connection):
        attended.is_of_run = False
        logs.sessions.hung_up(attended.wrapper.alias, in_transaction=in_transaction)
