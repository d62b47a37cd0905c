"""The ledger: starts and ends of runs, as the tasks themselves write them down.

Each process and thread has a connection of its own for it, to the server itself and in autocommit:
neither Django's nor through a relay or a pooler, so that no fault but the server's own end touches
it. An event that was being written when the server ended is written again, once.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg

from partisan_async.exceptions import PostponeTask
from tests.faults.history import Event

URL_VARIABLE = "FAULTS_LEDGER_URL"

PATIENCE_SECONDS = 120
"""So long a restarting server is waited for."""

OPTIONS = "-c default_transaction_read_only=off"
"""Of the recorders' connections: what befalls the database does not keep them from recording."""

TABLE = """
CREATE SEQUENCE faults_n;
CREATE TABLE faults_event (
    n bigint PRIMARY KEY DEFAULT nextval('faults_n'),
    nonce uuid NOT NULL UNIQUE,
    at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind text NOT NULL CHECK (kind IN ('start', 'end')),
    how text NOT NULL,
    task_id bigint NOT NULL,
    claim_seq integer NOT NULL,
    pid integer NOT NULL,
    process text NOT NULL
);
"""
"""``n`` is shared with the audit. ``at`` is the clock of the process that writes."""

_INSERT = """
INSERT INTO faults_event (nonce, at, kind, how, task_id, claim_seq, pid, process)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (nonce) DO NOTHING
"""


class Run:
    """The run of a claimed row, for a ``with`` block: its start, and how it ended.

    :param task: the row as it was claimed, a processor's ``task_obj``.
    """

    def __init__(self, task: Any) -> None:
        self._claim = (task.id, task.claim_seq)

    def __enter__(self) -> None:
        write("start", "", *self._claim)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            how = "returned"
        elif isinstance(error, PostponeTask):
            how = "postponed"
        else:
            how = "raised"
        write("end", how, *self._claim)


def write(kind: str, how: str, task_id: int, claim_seq: int) -> None:
    """Write one event; returns when the server has it."""
    event = (uuid.uuid4(), datetime.now(UTC), kind, how, task_id, claim_seq)
    params = (*event, os.getpid(), _process())
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            _connection().execute(_INSERT, params)
        except (psycopg.OperationalError, psycopg.InterfaceError):
            _forget()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        except BaseException:  # a time limit, raised into the middle of it
            _forget()
            raise
        else:
            return


def read(execute: Callable[[str], list[Any]]) -> list[Event]:
    """Return all events, in the order in which they were written.

    :param execute: runs a query and returns its rows.
    """
    rows = execute(
        "SELECT n, at, kind, how, task_id, claim_seq, pid, process FROM faults_event ORDER BY n"
    )
    return [Event(*row) for row in rows]


_local = threading.local()


def _connection() -> psycopg.Connection[Any]:
    # A fork has its parent's connection, and must not write on it.
    if getattr(_local, "pid", None) != os.getpid():
        _local.inherited = getattr(_local, "connection", None)
        _local.connection, _local.pid = None, os.getpid()
    if _local.connection is None:
        _local.connection = psycopg.connect(
            os.environ[URL_VARIABLE],
            autocommit=True,
            application_name="faults ledger",
            connect_timeout=5,
            options=OPTIONS,
        )
    return _local.connection


def _forget() -> None:
    connection, _local.connection = getattr(_local, "connection", None), None
    if connection is not None:
        connection.close()


def _process() -> str:
    """Return what tells this process from any other: a pid comes again."""
    stat = Path("/proc/self/stat")
    if not stat.exists():
        return str(os.getpid())
    return f"{os.getpid()}@{stat.read_text().rpartition(')')[2].split()[19]}"
